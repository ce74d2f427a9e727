"""What Ray is told, against the code; `make test WHAT=ray` runs it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text())


@pytest.fixture(scope="module")
def application() -> dict[str, Any]:
    (only,) = CONFIG["applications"]
    assert isinstance(only, dict)
    return only


def test_every_variable_is_a_setting_and_rays_deadline_is_later(
    application: dict[str, Any],
) -> None:
    variables = application["runtime_env"]["env_vars"]
    assert all(name.startswith(ENV_PREFIX) for name in variables)
    given = {name.removeprefix(ENV_PREFIX).lower(): value for name, value in variables.items()}
    settings = Settings(**given)  # refuses what it does not know
    assert CONFIG["http_options"]["request_timeout_s"] > settings.request_timeout_s
    assert CONFIG["http_options"]["port"] == settings.port


def test_the_file_and_the_application_say_the_same_of_the_deployment(
    application: dict[str, Any],
) -> None:
    module, _, name = application["import_path"].partition(":")
    code = (ROOT / f"{module.replace('.', '/')}.py").read_text()
    (deployment,) = application["deployments"]
    assert f"\n{name} = " in code
    assert f'name="{deployment["name"]}"' in code
    cores = int(re.findall(r"^CORES = (\d+)$", code, re.MULTILINE)[0])
    each = int(re.findall(r"^ONGOING = (\d+) \* CORES$", code, re.MULTILINE)[0])
    found = re.search(r"autoscaling_config=\{(.*?)\}", code, re.DOTALL)
    assert found
    scaling = {
        key: each * cores if value == "ONGOING" else int(value)
        for key, value in re.findall(r'"(\w+)": (\w+)', found[1])
    }
    assert deployment["autoscaling_config"] == scaling
