"""Checkpoints without a classification layer, and those that others wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from model.checkpoints.checkpoint import expected_shapes, load_checkpoint, save_checkpoint
from model.errors import InvalidCheckpointError
from model.images.preprocessor_config import Preprocessing
from model.network.config import LOGITS, POOLED, MobileNetV1Config
from tests.model.twins import create_weights, relative_error, tiny_config


def test_a_network_without_classes_has_no_classifier() -> None:
    shapes = expected_shapes(tiny_config(num_labels=0))
    assert not any(name.startswith("classifier") for name in shapes)


@pytest.mark.thorough
def test_transformers_loads_a_feature_extractor_that_we_saved(tmp_path: Path) -> None:
    from tests.model.torch_twins import compute_unfolded
    from tests.optional import torch, transformers

    images = torch.rand((2, 3, 96, 64), generator=torch.Generator().manual_seed(1))
    config = MobileNetV1Config(depth_multiplier=0.25, id2label={})
    save_checkpoint(tmp_path, config, Preprocessing(), create_weights(config))
    theirs, info = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    with torch.inference_mode():
        expected = theirs.eval()(images).pooler_output.numpy()
    ours = compute_unfolded(load_checkpoint(tmp_path), images)
    assert LOGITS not in ours
    assert relative_error(ours[POOLED].numpy(), expected) <= 1e-5
    assert load_checkpoint(tmp_path).labels == ()


@pytest.mark.thorough
def test_a_feature_extractor_that_transformers_saved_is_loaded_without_labels(
    tmp_path: Path,
) -> None:
    from tests.model.torch_twins import compute_unfolded
    from tests.optional import torch, transformers

    images = torch.rand((2, 3, 96, 64), generator=torch.Generator().manual_seed(1))
    theirs: Any = transformers.MobileNetV1Model(
        transformers.MobileNetV1Config(depth_multiplier=0.25)
    )
    theirs.eval().save_pretrained(tmp_path)
    Preprocessing().save(tmp_path / "preprocessor_config.json")
    names = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert not any(name.startswith("mobilenet_v1.") for name in names)
    loaded = load_checkpoint(tmp_path)
    assert (loaded.config.num_labels, loaded.labels) == (0, ())
    with torch.inference_mode():
        expected = theirs(images).pooler_output.numpy()
    ours = compute_unfolded(load_checkpoint(tmp_path), images)
    assert LOGITS not in ours
    assert relative_error(ours[POOLED].numpy(), expected) <= 1e-5


def test_integers_are_refused_by_name_and_type(tiny_directory: Path) -> None:
    (tiny_directory / "SHA256SUMS").unlink()
    path = tiny_directory / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    tensors["classifier.bias"] = tensors["classifier.bias"].astype(np.int8)
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(InvalidCheckpointError, match=r"'classifier\.bias' is of type I8"):
        load_checkpoint(tiny_directory)


@pytest.mark.parametrize("classes", [1, 1001])
def test_a_fine_tuned_head_keeps_its_own_labels(tmp_path: Path, classes: int) -> None:
    id2label = {index: f"pet {index}" for index in range(classes)}
    config = tiny_config(id2label=id2label, num_labels=None)
    save_checkpoint(tmp_path, config, Preprocessing(), create_weights(config))
    assert len(json.loads((tmp_path / "config.json").read_text())["id2label"]) == classes
    labels = load_checkpoint(tmp_path).labels
    assert [label.label for label in labels] == list(id2label.values())
    assert not any(label.wnid for label in labels)
