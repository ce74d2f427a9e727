"""A server on this machine that speaks as much of the Hugging Face hub's protocol as its client."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """Commits by id, each with its files, and the branches and tags that name them."""

    commits: dict[str, dict[str, bytes]]
    references: dict[str, str]
    token: str | None = None
    gated: bool = False


@dataclass
class HubServer:
    """Repositories by id; what was asked is kept as (method, path)."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    shorten: str = ""  # a file that ends early, and says so only by its length
    cut: str = ""  # a file whose connection breaks off once

    def downloads(self) -> list[str]:
        return [
            path.rpartition("/")[2]
            for method, path in self.requests
            if method == "GET" and "/resolve/" in path
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        parts = path.removeprefix("/api/models").strip("/").split("/")
        repository = self.hub.repositories.get("/".join(parts[:2]))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository is None or repository.token not in {None, token}:
            # the hub does not tell a stranger what is private and what is not there
            self._send(404 if token else 401, {"X-Error-Code": "RepoNotFound"} if token else {})
            return
        revision = parts[3] if len(parts) > 3 else "main"
        commit = repository.references.get(revision, revision)
        if commit not in repository.commits:
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
            return
        files = repository.commits[commit]
        if not path.startswith("/api/"):
            self._send_file(repository, commit, files, "/".join(parts[4:]))
        elif len(parts) > 2 and parts[2] == "tree":
            entries = [_tree_entry(name, data) for name, data in files.items()]
            self._send(200, {}, json.dumps(entries).encode())
        else:
            siblings = [{"rfilename": name} for name in files]
            repo_id = "/".join(parts[:2])
            document = {"id": repo_id, "modelId": repo_id, "sha": commit, "siblings": siblings}
            self._send(200, {}, json.dumps(document).encode())

    def _send_file(
        self, repository: Repository, commit: str, files: dict[str, bytes], name: str
    ) -> None:
        if repository.gated:
            self._send(
                403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}
            )
            return
        if name not in files:
            self._send(404, {"X-Error-Code": "EntryNotFound"})
            return
        data = files[name]
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit}
        status = 200
        if start := self.headers.get("Range", "").removeprefix("bytes=").rstrip("-"):
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            status, data = 206, data[int(start) :]
        if self.command == "GET" and name == self.hub.shorten:
            data = data[: len(data) // 2]
        self._send(status, headers, data, cut=self.command == "GET" and name == self.hub.cut)

    def _send(
        self, status: int, headers: dict[str, str], data: bytes = b"", *, cut: bool = False
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if cut:
            self.hub.cut = ""
            data = data[: len(data) // 2]
            self.close_connection = True
        if self.command == "GET":
            self.wfile.write(data)


def _tree_entry(name: str, data: bytes) -> dict[str, Any]:
    return {
        "type": "file",
        "oid": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        "size": len(data),
        "path": name,
    }


@contextmanager
def serve_hub() -> Iterator[HubServer]:
    hub = HubServer()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
