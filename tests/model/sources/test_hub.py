"""The real client of the Hugging Face hub, in a process of its own, against a server here."""

from __future__ import annotations

import hashlib
import json
import os
import socket
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
answers = {}
for source in sys.argv[1:]:
    try:
        checkpoint = load_model(source)
    except ModelError as error:
        answers[source] = {"error": str(error)}
    else:
        labels = [label.label for label in checkpoint.labels]
        answers[source] = dict(name=checkpoint.name, digest=checkpoint.digest, labels=labels)
print(json.dumps(answers))
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


def load_all(hub: HubServer, tmp_path: Path, *sources: str, **variables: str) -> Any:
    """What a process says of each model: a name, a digest and labels, or an error."""
    run = subprocess.run(
        [sys.executable, "-c", LOAD, *sources],
        env=environment(hub, tmp_path, **variables),
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert "%" not in run.stderr  # no progress bars in a log
    answers = json.loads(run.stdout)
    assert all(len(answer.get("error", "").splitlines()) <= 1 for answer in answers.values())
    return answers


def load(hub: HubServer, tmp_path: Path, source: str = ID, **variables: str) -> Any:
    return load_all(hub, tmp_path, source, **variables)[source]


@pytest.mark.thorough
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


def test_each_repository_is_loaded_or_refused_by_what_to_do(hub: HubServer, tmp_path: Path) -> None:
    commits = hub.repositories[ID].commits
    without = {name: data for name, data in commits[NEW].items() if name != "model.safetensors"}
    hub.repositories["google/gated"] = Repository(commits, {"main": NEW}, gated=True)
    hub.repositories["google/pickle"] = Repository({NEW: without}, {"main": NEW})
    sources = ("google/gated", "google/pickle", "google/mobilenet_v9", f"{ID}@v9")
    tag, commit, gated, pickle, missing, unknown = load_all(
        hub, tmp_path, f"{ID}@v1.0", f"{ID}@{OLD}", *sources
    ).values()
    assert tag == commit
    assert (tag["name"], tag["labels"]) == ("mobilenet_v1_0.75_192", ["cat"])
    assert gated == {"error": "google/gated: is gated: accept its terms, and set HF_TOKEN"}
    assert "model.safetensors: is missing; a pickle" in pickle["error"]
    assert "pytorch_model.bin" not in hub.downloads()
    assert "google/mobilenet_v9: is neither here nor on the hub" in missing["error"]
    assert unknown == {"error": f"{ID}: has no revision 'v9'"}


@pytest.mark.thorough
def test_the_cache_serves_what_it_holds_without_the_hub(hub: HubServer, tmp_path: Path) -> None:
    first = load(hub, tmp_path)
    hub.requests.clear()
    assert load(hub, tmp_path) == first
    assert hub.downloads() == []
    hub.requests.clear()
    offline = load_all(hub, tmp_path, ID, "google/other", HF_HUB_OFFLINE="1")
    assert offline[ID] == first
    assert offline["google/other"] == {
        "error": "google/other: is not in the cache, and the hub cannot be reached"
    }
    assert hub.requests == []


@pytest.mark.thorough
def test_the_cache_serves_while_the_hub_is_down(hub: HubServer, tmp_path: Path) -> None:
    first = load(hub, tmp_path)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # a port on which nobody listens
        dead = f"http://127.0.0.1:{bound.getsockname()[1]}"
        down = load_all(hub, tmp_path, ID, "google/other", HF_ENDPOINT=dead)
    assert down[ID] == first
    assert "the hub cannot be reached" in down["google/other"]["error"]


@pytest.mark.thorough
def test_a_new_commit_is_downloaded(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[ID].references["main"] = OLD
    assert load(hub, tmp_path)["labels"] == ["cat"]
    hub.repositories[ID].references["main"] = NEW
    assert load(hub, tmp_path)["labels"] == ["cat", "dog"]


@pytest.mark.thorough
def test_a_private_model_needs_the_token(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[ID].token = READER
    stranger = load(hub, tmp_path)["error"]
    assert stranger.startswith(f"{ID}: is neither here nor on the hub, or is private")
    assert "HF_TOKEN" in load(hub, tmp_path, HF_TOKEN=READER.upper())["error"]
    assert load(hub, tmp_path, HF_TOKEN=READER)["labels"] == ["cat", "dog"]


@pytest.mark.thorough
def test_a_download_that_ends_early_is_refused(hub: HubServer, tmp_path: Path) -> None:
    hub.shorten = "model.safetensors"
    assert load(hub, tmp_path) == {"error": f"{ID}: could not be downloaded whole (OSError)"}
    offline = load(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert "is not in the cache" in offline["error"]
    hub.shorten = ""
    assert load(hub, tmp_path)["labels"] == ["cat", "dog"]


@pytest.mark.thorough
def test_a_download_that_breaks_off_is_resumed(hub: HubServer, tmp_path: Path) -> None:
    hub.cut = "model.safetensors"
    assert load(hub, tmp_path)["labels"] == ["cat", "dog"]
    assert hub.downloads().count("model.safetensors") == 2


@pytest.mark.thorough
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
