"""Measures the service against other ways to serve the same network.

Every peer gets the same checkpoint and the same photos, with transformers and with the service's
own engine, set up as documented and tuned; see `bench.peers.peer`. Each is measured in turns with
the service, so that a slow moment of the machine slows both. Writes the table of
docs/performance.md. Run it with `make bench WHAT=peers`.
"""

from __future__ import annotations

import statistics
import subprocess
from dataclasses import dataclass, field

from bench.arguments import create_parser
from bench.documents import write_section
from bench.in_process import InProcess
from bench.peers.peer import PEERS, Peer, PeerSettings
from bench.peers.process import PeerError, PeerProcess
from rig.load import Load, LoadGenerator
from rig.photos import load_photos
from rig.server import ServerProcess

CONNECTIONS = 16
_WARM_UP_S = 2
_ENGINES = {"onnx": "ONNX Runtime", "transformers": "transformers"}
_OWN_SETUP = "its defaults, but every photo decoded at its own size, as the peers do"


@dataclass
class Measured:
    """A peer with one engine: its rounds, and the service's in the same turns."""

    peer: Peer
    version: str
    settings: PeerSettings
    loads: list[Load] = field(default_factory=list)
    of_service: list[Load] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The peer with its version."""
        return f"{self.peer.name} {self.version}"

    @property
    def way(self) -> str:
        """How it is set up, in a word."""
        return "tuned" if self.settings.tuned else "as documented"

    @property
    def engine(self) -> str:
        """The engine as it is written."""
        return _ENGINES[self.settings.engine]

    @property
    def ratio(self) -> float:
        """Requests a second of the service over the peer's, each of one turn; the median."""
        return statistics.median(
            ours.images_per_s / theirs.images_per_s
            for ours, theirs in zip(self.of_service, self.loads, strict=True)
        )


class Comparison:
    """The figures of one run."""

    def __init__(self, photos: list[bytes], rounds: int, seconds: float) -> None:
        self._photos, self._rounds, self._seconds = photos, rounds, seconds
        self.measured: list[Measured] = []
        self.failed: list[str] = []
        self.limit: list[float] = []

    def run(self, peers: list[Peer]) -> None:
        """Measure each peer in each way; one that fails is reported, and left out."""
        in_process = InProcess()
        with (
            ServerProcess(jpeg_scaled_decode=False) as server,
            LoadGenerator(self._photos) as generator,
        ):
            self._generator, self._service = generator, server
            for peer in peers:
                for settings in peer.settings:
                    self.limit.append(in_process.images_per_s(self._photos, self._seconds))
                    try:
                        measured = Measured(peer, peer.version(), settings)
                        self._measure(measured)
                    except (PeerError, subprocess.CalledProcessError) as error:
                        name = f"{peer.name} with {settings.engine}, {settings}"
                        print(f"{name}: {error}", flush=True)
                        self.failed.append(name)
                    else:
                        self.measured.append(measured)
                        print(_row(measured), flush=True)

    def _measure(self, measured: Measured) -> None:
        peer = measured.peer
        with PeerProcess(peer, measured.settings) as process:
            self._load(process.url, peer, _WARM_UP_S, peer.path)
            for _ in range(self._rounds):
                with process.paused():
                    measured.of_service.append(self._load(self._service.url, peer, self._seconds))
                load = self._load(process.url, peer, self._seconds, peer.path)
                if not load.images_per_s:
                    raise PeerError("answers nothing under load")
                measured.loads.append(load)

    def _load(self, url: str, peer: Peer, seconds: float, path: str = "/classify") -> Load:
        return self._generator.run(url, peer.kind, CONNECTIONS, seconds, path)

    def table(self) -> str:
        """Return all of it in Markdown, the slowest first."""
        ours = [load for measured in self.measured for load in measured.of_service]
        limit = statistics.median(self.limit)
        lines = [
            "| service | set up | engine | requests/s | p50 ms | refused/s | this one over it |",
            "|---|---|---|--:|--:|--:|--:|",
            *(_row(one) for one in sorted(self.measured, key=lambda one: -one.ratio)),
            f"| **this service** | by default | ONNX Runtime | {_figures(ours)} | 1.00 |",
            f"| in process, without HTTP | | ONNX Runtime | {limit:.1f} | | | |",
            "",
            "How each is set up:",
            "",
            *map(_describe, self.measured),
            f"- this service: {_OWN_SETUP}",
        ]
        if self.failed:
            lines += ["", f"Left out, because they did not work here: {', '.join(self.failed)}."]
        return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    parser = create_parser(__doc__, rounds=3, seconds=4)
    names = [peer.package for peer in PEERS]
    parser.add_argument("--only", nargs="+", choices=names, help="print these, and write nothing")
    arguments = parser.parse_args()
    photos = load_photos(arguments.photos)
    comparison = Comparison(photos, arguments.rounds, arguments.seconds)
    comparison.run([peer for peer in PEERS if peer.package in (arguments.only or names)])
    table = comparison.table()
    print(table)
    if arguments.only is None:
        write_section("performance.md", "peers", table)


def _row(measured: Measured) -> str:
    cells = measured.name, measured.way, measured.engine, _figures(measured.loads)
    return f"| {' | '.join(cells)} | {measured.ratio:.2f} |"


def _describe(measured: Measured) -> str:
    peer, settings = measured.peer, measured.settings
    notes = peer.tuned if settings.tuned else peer.documented
    return f"- {measured.name}, {measured.way}, {measured.engine}: {settings}; {notes}"


def _figures(loads: list[Load]) -> str:
    names = "images_per_s", "p50_ms", "refused_per_s"
    medians = (statistics.median(getattr(load, name) for load in loads) for name in names)
    return " | ".join(f"{median:.1f}" for median in medians)


if __name__ == "__main__":
    main()
