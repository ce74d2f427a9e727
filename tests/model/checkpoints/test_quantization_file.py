from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy

from model.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.errors import InvalidCheckpointError
from model.network.quantization import QuantizationParameters
from tests.model.quantized_twins import RELU6, WIDE, assert_same_levels, create_quantized
from tests.model.sources.refusal import refused
from tests.model.twins import create_checkpoint, tiny_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


FILE = "quantization.safetensors"
STEM = "mobilenet_v1.conv_stem"


@pytest.fixture
def quantized() -> Checkpoint:
    return create_quantized(tiny_config())


@pytest.fixture
def directory(tmp_path: Path, quantized: Checkpoint) -> Path:
    save(tmp_path / "quantized", quantized)
    return tmp_path / "quantized"


def save(directory: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(
        directory,
        checkpoint.config,
        checkpoint.preprocessing,
        checkpoint.weights,
        checkpoint.quantization,
    )


def refusal(directory: Path, change: Callable[[dict[str, NDArray[Any]]], object]) -> str:
    """Change the file's tensors, see it refused, and return what the refusal says of it."""
    path = directory / FILE
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path)
    (directory / "SHA256SUMS").unlink(missing_ok=True)
    return refused(lambda: load_checkpoint(directory), f"{path}: ")


def test_what_is_saved_is_loaded(directory: Path, quantized: Checkpoint) -> None:
    loaded = load_checkpoint(directory)
    assert_same_levels(loaded.quantization, quantized.quantization)
    assert loaded.weights.keys() == quantized.weights.keys()


def test_scales_of_channels_and_a_mean_are_kept(tmp_path: Path) -> None:
    checkpoint = create_quantized(tiny_config(), per_channel=True, pooled=WIDE, half_up=False)
    save(tmp_path, checkpoint)
    assert_same_levels(load_checkpoint(tmp_path).quantization, checkpoint.quantization)


def test_a_feature_extractor_has_no_classifier(tmp_path: Path) -> None:
    checkpoint = create_quantized(tiny_config(num_labels=0))
    save(tmp_path, checkpoint)
    loaded = load_checkpoint(tmp_path).quantization
    assert loaded
    assert "classifier" not in loaded.layers


def test_the_sums_cover_the_levels(directory: Path) -> None:
    path = directory / FILE
    assert hashlib.sha256(path.read_bytes()).hexdigest() in (directory / "SHA256SUMS").read_text()
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(InvalidCheckpointError, match="sha256 is not"):
        load_checkpoint(directory)


def test_the_digest_is_that_of_the_levels(directory: Path) -> None:
    expected = hashlib.sha256((directory / FILE).read_bytes()).hexdigest()
    assert load_checkpoint(directory).digest == expected


def test_float_weights_written_over_a_quantized_checkpoint_leave_no_levels(
    directory: Path,
) -> None:
    save(directory, create_checkpoint(tiny_config()))
    assert load_checkpoint(directory).quantization is None


@pytest.mark.thorough
def test_transformers_loads_the_dequantized_network(directory: Path, quantized: Checkpoint) -> None:
    from tests.optional import transformers

    loader: Any = transformers.AutoModelForImageClassification
    network, report = loader.from_pretrained(directory, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert quantized.quantization
    kernel, _ = quantized.quantization.layers[STEM].dequantize()
    assert np.array_equal(network.state_dict()[f"{STEM}.convolution.weight"].numpy(), kernel)


def test_an_identity_batch_norm_only_adds_the_bias(quantized: Checkpoint) -> None:
    weights = quantized.weights
    deviation = np.sqrt(
        weights[f"{STEM}.normalization.running_var"].astype(np.float64)
        + quantized.config.layer_norm_eps
    )
    np.testing.assert_allclose(deviation, 1, rtol=0, atol=1e-7)
    assert np.all(weights[f"{STEM}.normalization.weight"] == 1)
    assert np.all(weights[f"{STEM}.normalization.running_mean"] == 0)


@pytest.mark.parametrize(
    ("parameters", "hidden_act", "expected"),
    [
        (RELU6, "relu6", (0, 255)),
        (WIDE, "relu6", (37, 187)),
        (WIDE, "relu", (37, 255)),
        (WIDE, "linear", (0, 255)),
        (QuantizationParameters(0.01, 0), "relu6", (0, 255)),
        (QuantizationParameters(0.03, 0), "relu6", (0, 200)),
    ],
    ids=str,
)
def test_an_activation_cuts_levels(
    parameters: QuantizationParameters, hidden_act: str, expected: tuple[int, int]
) -> None:
    assert parameters.clip_levels(hidden_act) == expected


def test_an_activation_that_is_not_a_cut_is_refused(quantized: Checkpoint) -> None:
    assert quantized.quantization
    with pytest.raises(InvalidCheckpointError, match="'swish' cannot be quantized"):
        quantized.quantization.check(tiny_config(hidden_act="swish"))


def test_a_missing_tensor_is_refused_by_its_name(directory: Path) -> None:
    name = f"{STEM}.bias"
    assert refusal(directory, lambda tensors: tensors.pop(name)) == (f"has no tensor {name}")


def test_an_unknown_tensor_is_refused_by_its_name(directory: Path) -> None:
    text = refusal(directory, lambda tensors: tensors.update(other=np.zeros(1, np.uint8)))
    assert text == "has an unknown tensor 'other'"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (f"{STEM}.kernel", np.zeros((8, 3, 3, 3), np.int8)),
        (f"{STEM}.kernel", np.zeros((8, 3, 3), np.uint8)),
        (f"{STEM}.bias", np.zeros(7, np.int32)),
        (f"{STEM}.bias", np.zeros(8, np.float32)),
        (f"{STEM}.scales", np.ones(2, np.float32)),
        (f"{STEM}.zero_point", np.zeros((), np.int64)),
        ("pooled.half_up", np.zeros((), np.uint8)),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.dtype}{value.shape}",
)
def test_a_tensor_of_another_kind_is_refused(
    directory: Path, name: str, value: NDArray[Any]
) -> None:
    assert refusal(directory, lambda tensors: tensors.update({name: value})).startswith(
        f"{name} is"
    )


@pytest.mark.parametrize("scale", [0.0, -0.5, np.nan, np.inf], ids=str)
@pytest.mark.parametrize("name", ["input.scale", f"{STEM}.output.scale", "pooled.scale"])
def test_a_scale_that_is_not_finite_and_positive_is_refused(
    directory: Path, name: str, scale: float
) -> None:
    text = refusal(directory, lambda tensors: tensors.update({name: np.array(scale, np.float32)}))
    assert text == f"{name} is not finite and positive"


@pytest.mark.parametrize("scale", [0.0, -0.5, np.nan, np.inf, 1e38, 1e-45, 1e4], ids=str)
def test_a_kernel_s_scale_that_cannot_be_is_refused(directory: Path, scale: float) -> None:
    value = np.full(1, scale, np.float32)
    text = refusal(directory, lambda tensors: tensors.update({f"{STEM}.scales": value}))
    assert text.startswith(STEM)


def test_a_file_that_is_cut_is_refused(directory: Path) -> None:
    path = directory / FILE
    path.write_bytes(path.read_bytes()[:1000])
    (directory / "SHA256SUMS").unlink()
    with pytest.raises(InvalidCheckpointError, match="is cut"):
        load_checkpoint(directory)


def test_leading_layers_and_exact_logits_are_kept(tmp_path: Path) -> None:
    checkpoint = with_leading_layers()
    save(tmp_path, checkpoint)
    loaded = load_checkpoint(tmp_path).quantization
    assert_same_levels(loaded, checkpoint.quantization)
    assert loaded
    assert loaded.exact_logits
    assert list(loaded.leading) == [STEM, "mobilenet_v1.layer.0"]


def test_a_leading_layer_must_be_finite_and_whole(tmp_path: Path) -> None:
    save(tmp_path, with_leading_layers())

    def spoil(tensors: dict[str, NDArray[Any]]) -> None:
        tensors[f"{STEM}.bias"] = np.full_like(tensors[f"{STEM}.bias"], np.nan)

    assert "not finite" in refusal(tmp_path, spoil)
    save(tmp_path, with_leading_layers())
    missing = refusal(tmp_path, lambda tensors: tensors.pop(f"{STEM}.bias"))
    assert missing.endswith(f"has no tensor {STEM}.bias")


def test_a_layer_on_real_numbers_cannot_follow_one_on_levels(directory: Path) -> None:
    def make_real(tensors: dict[str, NDArray[Any]]) -> None:
        tensors["mobilenet_v1.layer.3.kernel"] = tensors["mobilenet_v1.layer.3.kernel"].astype(
            np.float32
        )

    assert "is float32" in refusal(directory, make_real)


def with_leading_layers() -> Checkpoint:
    """The stem and the first depthwise layer on real numbers."""
    checkpoint = create_quantized(tiny_config())
    quantization = checkpoint.quantization
    assert quantization
    layers = dict(quantization.layers)
    keys = list(layers)[:2]
    leading = {key: layers.pop(key).dequantize() for key in keys}
    mixed = replace(quantization, input=RELU6, layers=layers, leading=leading, exact_logits=True)
    return replace(checkpoint, quantization=mixed)
