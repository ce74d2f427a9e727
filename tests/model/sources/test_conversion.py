"""What is converted loads in transformers and gives the same answers there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model.checkpoints.checkpoint import Checkpoint, load_checkpoint
from model.images.pixels import preprocess
from model.network.config import LOGITS, POOLED
from model.sources.load import convert_model
from tests.model.sources.frozen_graph.graphs import LOGITS as LOGITS_SCOPE
from tests.model.sources.frozen_graph.graphs import (
    create_archive,
    create_graph_def,
    create_released,
    find_node,
    release,
)
from tests.model.sources.released import released
from tests.model.torch_twins import compute_unfolded
from tests.model.twins import DEPTH_MULTIPLIERS, relative_error
from tests.optional import torch, transformers

pytestmark = pytest.mark.thorough

SIZES = (128, 160, 192, 224)
NORMS = ("FusedBatchNorm", "FusedBatchNormV3", "separate")


def assert_transformers_agrees(
    directory: Path, original: Checkpoint, photos: list[Image.Image]
) -> None:
    """Both load the directory, see the same pixels, and answer as the original network does."""
    loader: Any = transformers.AutoImageProcessor
    processor = loader.from_pretrained(directory, backend="pil")
    theirs, info = transformers.AutoModelForImageClassification.from_pretrained(
        directory, output_loading_info=True
    )
    assert not any(info.values())
    converted = load_checkpoint(directory)
    assert theirs.config.id2label == converted.config.id2label == original.config.id2label
    images = processor(photos, return_tensors="pt")["pixel_values"]
    scale, offset = converted.preprocessing.scale_and_offset()
    for photo, image in zip(photos, images, strict=True):
        pixels = preprocess(photo, converted.preprocessing)
        ours = torch.from_numpy((pixels / scale - offset).transpose(2, 0, 1))
        assert torch.allclose(ours.float(), image, atol=1e-6)
    with torch.inference_mode():
        logits = theirs.eval()(images).logits.numpy()
        assert relative_error(compute_unfolded(converted, images)[LOGITS].numpy(), logits) <= 1e-5
        assert relative_error(compute_unfolded(original, images)[LOGITS].numpy(), logits) <= 1e-5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("depth_multiplier", DEPTH_MULTIPLIERS)
def test_every_released_variant_gives_the_same_logits_in_transformers(
    tmp_path: Path, photos: list[Image.Image], depth_multiplier: float, size: int
) -> None:
    original = create_released(depth_multiplier, size)
    norm = NORMS[(SIZES.index(size) + DEPTH_MULTIPLIERS.index(depth_multiplier)) % len(NORMS)]
    graph = create_graph_def(original, norm).SerializeToString()
    name = f"mobilenet_v1_{depth_multiplier}_{size}"
    source = tmp_path / "download.tgz"
    source.write_bytes(create_archive(release(name, graph)))
    convert_model(str(source), tmp_path / name)
    converted = load_checkpoint(tmp_path / name)
    assert converted.config == original.config
    assert converted.preprocessing.input_size == (size, size)
    assert converted.preprocessing.size.shortest_edge == size + 32
    assert_transformers_agrees(tmp_path / name, original, photos[:1])


def test_a_graph_without_a_classifier_gives_the_same_features_in_transformers(
    tmp_path: Path,
) -> None:
    original = create_released(0.5, 160)
    graph = create_graph_def(original)
    for part in ("weights", "biases"):
        graph.node.remove(find_node(graph, f"{LOGITS_SCOPE}/{part}"))
    (tmp_path / "frozen.pb").write_bytes(graph.SerializeToString())
    convert_model(str(tmp_path / "frozen.pb"), tmp_path / "converted")
    theirs, info = transformers.AutoModel.from_pretrained(
        tmp_path / "converted", output_loading_info=True
    )
    assert not any(info.values())
    images = torch.rand((2, 3, 160, 160), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = compute_unfolded(original, images)[POOLED].numpy()
        pooled = theirs.eval()(images).pooler_output.numpy()
    assert relative_error(ours, pooled) <= 1e-5


def test_the_released_checkpoint_gives_the_same_logits_in_transformers(
    tmp_path: Path, photos: list[Image.Image], default_checkpoint: Checkpoint
) -> None:
    frozen = released("mobilenet_v1_1.0_224_frozen.pb")
    convert_model(str(frozen), tmp_path / "converted")
    assert_transformers_agrees(tmp_path / "converted", default_checkpoint, photos)
