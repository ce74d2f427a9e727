"""Checkpoints without a classification layer, and those that others wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from model.checkpoints.checkpoint import expected_shapes, load_checkpoint, save_checkpoint
from model.errors import InvalidCheckpointError
from model.images.preprocessor_config import Preprocessing
from model.network.config import LOGITS, POOLED, MobileNetV1Config
from tests.model.twins import compute_unfolded, create_weights, relative_error, tiny_config


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand((2, 3, 96, 64), generator=torch.Generator().manual_seed(1))


def pooled(directory: Path, images: torch.Tensor) -> Any:
    outputs = compute_unfolded(load_checkpoint(directory), images)
    assert LOGITS not in outputs
    return outputs[POOLED].numpy()


def test_a_network_without_classes_has_no_classifier() -> None:
    shapes = expected_shapes(tiny_config(num_labels=0))
    assert not any(name.startswith("classifier") for name in shapes)


def test_transformers_loads_a_feature_extractor_that_we_saved(
    tmp_path: Path, images: torch.Tensor
) -> None:
    from transformers import AutoModel

    config = MobileNetV1Config(depth_multiplier=0.25, id2label={})
    save_checkpoint(tmp_path, config, Preprocessing(), create_weights(config))
    theirs, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    with torch.inference_mode():
        expected = theirs.eval()(images).pooler_output.numpy()
    assert relative_error(pooled(tmp_path, images), expected) <= 1e-5
    assert load_checkpoint(tmp_path).labels == ()


def test_a_feature_extractor_that_transformers_saved_is_loaded_without_labels(
    tmp_path: Path, images: torch.Tensor
) -> None:
    import transformers

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
    assert relative_error(pooled(tmp_path, images), expected) <= 1e-5


def test_half_a_classifier_is_refused(tiny_directory: Path) -> None:
    (tiny_directory / "SHA256SUMS").unlink()
    path = tiny_directory / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    del tensors["classifier.weight"]
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(InvalidCheckpointError, match=r"has no tensor classifier\.weight"):
        load_checkpoint(tiny_directory)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_floats_of_any_precision_are_widened_or_rounded_as_torch_does(
    tiny_directory: Path, dtype: torch.dtype
) -> None:
    (tiny_directory / "SHA256SUMS").unlink()
    path = tiny_directory / "model.safetensors"
    tensors = {name: one.to(dtype) for name, one in safetensors.torch.load_file(path).items()}
    safetensors.torch.save_file(tensors, path)
    for name, value in load_checkpoint(tiny_directory).weights.items():
        assert value.dtype == np.float32
        assert np.array_equal(value, tensors[name].to(torch.float32).numpy())


def test_integers_are_refused_by_name_and_type(tiny_directory: Path) -> None:
    (tiny_directory / "SHA256SUMS").unlink()
    path = tiny_directory / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    tensors["classifier.bias"] = tensors["classifier.bias"].astype(np.int8)
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(InvalidCheckpointError, match=r"'classifier\.bias' is of type I8"):
        load_checkpoint(tiny_directory)


@pytest.mark.parametrize("classes", [1, 2, 1000, 1001, 1500])
def test_a_fine_tuned_head_keeps_its_own_labels(tmp_path: Path, classes: int) -> None:
    import transformers

    id2label = {index: f"pet {index}" for index in range(classes)}
    config = transformers.MobileNetV1Config(depth_multiplier=0.25, id2label=id2label)
    theirs: Any = transformers.MobileNetV1ForImageClassification(config)
    theirs.save_pretrained(tmp_path)
    Preprocessing().save(tmp_path / "preprocessor_config.json")
    assert len(json.loads((tmp_path / "config.json").read_text())["id2label"]) == classes
    labels = load_checkpoint(tmp_path).labels
    assert [label.label for label in labels] == list(id2label.values())
    assert not any(label.wnid for label in labels)
