"""The peers, and how each is started: as its own documentation recommends for this job.

Where the documentation leaves a choice, the settings are those that were fastest of several.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.load import Kind
from bench.peers.settings import PeerSettings

PYTHON = Path(__file__).parents[2] / ".venv-peers" / "bin" / "python"


@dataclass(frozen=True)
class Peer:
    """One framework.

    Attributes:
        name: as it writes itself.
        package: its distribution.
        command: arguments of Python; `{port}` and `{workers}` are filled in.
        settings: one for each engine.
        kind: the body that it takes.
        path: where it takes it.
        notes: what else is set, in words.
        environment: variables; `{folder}` is one for its files.
    """

    name: str
    package: str
    command: str
    settings: tuple[PeerSettings, ...]
    kind: Kind
    notes: str
    path: str = "/classify"
    environment: Mapping[str, str] = field(default_factory=dict)

    def version(self) -> str:
        """The version in the peers' environment.

        Raises:
            CalledProcessError: it is not installed.
        """
        code = f"from importlib.metadata import version; print(version({self.package!r}))"
        done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.strip()


FASTAPI = Peer(
    "FastAPI",
    "fastapi",
    "-m uvicorn bench.peers.fastapi_peer:create_app --factory --host 127.0.0.1 --port {port} "
    "--workers {workers} --no-access-log",
    (PeerSettings("transformers", 2, 1), PeerSettings("onnx", 2, 1)),
    "multipart",
    "a `def` handler, a thread pool as large as the engine's, no access log",
)
LITSERVE = Peer(
    "LitServe",
    "litserve",
    "-m bench.peers.litserve_peer {port}",
    (PeerSettings("transformers", 2, 1, 8, 10), PeerSettings("onnx", 2, 1, 4, 1)),
    "multipart",
    "`fast_queue`, a thread pool that decodes a batch, as many API servers as processes",
)
BENTOML = Peer(
    "BentoML",
    "bentoml",
    "-m bentoml serve bench.peers.bentoml_peer:Classifier --host 127.0.0.1 --port {port}",
    (PeerSettings("transformers", 2, 1, 8, 10_000), PeerSettings("onnx", 2, 1, 4, 10_000)),
    "multipart",
    "adaptive batching, which waits as long as it finds worth it",
    environment={"BENTOML_HOME": "{folder}", "BENTOML_DO_NOT_TRACK": "1"},
)
RAY_SERVE = Peer(
    "Ray Serve",
    "ray",
    "-m bench.peers.ray_peer {port}",
    (PeerSettings("transformers", 2, 1, 4, 10), PeerSettings("onnx", 2, 1, 4, 10)),
    "raw",
    "HAProxy, `RAY_SERVE_THROUGHPUT_OPTIMIZED`, a replica a process",
    environment={
        "RAY_AUTH_MODE": "disabled",  # else a token is left in the home directory
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": "{folder}/haproxy.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "{folder}/haproxy-metrics.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "{folder}",
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "{folder}/haproxy-state",
    },
)
MOSEC = Peer(
    "mosec",
    "mosec",
    "-m bench.peers.mosec_peer --address 127.0.0.1 --port {port} --timeout 30000 "
    "--log-level warning",
    (PeerSettings("transformers", 2, 1, 8, 10), PeerSettings("onnx", 2, 1, 4, 10)),
    "raw",
    "as many processes again that decode",
    path="/inference",
)
PEERS = (FASTAPI, LITSERVE, BENTOML, RAY_SERVE, MOSEC)
