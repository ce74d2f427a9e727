"""Models from elsewhere than a directory, served."""

from __future__ import annotations

import io
from pathlib import Path

import httpx2
import numpy as np
import pytest

from model.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from model.engines import load_engine
from model.images.decoder import DecodeLimits, Decoder
from model.images.pixels import preprocess
from model.images.preprocessor_config import Preprocessing
from tests.conftest import serve
from tests.model.sources.frozen_graph.graphs import (
    create_archive,
    create_graph_def,
    create_released,
    release,
)


def test_a_released_archive_is_served_as_it_is(tmp_path: Path, cat: bytes) -> None:
    graph = create_graph_def(create_released(0.25, 160)).SerializeToString()
    path = tmp_path / "mobilenet_v1_0.25_160.tgz"
    path.write_bytes(create_archive(release("mobilenet_v1_0.25_160", graph)))
    with serve(models=str(path)) as server:
        answer = httpx2.post(f"{server.url}/classify", files={"file": cat}, timeout=30).json()
    assert answer["model"] == "mobilenet_v1_0.25_160"
    assert all(prediction["wnid"] for prediction in answer["predictions"])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.thorough
def test_a_fine_tuned_head_and_a_rectangle_are_served(tmp_path: Path, cat: bytes) -> None:
    pytest.importorskip("torch", reason="torch is not installed: `make test-all` installs it")
    from tests.model.twins import create_weights, tiny_config

    config = tiny_config(id2label={0: "kitten", 1: "jaguar"}, num_labels=None)
    preprocessing = Preprocessing.model_validate(
        {"size": {"height": 96, "width": 64}, "do_center_crop": False}
    )
    save_checkpoint(tmp_path / "pets", config, preprocessing, create_weights(config))
    with (
        serve(models=str(tmp_path / "pets")) as server,
        httpx2.Client(base_url=server.url, timeout=30) as client,
    ):
        answer = client.post("/classify", files={"file": cat}).json()
        embedding = client.post("/embed", files={"file": cat}).json()["embedding"]
        assert client.get("/info").json()["models"][0]["input_size"] == [96, 64]
        last_map = client.post(
            "/embed?layer=13&pooling=none",
            files={"file": cat},
            headers={"Accept": "application/x-npy"},
        )
        assert np.load(io.BytesIO(last_map.content)).shape == (3, 2, 10)
    assert answer["model"] == "pets"
    predictions = [(one["label"], one["wnid"]) for one in answer["predictions"]]
    assert sorted(predictions) == [("jaguar", None), ("kitten", None)]
    pixels = preprocess(Decoder(DecodeLimits()).decode(cat), preprocessing)
    assert pixels.shape == (96, 64, 3)
    engine = load_engine(load_checkpoint(tmp_path / "pets"), name="torch", device="cpu")
    assert np.allclose(embedding, engine.run(pixels[None]).pooled[0], atol=1e-4)
