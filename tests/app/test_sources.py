"""Models from elsewhere than a directory, served."""

from __future__ import annotations

from pathlib import Path

import httpx2

from model.checkpoint import save_checkpoint
from model.preprocessing import Preprocessing
from tests.conftest import serve
from tests.model.graphs import create_archive, create_graph_def, create_released, release
from tests.model.twins import create_weights, tiny_config


def test_a_released_archive_is_served_as_it_is(tmp_path: Path, cat: bytes) -> None:
    graph = create_graph_def(create_released(0.25, 160)).SerializeToString()
    path = tmp_path / "mobilenet_v1_0.25_160.tgz"
    path.write_bytes(create_archive(release("mobilenet_v1_0.25_160", graph)))
    with serve(models=str(path)) as server:
        answer = httpx2.post(f"{server.url}/classify", files={"file": cat}, timeout=30).json()
    assert answer["model"] == "mobilenet_v1_0.25_160"
    assert all(prediction["wnid"] for prediction in answer["predictions"])
    assert list(tmp_path.iterdir()) == [path]


def test_a_fine_tuned_head_and_a_rectangle_are_served(tmp_path: Path, cat: bytes) -> None:
    config = tiny_config(id2label={0: "kitten", 1: "jaguar"}, num_labels=None)
    preprocessing = Preprocessing.model_validate(
        {"size": {"height": 96, "width": 64}, "do_center_crop": False}
    )
    save_checkpoint(tmp_path / "pets", config, preprocessing, create_weights(config))
    with serve(models=str(tmp_path / "pets")) as server:
        answer = httpx2.post(f"{server.url}/classify", files={"file": cat}, timeout=30).json()
    assert answer["model"] == "pets"
    predictions = [(one["label"], one["wnid"]) for one in answer["predictions"]]
    assert sorted(predictions) == [("jaguar", None), ("kitten", None)]
