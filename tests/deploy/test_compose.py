from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings, describe_settings
from tests.deploy.load_balancer import CONFIGURATION, find_nginx, render

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    compose: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return compose["services"]


@pytest.fixture(scope="module")
def nginx() -> str:
    return CONFIGURATION.read_text()


def seconds(nginx: str, directive: str) -> float:
    found = re.search(rf"^ *{directive} (\d+)s;", nginx, re.MULTILINE)
    assert found, directive
    return float(found[1])


def test_plain_up_starts_one_container_and_each_profile_only_what_it_names(
    services: dict[str, Any],
) -> None:
    environment = (ROOT / ".env").read_text().splitlines()
    assert "COMPOSE_PROFILES=single" in environment
    profiles = {name: service["profiles"] for name, service in services.items()}
    assert profiles == {
        "single": ["single"],
        "api": ["scaled"],
        "nginx": ["scaled"],
        "prometheus": ["observability"],
        "grafana": ["observability"],
    }


def test_either_way_port_8000_leads_to_the_port_that_is_listened_on(
    services: dict[str, Any], nginx: str
) -> None:
    default = Settings.model_fields["port"].default
    assert services["single"]["ports"] == services["nginx"]["ports"] == [f"{default}:{default}"]
    assert f"listen {default};" in nginx
    assert f"server api:{default} resolve" in nginx


def test_what_is_scaled_has_no_port_of_the_host(services: dict[str, Any]) -> None:
    assert "ports" not in services["api"]
    assert services["api"]["cpus"] == services["single"]["cpus"] == "${CPUS:-2}"


def test_every_service_has_the_least_rights(services: dict[str, Any]) -> None:
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "cap_add" not in service
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["pids_limit"] <= 128
        assert service["mem_limit"]
        assert not service.get("privileged")
    # Go starts a thread a core: on a large machine more than the limit, unless it has fewer cores.
    assert services["prometheus"]["cpus"] == services["grafana"]["cpus"] == 1
    # The service's own user is the image's.
    user = re.findall(r"^USER (\d+):\d+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user == ["10001"]
    assert services["nginx"]["user"] == "101:101"
    assert services["grafana"]["user"] == "472:0"


def test_mounted_paths_exist_and_no_variable_is_unknown(services: dict[str, Any]) -> None:
    known = {setting.variable for setting in describe_settings()}
    for service in services.values():
        mounted = [one.split(":")[0] for one in service.get("volumes", [])]
        assert all((ROOT / one).exists() for one in mounted if one.startswith("."))
        own = {name for name in service.get("environment", {}) if not name.startswith("GF_")}
        assert own <= known


def test_nginx_takes_as_large_bodies_as_the_service(nginx: str) -> None:
    settings = Settings()
    single, batch = re.findall(r"client_max_body_size (\d+)m;", nginx)
    assert (int(single), int(batch)) == (settings.max_body_mib, settings.max_batch_body_mib)


def test_nginx_waits_longer_than_a_request_may_take(nginx: str) -> None:
    settings = Settings()
    assert seconds(nginx, "proxy_read_timeout") > settings.request_timeout_s
    assert seconds(nginx, "client_body_timeout") <= settings.body_timeout_s


def test_nginx_leaves_idle_connections_before_the_service_does(nginx: str) -> None:
    assert seconds(nginx, "keepalive_timeout") < Settings().keep_alive_s


def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    program = find_nginx()
    if program is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    file = tmp_path / "nginx.conf"
    file.write_text(render(8000, ["127.0.0.1:8001", "127.0.0.1:8002"]))
    command = [program, "-t", "-q", "-p", f"{tmp_path}/", "-c", str(file)]
    tested = subprocess.run(command, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
