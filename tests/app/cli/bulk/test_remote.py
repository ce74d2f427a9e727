"""Against a server that answers what the test says; `test_commands` has the real one."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.bulk.files import FileError, StoppedError
from app.cli.bulk.remote import RemoteServer
from app.cli.main import app
from app.inference.options import ClassifyOptions, EmbedOptions
from tests.conftest import IMAGES

NOON = 1_700_000_000.0
INFO = {
    "name": "mobilenet-serve",
    "version": "1",
    "models": [
        {
            "name": "m",
            "digest": "d",
            "engine": "onnx",
            "device": "cpu",
            "input_size": 224,
            "num_labels": 1001,
            "num_features": 1024,
        }
    ],
    "limits": {"max_body_mib": 3},
    "jpeg_scaled_decode": True,
    "threads": 2,
    "streams": 2,
    "max_batch_size": 4,
    "queue_capacity": 9,
    "images_per_s": 100,
}
ANSWER = {"predictions": [{"class_id": 1, "wnid": None, "label": "one", "score": 0.5}]}

Reply = tuple[int, dict[str, str], object]


class Script(ThreadingHTTPServer):
    """Answers POST with its replies, in turns; the last one again and again.

    Attributes:
        seen: path and headers of each POST.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply] = [(200, {}, ANSWER)]
        self.info: Reply = (200, {}, INFO)
        self.seen: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Script

    def do_GET(self) -> None:
        self._reply(self.server.info)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers)))
        replies = self.server.replies
        self._reply(replies.pop(0) if len(replies) > 1 else replies[0])

    def _reply(self, reply: Reply) -> None:
        status, headers, body = reply
        if not status:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def script() -> Iterator[Script]:
    with Script() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(script: Script, *replies: Reply) -> tuple[object, list[float]]:
    """The answer to one image, and the seconds waited for it."""
    if replies:
        script.replies = list(replies)
    waits: list[float] = []
    with RemoteServer(script.url, sleep=waits.append, now=lambda: NOON) as server:
        (answer,) = server.classifier(ClassifyOptions(top_k=3)).ask([b"image"])
    return answer, waits


def test_an_image_is_sent_as_it_is_with_what_is_not_default(script: Script) -> None:
    answer, waits = ask(script)
    assert answer == ANSWER["predictions"]
    assert waits == []
    ((path, headers),) = script.seen
    assert path == "/classify?top_k=3"
    assert headers["Content-Type"] == "application/octet-stream"
    assert "Authorization" not in headers


@pytest.mark.parametrize("place", ["variable", "file"])
def test_the_key_is_sent_as_a_bearer_and_told_to_nobody_else(
    script: Script, tmp_path: Path, place: str
) -> None:
    script.replies = [(401, {}, {"detail": "No.\x1b[2J"})]
    command = ["classify", str(IMAGES / "cat.jpg"), "--server", script.url]
    env = {"MOBILENET_API_KEY": "se.cret" if place == "variable" else "another"}
    if place == "file":
        (tmp_path / "key").write_text("se.cret\n# and more\n")
        command += ["--api-key-file", str(tmp_path / "key")]
    result = CliRunner().invoke(app, command, env=env)
    assert result.exit_code == 3
    assert script.seen[0][1]["Authorization"] == "Bearer se.cret"
    assert result.output == f"Error: {script.url} refuses: No.\\x1b[2J\n"


def test_options_of_an_embedding_are_written_as_the_routes_read_them(script: Script) -> None:
    options = EmbedOptions(layers=("5", "6"), normalize=True, output_stride=16)
    with RemoteServer(script.url) as server:
        server.embedder(options).ask([b"image"])
    assert script.seen[0][0] == "/embed?layer=5%2C6&normalize=true&output_stride=16"


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"),
    [
        (429, {"Retry-After": "3"}, 3),
        (503, {"Retry-After": "Tue, 14 Nov 2023 22:13:25 GMT"}, 5),
        (503, {"Retry-After": "Tue, 14 Nov 2023 22:13:00 GMT"}, 0),
        (429, {"Retry-After": "86400"}, 60),
        (503, {"Retry-After": "soon"}, 0.5),
        (502, {}, 0.5),
    ],
)
def test_a_server_that_says_later_is_asked_later(
    script: Script, status: int, retry_after: dict[str, str], seconds: float
) -> None:
    answer, (wait,) = ask(script, (status, retry_after, {}), (200, {}, ANSWER))
    assert answer == ANSWER["predictions"]
    assert seconds <= wait <= 1.25 * seconds


def test_a_server_that_says_later_for_ever_fails_that_image(script: Script) -> None:
    answer, waits = ask(script, (429, {"Retry-After": "1"}, {"detail": "Full."}))
    assert isinstance(answer, FileError)
    assert str(answer) == "Full."
    assert len(waits) == 19


def test_a_connection_that_breaks_is_made_anew(script: Script) -> None:
    answer, waits = ask(script, (0, {}, {}), (0, {}, {}), (200, {}, ANSWER))
    assert answer == ANSWER["predictions"]
    assert [int(10 * wait) // 5 for wait in waits] == [1, 2]


def test_connections_that_break_for_ever_end_the_run(script: Script) -> None:
    with pytest.raises(StoppedError, match=r"http://127.0.0.1:\d+ cannot be reached"):
        ask(script, (0, {}, {}))
    assert len(script.seen) == 5


def test_a_bad_image_fails_alone_with_the_sentence_of_the_server(script: Script) -> None:
    problem = {"detail": "The body is not a JPEG.", "code": "unsupported_image_format"}
    answer, waits = ask(script, (415, {}, problem))
    assert str(answer) == "The file is not a JPEG."
    assert waits == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "unauthorized"), (404, "model_not_found"), (422, "invalid_parameter")],
)
def test_a_refusal_that_the_next_image_would_get_too_ends_the_run(
    script: Script, status: int, code: str
) -> None:
    with pytest.raises(StoppedError, match=r"refuses: No\."):
        ask(script, (status, {}, {"detail": "No.", "code": code}))


@pytest.mark.parametrize("body", [b"", b"<html>", [], {"predictions": [{"label": 1}]}])
def test_an_answer_that_is_none_fails_the_image(script: Script, body: object) -> None:
    answer, _ = ask(script, (200, {}, body))
    assert str(answer) == "The server's answer cannot be understood."
    with RemoteServer(script.url) as server:
        (answer,) = server.embedder(EmbedOptions()).ask([b"image"])
    assert str(answer) == "The server's answer cannot be understood."


@pytest.mark.parametrize("body", [b"<html>", {"name": "another"}])
def test_another_kind_of_server_is_told_apart(script: Script, body: object) -> None:
    script.info = (200, {}, body)
    with pytest.raises(StoppedError, match="is not a mobilenet-serve"):
        ask(script)


def test_a_server_tells_how_many_connections_it_needs_and_what_it_takes(script: Script) -> None:
    with RemoteServer(script.url) as server:
        answerer = server.classifier(ClassifyOptions())
    assert (answerer.workers, answerer.batch_size, answerer.max_bytes) == (16, 1, 3 * 2**20)
    with RemoteServer(script.url, connections=3) as server:
        assert server.classifier(ClassifyOptions()).workers == 3


def test_what_is_said_of_a_server_leaves_out_its_password() -> None:
    server = RemoteServer("http://user:secret@[::1]:1/prefix", sleep=lambda _: None)
    with pytest.raises(StoppedError) as stopped, server:
        pass
    assert str(stopped.value).startswith("http://[::1]:1 cannot be reached")
