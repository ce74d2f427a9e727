from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from model.checkpoints.checkpoint import (
    DEFAULT_DIRECTORY,
    Checkpoint,
    expected_shapes,
    load_checkpoint,
    save_checkpoint,
)
from model.errors import InvalidCheckpointError
from model.images.preprocessor_config import Preprocessing
from model.network.config import LOGITS, MobileNetV1Config
from tests.model.twins import create_weights, relative_error, tiny_config

FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
STEM = "mobilenet_v1.conv_stem"


def read_tensors(directory: Path) -> dict[str, NDArray[Any]]:
    return safetensors.numpy.load_file(directory / "model.safetensors")


@pytest.fixture
def unsigned(tiny_directory: Path) -> Path:
    """A sound checkpoint without SHA256SUMS."""
    (tiny_directory / "SHA256SUMS").unlink()
    return tiny_directory


def test_a_saved_checkpoint_is_loaded_as_it_was(tmp_path: Path) -> None:
    config = tiny_config(hidden_act="silu", id2label={0: "cat", 1: "dog"})
    preprocessing = Preprocessing(resample=3)
    weights = create_weights(config)
    save_checkpoint(tmp_path / "made" / "here", config, preprocessing, weights)
    loaded = load_checkpoint(tmp_path / "made" / "here")
    assert (loaded.config, loaded.preprocessing, loaded.name) == (config, preprocessing, "here")
    assert [label.label for label in loaded.labels] == ["cat", "dog"]
    assert loaded.weights.keys() == weights.keys()
    for name, value in weights.items():
        assert loaded.weights[name].dtype == np.float32
        assert np.array_equal(loaded.weights[name], value)


def test_weights_that_are_views_are_saved_as_they_look(tmp_path: Path) -> None:
    config = tiny_config()
    weights = create_weights(config)
    name = "classifier.weight"
    turned = np.asfortranarray(weights[name])
    save_checkpoint(tmp_path, config, Preprocessing(), weights | {name: turned})
    assert np.array_equal(load_checkpoint(tmp_path).weights[name], weights[name])


def test_the_digest_is_the_sha256_of_the_weights_file(tiny_directory: Path) -> None:
    data = (tiny_directory / "model.safetensors").read_bytes()
    assert load_checkpoint(tiny_directory).digest == hashlib.sha256(data).hexdigest()


def test_the_default_checkpoint_is_the_full_network(default_checkpoint: Checkpoint) -> None:
    assert default_checkpoint.name == "mobilenet_v1_1.0_224"
    assert (DEFAULT_DIRECTORY / "SHA256SUMS").is_file()
    sizes = [np.prod(shape) for shape in expected_shapes(default_checkpoint.config).values()]
    assert sum(weight.size for weight in default_checkpoint.weights.values()) == sum(sizes)
    assert default_checkpoint.weights["classifier.weight"].shape == (1001, 1024)


@pytest.mark.thorough
def test_transformers_finds_every_tensor_of_the_default_checkpoint() -> None:
    from tests.optional import transformers

    _, info = transformers.AutoModelForImageClassification.from_pretrained(
        DEFAULT_DIRECTORY, output_loading_info=True
    )
    assert set(info) >= {"missing_keys", "unexpected_keys", "mismatched_keys"}
    assert not any(info.values())


@pytest.mark.thorough
def test_transformers_finds_every_tensor_of_a_checkpoint_that_we_saved(
    tiny_directory: Path,
) -> None:
    from tests.optional import transformers

    theirs, info = transformers.AutoModelForImageClassification.from_pretrained(
        tiny_directory, output_loading_info=True
    )
    assert not any(info.values())
    state = theirs.state_dict()
    for name, value in load_checkpoint(tiny_directory).weights.items():
        assert np.array_equal(state[name].numpy(), value)


@pytest.mark.thorough
def test_a_checkpoint_that_transformers_saved_is_loaded(tmp_path: Path) -> None:
    from tests.model.torch_twins import compute_unfolded
    from tests.optional import torch, transformers

    settings: dict[str, Any] = {"depth_multiplier": 0.25, "num_labels": 5, "tf_padding": False}
    theirs: Any = transformers.MobileNetV1ForImageClassification(
        transformers.MobileNetV1Config(**settings)
    )
    theirs.eval().save_pretrained(tmp_path)
    transformers.MobileNetV1ImageProcessorPil().save_pretrained(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    images = torch.rand((1, 3, 64, 64))
    with torch.inference_mode():
        ours = compute_unfolded(checkpoint, images)[LOGITS].numpy()
        assert relative_error(ours, theirs(images).logits.numpy()) <= 1e-5


def test_weights_without_training_counters_are_loaded(unsigned: Path) -> None:
    weights = {
        name: value
        for name, value in read_tensors(unsigned).items()
        if not name.endswith("num_batches_tracked")
    }
    safetensors.numpy.save_file(weights, unsigned / "model.safetensors")
    assert load_checkpoint(unsigned).weights.keys() == weights.keys()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_floats_of_any_precision_are_loaded_as_float32(unsigned: Path, dtype: type) -> None:
    tensors: dict[str, NDArray[Any]] = {
        name: value.astype(dtype) for name, value in read_tensors(unsigned).items()
    }
    safetensors.numpy.save_file(tensors, unsigned / "model.safetensors")
    for name, value in load_checkpoint(unsigned).weights.items():
        assert value.dtype == np.float32
        assert np.array_equal(value, tensors[name].astype(np.float32))


def test_bfloat16_is_the_upper_half_of_a_float32(unsigned: Path) -> None:
    halves = {
        name: (value.view(np.uint32) >> 16).astype(np.uint16)
        for name, value in read_tensors(unsigned).items()
        if value.dtype == np.float32
    }
    data = safetensors.numpy.save(halves)
    end = 8 + int.from_bytes(data[:8], "little")
    header = data[8:end].replace(b'"U16"', b'"BF16"')
    content = len(header).to_bytes(8, "little") + header + data[end:]
    (unsigned / "model.safetensors").write_bytes(content)
    for name, value in load_checkpoint(unsigned).weights.items():
        assert np.array_equal(value.view(np.uint32), halves[name].astype(np.uint32) << 16)


def test_weights_that_do_not_fit_are_not_saved(tmp_path: Path) -> None:
    config = tiny_config()
    weights = create_weights(config)
    del weights["classifier.bias"]
    with pytest.raises(InvalidCheckpointError, match=r"has no tensor classifier\.bias"):
        save_checkpoint(tmp_path / "new", config, Preprocessing(), weights)
    assert not (tmp_path / "new").exists()


def test_the_default_configuration_calls_for_what_the_default_weights_are() -> None:
    shapes = expected_shapes(MobileNetV1Config.load(DEFAULT_DIRECTORY / "config.json"))
    tensors = read_tensors(DEFAULT_DIRECTORY)
    counters = {name for name in tensors if name.endswith("num_batches_tracked")}
    assert {name: tensors[name].shape for name in tensors.keys() - counters} == shapes
    assert len(counters) == 27
