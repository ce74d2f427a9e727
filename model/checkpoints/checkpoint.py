"""A checkpoint on disk: configuration, preprocessing and weights, in Hugging Face's layout.

A directory holds `config.json`, `preprocessor_config.json` and `model.safetensors`, which
`transformers` reads and writes too. A quantized one adds `quantization.safetensors`, which is what
runs; its float weights are the dequantized ones, and may be left out. `save_checkpoint` adds
`SHA256SUMS` (`sha256sum -c` checks it by hand); where it is present, loading verifies every file in
it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from model.checkpoints.labels import Label, create_labels
from model.checkpoints.quantization_file import read_quantization, write_quantization
from model.errors import InvalidCheckpointError, named_in_errors
from model.images.preprocessor_config import Preprocessing
from model.network.config import MIN_IMAGE_SIDE, MobileNetV1Config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from model.network.quantization import Quantization

DEFAULT_DIRECTORY = Path(__file__).parents[1] / "weights" / "mobilenet_v1_1.0_224"

_CONFIG, _PREPROCESSOR, _WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
_QUANTIZATION = "quantization.safetensors"
FILES = (_CONFIG, _PREPROCESSOR, _WEIGHTS, _QUANTIZATION)

_SUMS = "SHA256SUMS"
_COUNTER = "num_batches_tracked"  # of training steps
_PREFIX, _CLASSIFIER = "mobilenet_v1.", "classifier."
_FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
_NORMALIZATION = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Checkpoint:
    """A network that can be run.

    Attributes:
        weights: float32 arrays under transformers' names; kernels are (out, in / groups, h, w).
        digest: sha256, in hexadecimal, of the file that runs: `model.safetensors` or
            `quantization.safetensors`.
        quantization: the same network on 8-bit levels, if it was quantized.
    """

    name: str
    config: MobileNetV1Config
    preprocessing: Preprocessing
    weights: Mapping[str, NDArray[np.float32]]
    digest: str
    quantization: Quantization | None = None

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        """One label for each class, in the order of the logits."""
        return create_labels(self.config.id2label)


def expected_shapes(config: MobileNetV1Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of a configuration."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in config.layers:
        shapes[f"{layer.key}.convolution.weight"] = layer.weight_shape
        for part in _NORMALIZATION:
            shapes[f"{layer.key}.normalization.{part}"] = (layer.out_channels,)
    if config.num_labels:
        shapes["classifier.weight"] = (config.num_labels, config.num_features)
        shapes["classifier.bias"] = (config.num_labels,)
    return shapes


def load_checkpoint(directory: Path) -> Checkpoint:
    """Load and verify a checkpoint directory in Hugging Face's layout; it gives the name.

    Weights without a classifier are a feature extractor: it has no labels, whatever `config.json`
    says. `transformers` saves one (`MobileNetV1Model`) with two labels and shorter names.

    Raises:
        InvalidCheckpointError: a file is missing or damaged, or the weights do not fit the
            configuration.
    """
    data = _read_tensor_files(directory)
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in data.items()}
    _verify_sums(directory, digests)
    config = MobileNetV1Config.load(directory / _CONFIG)
    preprocessing = Preprocessing.load(directory / _PREPROCESSOR)
    with named_in_errors(directory / _PREPROCESSOR):
        check_input_size(preprocessing)
    weights: Mapping[str, NDArray[np.float32]] = {}
    if _WEIGHTS in data:
        with named_in_errors(directory / _WEIGHTS):
            weights = _read_weights(data[_WEIGHTS])
            if not any(name.startswith(_CLASSIFIER) for name in weights):
                config = config.model_copy(update={"id2label": {}})
            check_weights(weights, config)
    quantization = None
    if _QUANTIZATION in data:
        with named_in_errors(directory / _QUANTIZATION):
            quantization = read_quantization(data[_QUANTIZATION], config)
            weights = weights or quantization.dequantize(config)
    return Checkpoint(
        directory.resolve().name,
        config,
        preprocessing,
        weights,
        digest=digests[_QUANTIZATION if quantization else _WEIGHTS],
        quantization=quantization,
    )


def save_checkpoint(
    directory: Path,
    config: MobileNetV1Config,
    preprocessing: Preprocessing,
    weights: Mapping[str, NDArray[np.float32]] | None,
    quantization: Quantization | None = None,
) -> None:
    """Write a checkpoint directory, with the sums that `load_checkpoint` verifies.

    Without `weights`, it holds the quantized network alone.

    Raises:
        InvalidCheckpointError: the weights do not fit the configuration.
    """
    with named_in_errors(directory):
        if weights is not None:
            check_weights(weights, config)
        if quantization:
            quantization.check(config)
    directory.mkdir(parents=True, exist_ok=True)
    config.save(directory / _CONFIG)
    preprocessing.save(directory / _PREPROCESSOR)
    contents = {
        _WEIGHTS: None if weights is None else _write_weights(weights, config),
        _QUANTIZATION: write_quantization(quantization) if quantization else None,
    }
    files = [_CONFIG, _PREPROCESSOR]
    for file, content in contents.items():
        # One left by an earlier checkpoint would be taken for this one's.
        (directory / file).unlink(missing_ok=True)
        if content is not None:
            (directory / file).write_bytes(content)
            files.append(file)
    sums = {
        file: hashlib.sha256((directory / file).read_bytes()).hexdigest() for file in sorted(files)
    }
    lines = [f"{digest}  {file}\n" for file, digest in sums.items()]
    (directory / _SUMS).write_text("".join(lines), encoding="ascii")


def check_input_size(preprocessing: Preprocessing) -> None:
    """Raise `InvalidCheckpointError` if preprocessing gives less than the network can see."""
    height, width = preprocessing.input_size
    if min(height, width) < MIN_IMAGE_SIDE:
        raise InvalidCheckpointError(
            f"has input size {height}x{width}, but sides must be at least {MIN_IMAGE_SIDE}"
        )


def check_weights(weights: Mapping[str, NDArray[np.float32]], config: MobileNetV1Config) -> None:
    """Check that weights fit their configuration.

    Raises:
        InvalidCheckpointError: one is missing, unknown, of another shape, or not finite.
    """
    expected = expected_shapes(config)
    for name, shape in expected.items():
        if name not in weights:
            raise InvalidCheckpointError(f"has no tensor {name}")
        if weights[name].shape != shape:
            raise InvalidCheckpointError(
                f"{name} has shape {weights[name].shape}, the configuration wants {shape}"
            )
        if not np.isfinite(weights[name]).all():
            raise InvalidCheckpointError(f"{name} has values that are not finite")
        if name.endswith("running_var") and weights[name].min() < 0:
            raise InvalidCheckpointError(f"{name} has negative values")
    if unknown := sorted(weights.keys() - expected.keys()):
        raise InvalidCheckpointError(f"has an unknown tensor {unknown[0]!r}")


def _verify_sums(directory: Path, known: Mapping[str, str]) -> None:
    """Compare the files with `SHA256SUMS`, if there is one; `known` holds sums already taken."""
    try:
        lines = (directory / _SUMS).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidCheckpointError(f"{directory / _SUMS}: cannot be read") from error
    for line in lines:
        expected, _, file = line.partition("  ")
        path = directory / file
        if not file or path.parent != directory:
            raise InvalidCheckpointError(f"{directory / _SUMS}: has a line that is not a sum")
        actual = known.get(file) or hashlib.sha256(_read(path)).hexdigest()
        if actual != expected:
            raise InvalidCheckpointError(f"{path}: sha256 is not the one in {_SUMS}")


def _read_tensor_files(directory: Path) -> dict[str, bytes]:
    if not directory.is_dir():
        raise InvalidCheckpointError(f"{directory}: is not a directory")
    files = [file for file in (_WEIGHTS, _QUANTIZATION) if (directory / file).exists()]
    if not files:
        raise InvalidCheckpointError(
            f"{directory / _WEIGHTS}: is missing; a pickle (pytorch_model.bin) is not read, as it "
            "can run code: load it with transformers and write it with save_pretrained"
        )
    return {file: _read(directory / file) for file in files}


def _read(path: Path) -> bytes:
    with named_in_errors(path):
        return path.read_bytes()


def _write_weights(weights: Mapping[str, NDArray[np.float32]], config: MobileNetV1Config) -> bytes:
    tensors: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(value) for name, value in sorted(weights.items())
    }
    # transformers misses these counters, and requires the format.
    tensors |= {
        f"{layer.key}.normalization.{_COUNTER}": np.zeros((), np.int64) for layer in config.layers
    }
    return safetensors.numpy.save(tensors, metadata={"format": "pt"})


def _read_weights(data: bytes) -> dict[str, NDArray[np.float32]]:
    """Read a safetensors file under transformers' full names, as float32."""
    try:
        tensors = safetensors.deserialize(data)  # type: ignore[no-untyped-call]  # it has no types
    except SafetensorError as error:
        raise InvalidCheckpointError("is not a safetensors file, or is cut") from error
    weights = {
        name: _to_float32(name, tensor) for name, tensor in tensors if not name.endswith(_COUNTER)
    }
    if any(name.startswith(_PREFIX) for name in weights):
        return weights
    return {
        name if name.startswith(_CLASSIFIER) else _PREFIX + name: value
        for name, value in weights.items()
    }


def _to_float32(name: str, tensor: Mapping[str, Any]) -> NDArray[np.float32]:
    """NumPy has no bfloat16: it is the upper half of a float32."""
    data, dtype = tensor["data"], tensor["dtype"]
    if dtype == "BF16":
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif dtype in _FLOATS:
        values = np.frombuffer(data, _FLOATS[dtype]).astype(np.float32)
    else:
        raise InvalidCheckpointError(f"{name!r} is of type {dtype}, not a float")
    return values.reshape(tensor["shape"])
