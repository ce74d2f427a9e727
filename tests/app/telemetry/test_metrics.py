from __future__ import annotations

import re

import httpx2
import pytest
from prometheus_client import Gauge, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from app.inference.lifecycle import export_queue
from app.telemetry.metrics import Metrics
from tests.app.inference.batcher import ask, create_batcher, occupy, outcomes, start
from tests.conftest import LiveServer
from tests.fakes import FakeClock, FakeEngine


def collectors() -> list[MetricWrapperBase]:
    registered = Metrics().registry._collector_to_names
    return [one for one in registered if isinstance(one, MetricWrapperBase)]


@pytest.mark.parametrize("metric", collectors(), ids=lambda metric: metric._name)
def test_a_metric_keeps_to_the_rules_of_prometheus(metric: MetricWrapperBase) -> None:
    assert re.fullmatch(r"mobilenet(_[a-z]+)+", metric._name)
    assert metric._documentation.endswith(".")
    if isinstance(metric, Gauge):
        assert not metric._name.endswith(("_total", "_count", "_sum", "_bucket"))
    # Base units only, and as the last word.
    words = metric._name.split("_")
    assert not {"ms", "milliseconds", "kib", "mib", "percent"} & set(words)
    for unit in {"seconds", "bytes", "info"} & set(words):
        assert words[-1] == unit
    assert "le" not in metric._labelnames


def test_no_label_comes_from_a_client(client: httpx2.Client, live_server: LiveServer) -> None:
    secret = "abracadabra"  # noqa: S105  # a word to look for
    for path in (f"/{secret}", f"/models/{secret}", f"/v2/models/{secret}/infer", f"/?{secret}=1"):
        client.get(path)
        client.post(path, content=secret, headers={secret: secret, "X-Request-ID": secret})
    client.request(secret.upper(), "/classify")
    client.post(f"/classify?model={secret}", content=b"GIF89a" + secret.encode())
    text = client.get("/metrics").text
    assert secret not in text.lower()
    assert live_server.metric("mobilenet_requests_total", route="unmatched", status="404") >= 1
    assert 'route="/models/{model:path}"' in text


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/classify", "image/jpeg"),
        ("/embed", "image/jpeg"),
        ("/models/mobilenet_v1_1.0_224", "image/jpeg"),
    ],
)
def test_every_stage_of_a_request_is_timed(
    client: httpx2.Client, live_server: LiveServer, cat: bytes, path: str, content_type: str
) -> None:
    def counts() -> dict[str, float]:
        name = "mobilenet_stage_duration_seconds_count"
        stages = ("read", "decode", "queue", "inference", "encode")
        # The answer is here a moment before the request has ended.
        live_server.wait_for(lambda: live_server.metric("mobilenet_in_flight_requests") == 0)
        return {stage: live_server.metric(name, stage=stage) for stage in stages}

    before = counts()
    assert client.post(path, content=cat, headers={"Content-Type": content_type}).is_success
    assert counts() == {stage: count + 1 for stage, count in before.items()}


def test_images_are_counted_by_format_and_outcome(
    client: httpx2.Client, live_server: LiveServer, cat: bytes
) -> None:
    def count(image_format: str, outcome: str) -> float:
        labels = {"format": image_format, "outcome": outcome}
        return live_server.metric("mobilenet_images_total", **labels)

    cases = {
        ("jpeg", "ok"): cat,
        ("jpeg", "image_truncated"): cat[: len(cat) // 2],
        ("png", "invalid_image"): b"\x89PNG\r\n\x1a\n" + bytes(64),
        ("unknown", "unsupported_image_format"): b"no image",
    }
    before = {case: count(*case) for case in cases}
    for image in cases.values():
        client.post("/classify", files={"file": image})
    assert {case: count(*case) for case in cases} == {
        case: value + 1 for case, value in before.items()
    }


def test_what_is_served_is_told(client: httpx2.Client, live_server: LiveServer) -> None:
    (model,) = client.get("/info").json()["models"]
    labels = {name: model[name] for name in ("digest", "engine", "device")}
    assert live_server.metric("mobilenet_model_info", model=model["name"], **labels) == 1
    info = client.get("/info").json()
    assert live_server.metric("mobilenet_streams") == info["streams"]
    assert live_server.metric("mobilenet_decode_threads") == info["threads"]
    assert live_server.metric("mobilenet_connections") >= 1
    assert live_server.metric("mobilenet_work_capacity_images") > 1


def test_how_late_the_loop_is_is_measured_while_it_runs(live_server: LiveServer) -> None:
    name = "mobilenet_loop_lag_seconds_count"
    before = live_server.metric(name)
    live_server.wait_for(lambda: live_server.metric(name) > before)


@pytest.mark.anyio
async def test_the_oldest_wait_is_that_of_who_waits_longest() -> None:
    clock, engine = FakeClock(), FakeEngine()
    async with create_batcher(now=clock) as batcher:
        export_queue(batcher._metrics, batcher)

        def value(name: str) -> float | None:
            return batcher._metrics.registry.get_sample_value(f"mobilenet_{name}")

        assert (value("queue_oldest_wait_seconds"), value("streams_busy")) == (0, 0)
        blocker = await occupy(batcher, engine)
        tasks = await start(batcher, ask(batcher, engine, 1))
        clock.time += 2
        tasks += await start(batcher, ask(batcher, engine, 2))
        clock.time += 3
        names = ("queue_oldest_wait_seconds", "queue_depth", "streams_busy", "work_images")
        values = [value(name) for name in names]
        engine.gate.set()
        assert await outcomes([blocker, *tasks]) == [255, 1, 2]
        assert values == [5, 2, 1, 3]
        assert value("queue_oldest_wait_seconds") == 0


def test_who_asks_all_the_time_gets_the_last_text_again() -> None:
    clock = FakeClock()
    metrics = Metrics(clock)

    def fresh() -> bool:
        metrics.connections.inc()
        count = metrics.registry.get_sample_value("mobilenet_connections")
        return f"mobilenet_connections {count}".encode() in metrics.render()

    assert [fresh() for _ in range(12)] == [True] * 10 + [False] * 2
    clock.time += 0.1
    assert [fresh(), fresh()] == [True, False]
    clock.time += 60
    assert [fresh() for _ in range(11)] == [True] * 10 + [False]


def test_a_request_is_counted_by_status_and_a_client_that_left_by_name() -> None:
    metrics = Metrics()
    metrics.record_request("/classify", 200, 0.02)
    metrics.record_request("/classify", 499, 0.02)
    text = generate_latest(metrics.registry).decode()
    assert 'mobilenet_requests_total{route="/classify",status="200"} 1.0' in text
    assert 'mobilenet_requests_total{route="/classify",status="client_closed"} 1.0' in text
    assert "_created" not in text
