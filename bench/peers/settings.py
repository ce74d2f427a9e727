"""How a peer is set up: one object that is printed, and handed to its process."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Literal, Self

EngineName = Literal["onnx", "transformers"]

_VARIABLE = "PEER_SETTINGS"


@dataclass(frozen=True)
class PeerSettings:
    """What its documentation leaves to whoever deploys it.

    Attributes:
        engine: what runs the network.
        workers: processes that run the engine.
        threads: of the engine in each of them, and of the pool that feeds it; None leaves both to
            their own defaults, as the examples of the documentation do.
        max_batch_size: requests computed together at most.
        max_wait_ms: for how long a batch may wait to be filled, in milliseconds.
    """

    engine: EngineName
    workers: int
    threads: int | None
    max_batch_size: int = 1
    max_wait_ms: int = 0

    @classmethod
    def from_environment(cls) -> Self:
        """What the process that started this one has decided."""
        return cls(**json.loads(os.environ[_VARIABLE]))

    @property
    def tuned(self) -> bool:
        """Whether it is; else it is set up as documented."""
        return self.threads is not None

    def environment(self) -> dict[str, str]:
        """The environment variable that `from_environment` reads."""
        return {_VARIABLE: json.dumps(asdict(self))}

    def __str__(self) -> str:
        """All of it but the engine, in words."""
        threads = "as it chooses" if self.threads is None else self.threads
        text = f"processes {self.workers}, engine threads in each {threads}"
        if self.max_batch_size == 1:
            return text
        return f"{text}, max batch size {self.max_batch_size}, max wait {self.max_wait_ms} ms"
