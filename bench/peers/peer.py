"""Describes the peers, and how each is set up, in two ways.

As documented: its own example for this job, with this network in it, as many processes as cores,
and all else by default. Tuned: no more engine threads than cores, and of what the documentation
offers to choose, what was fastest of several.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Self

from rig.load import Kind

EngineName = Literal["onnx", "transformers"]

PYTHON = Path(__file__).parents[2] / ".venv-peers" / "bin" / "python"
_VARIABLE = "PEER_SETTINGS"


@dataclass(frozen=True)
class PeerSettings:
    """What a peer's documentation leaves to whoever deploys it.

    Attributes:
        engine: what runs the network.
        workers: processes that run the engine.
        threads: of the engine in each process, and of the pool that feeds it; None leaves both to
            their own defaults, as the examples of the documentation do.
        max_batch_size: most images computed together.
        max_wait_ms: longest time that a batch may wait to be filled.
    """

    engine: EngineName
    workers: int
    threads: int | None
    max_batch_size: int = 1
    max_wait_ms: int = 0

    @classmethod
    def from_environment(cls) -> Self:
        """Return what the process that started this one has set."""
        return cls(**json.loads(os.environ[_VARIABLE]))

    @property
    def tuned(self) -> bool:
        """Whether it is tuned; else it is set up as documented."""
        return self.threads is not None

    def environment(self) -> dict[str, str]:
        """Return the environment variable that `from_environment` reads."""
        return {_VARIABLE: json.dumps(asdict(self))}

    def __str__(self) -> str:
        """All of it but the engine, in words."""
        threads = "as it chooses" if self.threads is None else self.threads
        text = f"processes {self.workers}, engine threads in each {threads}"
        if self.max_batch_size == 1:
            return text
        return f"{text}, max batch size {self.max_batch_size}, max wait {self.max_wait_ms} ms"


@dataclass(frozen=True)
class Peer:
    """One framework.

    Attributes:
        name: as it writes itself.
        package: its distribution.
        command: arguments of Python; `{port}` and `{workers}` are filled in.
        settings: one for each engine and way.
        kind: of the body that it takes.
        documented: what else is set as documented, in words.
        tuned: what else is set if it is tuned, in words.
        path: of its route.
        environment: variables; `{folder}` is a folder for its files.
        tuning: more variables, if it is tuned.
    """

    name: str
    package: str
    command: str
    settings: tuple[PeerSettings, ...]
    kind: Kind
    documented: str
    tuned: str
    path: str = "/classify"
    environment: Mapping[str, str] = field(default_factory=dict)
    tuning: Mapping[str, str] = field(default_factory=dict)

    def version(self) -> str:
        """Return the version in the peers' environment.

        Raises:
            CalledProcessError: it is not installed.
        """
        code = f"from importlib.metadata import version; print(version({self.package!r}))"
        done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.strip()


_FASTAPI = Peer(
    "FastAPI",
    "fastapi",
    "-m uvicorn bench.peers.fastapi_peer:create_app --factory --host 127.0.0.1 --port {port} "
    "--workers {workers} --no-access-log",
    (
        PeerSettings("transformers", 2, None),
        PeerSettings("onnx", 2, None),
        PeerSettings("transformers", 1, 2),
        PeerSettings("onnx", 1, 2),
    ),
    "multipart",
    documented="a `def` handler, its thread pool of 40, no access log",
    tuned="a `def` handler, a thread pool as large as the engine's, no access log",
)
_LITSERVE = Peer(
    "LitServe",
    "litserve",
    "-m bench.peers.litserve_peer {port}",
    (
        PeerSettings("transformers", 2, None, 8, 10),
        PeerSettings("onnx", 2, None, 8, 10),
        PeerSettings("transformers", 2, 1, 8, 10),
        PeerSettings("onnx", 2, 1, 4, 1),
    ),
    "multipart",
    documented="batches decoded one by one in the process that computes them",
    tuned="`fast_queue`, a thread pool that decodes a batch, as many API servers as processes",
)
_BENTOML = Peer(
    "BentoML",
    "bentoml",
    "-m bentoml serve bench.peers.bentoml_peer:Classifier --host 127.0.0.1 --port {port}",
    (
        PeerSettings("transformers", 2, None, 100, 60_000),
        PeerSettings("onnx", 2, None, 100, 60_000),
        PeerSettings("transformers", 2, 1, 8, 10_000),
        PeerSettings("onnx", 2, 1, 4, 10_000),
    ),
    "multipart",
    documented="adaptive batching with its default bounds",
    tuned="adaptive batching, which waits as long as it finds worth it",
    environment={"BENTOML_HOME": "{folder}", "BENTOML_DO_NOT_TRACK": "1"},
)
_RAY_SERVE = Peer(
    "Ray Serve",
    "ray",
    "-m bench.peers.ray_peer {port}",
    (
        PeerSettings("transformers", 2, None, 8, 100),
        PeerSettings("onnx", 2, None, 8, 100),
        PeerSettings("transformers", 2, 1, 4, 10),
        PeerSettings("onnx", 2, 1, 4, 10),
    ),
    "raw",
    documented="a replica a process, each with one core of Ray's counting, and its own proxy",
    tuned="HAProxy, `RAY_SERVE_THROUGHPUT_OPTIMIZED`, a replica a process",
    environment={
        "RAY_AUTH_MODE": "disabled",  # else a token is left in the home directory
        "RAY_USAGE_STATS_ENABLED": "0",
    },
    tuning={
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": "{folder}/haproxy.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "{folder}/haproxy-metrics.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "{folder}",
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "{folder}/haproxy-state",
    },
)
_MOSEC = Peer(
    "mosec",
    "mosec",
    "-m bench.peers.mosec_peer --address 127.0.0.1 --port {port} --timeout 30000 "
    "--log-level warning",
    (
        PeerSettings("transformers", 2, None, 16, 10),
        PeerSettings("onnx", 2, None, 16, 10),
        PeerSettings("transformers", 2, 1, 8, 10),
        PeerSettings("onnx", 2, 1, 4, 10),
    ),
    "raw",
    documented="as many processes again that decode, one OpenMP thread each",
    tuned="as many processes again that decode",
    path="/inference",
    environment={"OMP_NUM_THREADS": "1"},  # else PyTorch's threads hang after the fork
)
PEERS = (_FASTAPI, _LITSERVE, _BENTOML, _RAY_SERVE, _MOSEC)
