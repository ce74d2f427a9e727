"""The real client of the Hugging Face hub, in a process of its own, against a server here."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.checkpoints.checkpoint import save_checkpoint
from model.images.preprocessor_config import Preprocessing
from tests.model.sources.hub_server import HubServer, Repository, serve_hub
from tests.model.twins import create_weights, tiny_config

ID = "google/mobilenet_v1_0.75_192"
OLD, NEW = "0" * 40, "1" * 40
READER = "hf_reader"
READ = ["config.json", "model.safetensors", "preprocessor_config.json"]
LOAD = """
import json, sys
from model.errors import ModelError
from model.sources.load import load_model
try:
    checkpoint = load_model(sys.argv[1])
except ModelError as error:
    print(json.dumps({"error": str(error)}))
else:
    labels = [label.label for label in checkpoint.labels]
    print(json.dumps({"name": checkpoint.name, "digest": checkpoint.digest, "labels": labels}))
"""


def create_files(tmp_path: Path, *labels: str) -> dict[str, bytes]:
    """What a repository holds: our three files, and others that are not to be downloaded."""
    directory = tmp_path / "-".join(labels)
    config = tiny_config(id2label=dict(enumerate(labels)), num_labels=None)
    save_checkpoint(directory, config, Preprocessing(), create_weights(config))
    files = {name: (directory / name).read_bytes() for name in READ}
    return files | {"README.md": b"# Model", "pytorch_model.bin": b"\x80\x04."}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with serve_hub() as hub:
        commits = {OLD: create_files(tmp_path, "cat"), NEW: create_files(tmp_path, "cat", "dog")}
        references = {"main": NEW, "v1.0": OLD}
        hub.repositories[ID] = Repository(commits, references)
        yield hub


def environment(hub: HubServer, tmp_path: Path, **variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    home = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1"}
    return inherited | home | {"PYTHONPATH": str(Path(__file__).parents[3])} | variables


def load(hub: HubServer, tmp_path: Path, source: str = ID, **variables: str) -> Any:
    """What a process that loads a model says of it: a name, a digest and labels, or an error."""
    run = subprocess.run(
        [sys.executable, "-c", LOAD, source],
        env=environment(hub, tmp_path, **variables),
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert "%" not in run.stderr  # no progress bars in a log
    answer = json.loads(run.stdout)
    assert len(answer.get("error", "").splitlines()) <= 1
    return answer


def test_a_model_is_downloaded_with_no_more_files_than_are_read(
    hub: HubServer, tmp_path: Path
) -> None:
    answer = load(hub, tmp_path)
    weights = hub.repositories[ID].commits[NEW]["model.safetensors"]
    assert answer == {
        "name": "mobilenet_v1_0.75_192",
        "digest": hashlib.sha256(weights).hexdigest(),
        "labels": ["cat", "dog"],
    }
    assert sorted(hub.downloads()) == READ


@pytest.mark.parametrize("revision", ["v1.0", OLD])
def test_a_revision_is_a_tag_or_a_commit(hub: HubServer, tmp_path: Path, revision: str) -> None:
    answer = load(hub, tmp_path, f"{ID}@{revision}")
    assert (answer["name"], answer["labels"]) == ("mobilenet_v1_0.75_192", ["cat"])


def test_what_is_in_the_cache_is_not_downloaded_again(hub: HubServer, tmp_path: Path) -> None:
    first = load(hub, tmp_path)
    hub.requests.clear()
    assert load(hub, tmp_path) == first
    assert hub.downloads() == []


def test_a_new_commit_is_downloaded(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[ID].references["main"] = OLD
    assert load(hub, tmp_path)["labels"] == ["cat"]
    hub.repositories[ID].references["main"] = NEW
    assert load(hub, tmp_path)["labels"] == ["cat", "dog"]


@pytest.mark.parametrize(
    "variables", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}], ids=str
)
def test_the_cache_serves_without_a_network(
    hub: HubServer, tmp_path: Path, variables: dict[str, str]
) -> None:
    empty = load(hub, tmp_path, **variables)
    assert empty == {"error": f"{ID}: is not in the cache, and the hub cannot be reached"}
    first = load(hub, tmp_path)
    hub.requests.clear()
    assert load(hub, tmp_path, **variables) == first
    assert hub.requests == []


def test_a_private_model_needs_the_token(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[ID].token = READER
    stranger = load(hub, tmp_path)["error"]
    assert stranger.startswith(f"{ID}: is neither here nor on the hub, or is private")
    assert "HF_TOKEN" in load(hub, tmp_path, HF_TOKEN=READER.upper())["error"]
    assert load(hub, tmp_path, HF_TOKEN=READER)["labels"] == ["cat", "dog"]


def test_a_gated_model_is_refused_by_what_to_do(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[ID].gated = True
    assert load(hub, tmp_path) == {"error": f"{ID}: is gated: accept its terms, and set HF_TOKEN"}


def test_a_model_that_is_not_there_is_refused(hub: HubServer, tmp_path: Path) -> None:
    answer = load(hub, tmp_path, "google/mobilenet_v9")
    assert "google/mobilenet_v9: is neither here nor on the hub" in answer["error"]


def test_a_revision_that_is_not_there_is_refused(hub: HubServer, tmp_path: Path) -> None:
    assert load(hub, tmp_path, f"{ID}@v9") == {"error": f"{ID}: has no revision 'v9'"}


def test_a_download_that_ends_early_is_refused(hub: HubServer, tmp_path: Path) -> None:
    hub.shorten = "model.safetensors"
    assert load(hub, tmp_path) == {"error": f"{ID}: could not be downloaded whole (OSError)"}
    offline = load(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert "is not in the cache" in offline["error"]
    hub.shorten = ""
    assert load(hub, tmp_path)["labels"] == ["cat", "dog"]


def test_a_download_that_breaks_off_is_resumed(hub: HubServer, tmp_path: Path) -> None:
    hub.cut = "model.safetensors"
    assert load(hub, tmp_path)["labels"] == ["cat", "dog"]
    assert hub.downloads().count("model.safetensors") == 2


def test_a_model_of_the_hub_is_converted(hub: HubServer, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "app", "convert", f"{ID}@v1.0", str(tmp_path / "converted")],
        env=environment(hub, tmp_path),
        capture_output=True,
        check=True,
    )
    assert run.stderr == b""
    weights = hub.repositories[ID].commits[OLD]["model.safetensors"]
    assert (tmp_path / "converted" / "model.safetensors").read_bytes() == weights


def test_a_repository_without_safetensors_is_refused_and_its_pickle_left(
    hub: HubServer, tmp_path: Path
) -> None:
    del hub.repositories[ID].commits[NEW]["model.safetensors"]
    assert "model.safetensors: is missing; a pickle" in load(hub, tmp_path)["error"]
    assert "pytorch_model.bin" not in hub.downloads()
