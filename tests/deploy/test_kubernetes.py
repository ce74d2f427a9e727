"""The manifests against Kubernetes' schemas, and against the code that they speak of."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app import __version__
from app.api.application import create_app
from app.server import uvicorn_server as server
from app.settings import ENV_PREFIX, Settings
from app.telemetry.metrics import Metrics
from tests import optional

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu")
WITHOUT_SCHEMA = {"ServiceMonitor"}
HANDBOOK = (ROOT / "docs" / "operate.md").read_text()

Resource = dict[str, Any]


def render(folder: Path) -> list[Resource]:
    """What `kubectl apply -k` would send."""
    for program, arguments in (("kustomize", ["build"]), ("kubectl", ["kustomize"])):
        if path := shutil.which(program):
            command = [path, *arguments, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return list(yaml.safe_load_all(done.stdout))
    pytest.skip(
        "neither kustomize nor kubectl is installed: https://kubectl.docs.kubernetes.io/installation/"
    )


@pytest.fixture(scope="module", params=OVERLAYS)
def resources(request: pytest.FixtureRequest) -> dict[str, Resource]:
    return {one["kind"]: one for one in render(KUBERNETES / "overlays" / request.param)}


@pytest.fixture(scope="module")
def pod(resources: dict[str, Resource]) -> Resource:
    spec: Resource = resources["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: Resource) -> Resource:
    (only,) = pod["containers"]
    assert isinstance(only, dict)
    return only


@pytest.fixture(scope="module")
def settings(container: Resource) -> Settings:
    cores = container["resources"]["limits"]["cpu"]
    given = {
        one["name"].removeprefix(ENV_PREFIX).lower(): one.get("value", cores)
        for one in container["env"]
        if one["name"].startswith(ENV_PREFIX)
    }
    return Settings(**given)  # refuses what it does not know


FILES = [path for path in sorted(KUBERNETES.rglob("*.yaml")) if "kind:" in path.read_text()]


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(KUBERNETES)))
def test_a_file_is_read_by_its_kustomization(file: Path) -> None:
    kustomization = yaml.safe_load((file.parent / "kustomization.yaml").read_text())
    read = [*kustomization["resources"], *(p["path"] for p in kustomization.get("patches", []))]
    assert file.name in {*read, "kustomization.yaml"}
    for path in [*kustomization["resources"], *kustomization.get("components", [])]:
        assert (file.parent / path).exists()


@pytest.mark.thorough
def test_every_resource_is_valid_for_the_oldest_kubernetes_that_is_named_and_the_newest(
    resources: dict[str, Resource],
) -> None:
    named = re.search(r"^Kubernetes, (\d+\.\d+) or newer", HANDBOOK, re.MULTILINE)
    assert named
    schemas = optional.kubernetes_validate
    for version in (named[1], ".".join(schemas.latest_version().split(".")[:2])):
        for kind, resource in resources.items():
            if kind not in WITHOUT_SCHEMA:
                schemas.validate(resource, version, strict=True)


def test_all_select_the_pods_and_nothing_else(resources: dict[str, Resource]) -> None:
    deployment = resources["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    selectors = [
        deployment["selector"]["matchLabels"],
        resources["Service"]["spec"]["selector"],
        resources["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        resources["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(
            one["labelSelector"]["matchLabels"]
            for one in deployment["template"]["spec"]["topologySpreadConstraints"]
        ),
    ]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)
    target = resources["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (
        "Deployment",
        resources["Deployment"]["metadata"]["name"],
    )
    assert "replicas" not in deployment  # else each `apply` would undo the autoscaler


def test_every_setting_is_one_and_threads_are_the_cores(
    settings: Settings, container: Resource, pod: Resource
) -> None:
    resources = container["resources"]
    assert resources["requests"] == resources["limits"]
    assert settings.threads == int(resources["limits"]["cpu"])
    (threads,) = (one for one in container["env"] if one["name"] == "MOBILENET_THREADS")
    assert threads["valueFrom"]["resourceFieldRef"]["resource"] == "limits.cpu"
    assert pod["enableServiceLinks"] is False


def test_ports_and_paths_are_the_services(
    resources: dict[str, Resource], container: Resource, settings: Settings
) -> None:
    assert container["ports"] == [{"name": "http", "containerPort": settings.port}]
    paths = set(create_app(settings).openapi()["paths"])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "http"
        assert container[probe]["httpGet"]["path"] in paths
    (port,) = resources["Service"]["spec"]["ports"]
    assert (port["name"], port["targetPort"]) == ("http", "http")


def test_restarts_are_for_what_the_watchdog_cannot_do(container: Resource) -> None:
    """And what asks whether to restart never asks the model."""
    live, ready = container["livenessProbe"], container["readinessProbe"]
    assert (live["httpGet"]["path"], ready["httpGet"]["path"]) == ("/livez", "/readyz")
    assert live["periodSeconds"] * live["failureThreshold"] > server._MAX_LOOP_STALL_S
    start = container["startupProbe"]
    assert start["httpGet"]["path"] == "/readyz"
    assert start["periodSeconds"] * start["failureThreshold"] >= 60


def test_a_pod_that_ends_is_left_alone_until_it_has_answered(
    pod: Resource, container: Resource, settings: Settings
) -> None:
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    ready = container["readinessProbe"]
    assert ready["periodSeconds"] * ready["failureThreshold"] <= settings.drain_s
    assert settings.shutdown_timeout_s - settings.drain_s > settings.request_timeout_s
    assert pod["terminationGracePeriodSeconds"] > before + settings.shutdown_timeout_s


def test_it_runs_with_the_least_rights(pod: Resource, container: Resource) -> None:
    user = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": int(user[0][0]),
        "runAsGroup": int(user[0][1]),
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert "volumes" not in pod
    assert "hostNetwork" not in pod


def test_nobody_is_connected_to(resources: dict[str, Resource]) -> None:
    policy = resources["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    assert [one["ports"] for one in policy["ingress"]] == [[{"protocol": "TCP", "port": "http"}]]


def test_the_image_is_of_this_version_and_of_what_the_pod_has(container: Resource) -> None:
    _, _, tag = container["image"].rpartition(":")
    suffix = "-gpu" if "nvidia.com/gpu" in container["resources"]["limits"] else ""
    assert tag == __version__ + suffix
    assert f'suffix: "{suffix}"}}' in (ROOT / ".github/workflows/release.yml").read_text()


def test_every_metric_is_one() -> None:
    text = "".join(path.read_text() for path in (KUBERNETES / "components").rglob("*.yaml"))
    used = set(re.findall(r"\bmobilenet_\w+", text))
    metrics = Metrics()
    known = {sample.name for one in metrics.registry.collect() for sample in one.samples}
    assert used
    assert used <= known


def test_pods_are_scraped_as_the_job_that_the_rules_ask_for() -> None:
    service, monitor = (
        next(one for one in render(KUBERNETES / "overlays/gpu") if one["kind"] == kind)
        for kind in ("Service", "ServiceMonitor")
    )
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] in create_app(Settings()).openapi()["paths"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    selected = monitor["spec"]["selector"]["matchLabels"]
    assert selected.items() <= service["metadata"]["labels"].items()
    (job,) = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())[
        "scrape_configs"
    ]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": job["job_name"]}]


def test_both_autoscalers_scale_alike(resources: dict[str, Resource]) -> None:
    """They differ in the metric alone."""
    cpu, queue = (
        yaml.safe_load((KUBERNETES / "components" / name / "autoscaler.yaml").read_text())["spec"]
        for name in ("autoscale-cpu", "autoscale-queue")
    )
    (metric,) = (one["pods"] for one in queue["metrics"])
    (rule,) = yaml.safe_load(
        (KUBERNETES / "components/autoscale-queue/adapter-rules.yaml").read_text()
    )
    assert metric["metric"]["name"] == rule["seriesQuery"].partition("{")[0]
    target = metric["target"]["averageValue"]
    assert int(target.removesuffix("m")) < Settings().queue_ms / 2
    assert {**cpu, "metrics": None} == {**queue, "metrics": None}
    # At 0 no node could ever be drained.
    assert 0 < resources["PodDisruptionBudget"]["spec"]["maxUnavailable"] < cpu["minReplicas"]


def test_pods_are_spread_over_zones_and_machines_and_the_old_ones_wait_for_the_new(
    pod: Resource, resources: dict[str, Resource]
) -> None:
    spread = pod["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    # A version is spread for itself, and a cluster of one machine runs it too.
    assert all(one["matchLabelKeys"] == ["pod-template-hash"] for one in spread)
    assert all(one["whenUnsatisfiable"] == "ScheduleAnyway" for one in spread)
    rolling = resources["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    gpu = "nvidia.com/gpu" in pod["containers"][0]["resources"]["limits"]
    assert rolling == (
        {"maxSurge": 0, "maxUnavailable": 1} if gpu else {"maxSurge": 1, "maxUnavailable": 0}
    )
