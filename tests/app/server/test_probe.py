from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.server import probe


class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


class Server(http.server.HTTPServer):
    def __init__(self, host: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), Ready)


@contextmanager
def listen(host: str) -> Iterator[str]:
    """A ready service on one address only; its port."""
    with Server(host) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield str(server.server_port)
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("listens", "setting"),
    [
        ("127.0.0.1", None),
        ("127.0.0.1", ""),
        ("127.0.0.1", "0.0.0.0"),  # noqa: S104  # a setting; nobody listens there
        ("127.0.0.2", "127.0.0.2"),
        ("127.0.0.1", "localhost"),
        ("::1", "::1"),
        ("::1", "::"),
    ],
)
def test_the_probe_asks_where_the_service_listens(
    monkeypatch: pytest.MonkeyPatch, listens: str, setting: str | None
) -> None:
    monkeypatch.delenv("MOBILENET_HOST", raising=False)
    if setting is not None:
        monkeypatch.setenv("MOBILENET_HOST", setting)
    with listen(listens) as port:
        monkeypatch.setenv("MOBILENET_PORT", port)
        assert probe.main() == 0


def test_the_probe_fails_where_nobody_listens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with listen("127.0.0.1") as port:
        monkeypatch.setenv("MOBILENET_PORT", port)
    assert probe.main() == 1
    assert capsys.readouterr().out.startswith("not ready: ")
