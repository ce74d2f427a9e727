"""The service under Ray Serve on this machine; run it with `make test-ray`.

Two replicas of one core each, behind Ray's HAProxy, against one process of two cores without Ray,
in turns. Then one replica is killed under load. Fails if an answer is wrong, if more is lost than
the killed one held and was sent before that was noticed, if it is not replaced, or if load starts
no second replica where there is one. Writes its section of docs/scale.md.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from bench.arguments import create_parser
from bench.documents import write_section
from bench.load import Load, LoadGenerator
from bench.peers.peer import RAY_SERVE
from bench.photos import load_photos
from bench.server import ServerProcess, find_free_port, wait_until_ready

CONNECTIONS = 16
REPLICAS = 2

_CAT = Path(__file__).parents[1] / "tests" / "images" / "cat.jpg"
_KNOWN = (282, "tabby, tabby cat", 0.4315)
_TOLERANCE = 0.002
_REPLACED_S = 60


class RayService:
    """A context manager: a local Ray with two replicas, in a folder of its own."""

    def __enter__(self) -> Self:
        """Start it, and wait until it answers."""
        self._folder = tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True)
        self._mark = f"TMPDIR={self._folder.name}\0".encode()
        os.environ |= {
            "TMPDIR": self._folder.name,
            **{
                name: value.format(folder=self._folder.name)
                for name, value in RAY_SERVE.environment.items()
            },
        }
        import ray  # reads the environment
        from ray import serve

        self._ray = ray
        port = find_free_port()
        self.url = f"http://127.0.0.1:{port}"
        ray.init(
            num_cpus=REPLICAS,
            include_dashboard=False,
            _temp_dir=self._folder.name,
            log_to_driver=False,
        )
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        self._run(num_replicas=REPLICAS, autoscaling_config=None)
        wait_until_ready(self.url, _REPLACED_S)
        return self

    def _run(self, **options: Any) -> None:
        from ray import serve

        from deploy.ray.application import MobileNet

        replica = MobileNet.options(ray_actor_options={"num_cpus": 1}, **options)
        serve.run(replica.bind(cores=1))

    def scale_by_load(self) -> None:
        """Go back to one replica, and let the load decide from now on."""
        quick = {"upscale_delay_s": 1, "downscale_delay_s": 1, "look_back_period_s": 2}
        scale = {"min_replicas": 1, "max_replicas": REPLICAS, "target_ongoing_requests": 8}
        self._run(autoscaling_config={**scale, **quick, "metrics_interval_s": 0.5})
        wait_for_replicas(self, 1)

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._ray.shutdown()
        self._folder.cleanup()

    @property
    def replicas(self) -> list[int]:
        """The replicas' processes."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                named = (process / "cmdline").read_bytes().startswith(b"ray::ServeReplica")
                if named and self._mark in (process / "environ").read_bytes():
                    found.append(int(process.name))
        return found


def check_answer(url: str) -> None:
    """Ask for a photo whose answer is known.

    Raises:
        SystemExit: the answer is another one.
    """
    request = urllib.request.Request(  # noqa: S310  # our own address
        f"{url}/classify?top_k=1", _CAT.read_bytes(), {"Content-Type": "image/jpeg"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # as above
        best = json.load(answer)["predictions"][0]
    class_id, label, score = _KNOWN
    if (best["class_id"], best["label"]) != (class_id, label) or (
        abs(best["score"] - score) > _TOLERANCE
    ):
        sys.exit(f"the answer is {best}")


def wait_for_replicas(service: RayService, count: int) -> float:
    """Seconds until so many run.

    Raises:
        SystemExit: they never do.
    """
    begin = time.perf_counter()
    while len(service.replicas) != count:
        if time.perf_counter() - begin > _REPLACED_S:
            sys.exit(f"there are {len(service.replicas)} replicas, not {count}")
        time.sleep(0.05)
    return time.perf_counter() - begin


def kill_one(
    service: RayService, generator: LoadGenerator, seconds: float
) -> tuple[Load, float, Load]:
    """Kill a replica under load.

    Returns:
        The load meanwhile, after how many seconds it was replaced, and the load afterwards.
    """
    victim, *_ = before = service.replicas
    replaced_s = 0.0

    def kill() -> None:
        nonlocal replaced_s
        time.sleep(seconds / 4)
        os.kill(victim, signal.SIGKILL)
        killed = time.perf_counter()
        while victim in service.replicas:
            time.sleep(0.01)
        wait_for_replicas(service, len(before))
        replaced_s = time.perf_counter() - killed

    thread = threading.Thread(target=kill)
    thread.start()
    meanwhile = generator.run(service.url, "raw", CONNECTIONS, 2 * seconds)
    thread.join()
    if not replaced_s:
        sys.exit("the killed replica was not replaced")
    return meanwhile, replaced_s, generator.run(service.url, "raw", CONNECTIONS, seconds)


def grow(service: RayService, generator: LoadGenerator) -> tuple[float, Load]:
    """Let the load on one replica start another.

    Returns:
        After how many seconds of load it ran, and the load with both.
    """
    service.scale_by_load()
    thread = threading.Thread(
        target=generator.run, args=(service.url, "raw", CONNECTIONS, _REPLACED_S / 3)
    )
    thread.start()
    grown_s = wait_for_replicas(service, REPLICAS)
    thread.join()
    return grown_s, generator.run(service.url, "raw", CONNECTIONS, _REPLACED_S / 6)


def main() -> None:
    """Measure, check, print and write."""
    parser = create_parser(__doc__, rounds=5, seconds=6)
    arguments = parser.parse_args()
    with (
        LoadGenerator(load_photos(arguments.photos)) as generator,
        ServerProcess(streams=REPLICAS) as alone,
        RayService() as service,
    ):
        check_answer(service.url)
        taken: list[tuple[Load, Load]] = []
        for _ in range(arguments.rounds):
            one, two = (
                generator.run(url, "raw", CONNECTIONS, arguments.seconds)
                for url in (alone.url, service.url)
            )
            taken.append((one, two))
        meanwhile, replaced_s, after = kill_one(service, generator, arguments.seconds)
        grown_s, grown = grow(service, generator)
        check_answer(service.url)
    lost = meanwhile.broken + round(meanwhile.refused_per_s * meanwhile.seconds)
    text = (
        f"{describe(taken, after, lost, replaced_s)}\n\nWith one replica, and the autoscaler set "
        f"to 8 requests inside each: {CONNECTIONS} connections had a second one running after "
        f"{grown_s:.1f} s, and then {grown.images_per_s:.1f} images/s."
    )
    print(text)
    if lost > 2 * CONNECTIONS or after.broken or after.refused_per_s:
        sys.exit("more was lost than a moment explains")
    write_section("scale.md", "ray", text)


def describe(taken: list[tuple[Load, Load]], after: Load, lost: int, replaced_s: float) -> str:
    """In Markdown."""
    lines = ["| | images/s | of one process | p50 ms | p99 ms |", "|---|--:|--:|--:|--:|"]
    for name, loads in zip(
        ("one process, two cores", "Ray Serve, two replicas of one core"),
        zip(*taken, strict=True),
        strict=True,
    ):
        speed, p50, p99 = (
            statistics.median(getattr(load, field) for load in loads)
            for field in ("images_per_s", "p50_ms", "p99_ms")
        )
        ratio = statistics.median(
            load.images_per_s / one.images_per_s
            for load, (one, _) in zip(loads, taken, strict=True)
        )
        lines.append(f"| {name} | {speed:.1f} | {ratio:.2f} | {p50:.1f} | {p99:.1f} |")
    lines += [
        "",
        (
            f"One of the two was killed under load: {lost} requests of {CONNECTIONS} connections "
            f"were lost, and a new replica's process ran after {replaced_s:.1f} s. "
            f"Images/s afterwards: {after.images_per_s:.1f}, none lost."
        ),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
