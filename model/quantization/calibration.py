"""Runs images through the float network, and keeps what choosing levels needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from model.engines.onnx.graph import PIXELS
from model.engines.onnx.model import create_model
from model.network.config import CLASSIFIER, LOGITS, POOLED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.checkpoints.checkpoint import Checkpoint
    from model.network.config import ConvLayer

_BATCH_SIZE = 8
_POSITIONS = 64
"""Positions of a layer's kernels that are looked at in one image; the last maps have 49."""
_FATAL = 4


@dataclass
class Moments:
    """Sums over what the kernels of one layer see.

    Attributes:
        count: of kernel positions.
        sums: of each input of a kernel, (groups, inputs).
        products: of each pair of them, (groups, inputs, inputs).
    """

    count: int
    sums: NDArray[np.float64]
    products: NDArray[np.float64]

    @classmethod
    def of(cls, inputs: NDArray[np.float64]) -> Moments:
        """Sum inputs of shape (groups, inputs, positions)."""
        return cls(inputs.shape[2], inputs.sum(axis=2), inputs @ inputs.transpose(0, 2, 1))

    def add(self, other: Moments) -> None:
        """Add those of other images."""
        self.count += other.count
        self.sums += other.sums
        self.products += other.products

    @property
    def mean(self) -> NDArray[np.float64]:
        """Of each input, (groups, inputs)."""
        return self.sums / self.count

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Of each pair of inputs, (groups, inputs, inputs)."""
        return self.products / self.count - self.mean[:, :, None] * self.mean[:, None, :]


class Calibration:
    """What the float network does on images.

    Attributes:
        inputs: what the kernels of each layer see, by the layer's key.
        ranges: the least and the greatest value, 0 among them, of each layer's output by its key,
            and of `pooled`.
    """

    def __init__(self) -> None:
        self.inputs: dict[str, Moments] = {}
        self.ranges: dict[str, tuple[float, float]] = {}

    def see(self, key: str, inputs: NDArray[np.float32]) -> None:
        """Add inputs of a layer, (groups, inputs, positions)."""
        moments = Moments.of(inputs.astype(np.float64))
        if key in self.inputs:
            self.inputs[key].add(moments)
        else:
            self.inputs[key] = moments

    def widen(self, name: str, output: NDArray[np.float32]) -> None:
        """Let a range hold these values."""
        low, high = self.ranges.get(name, (0.0, 0.0))
        self.ranges[name] = min(low, float(output.min())), max(high, float(output.max()))


def calibrate(checkpoint: Checkpoint, pixels: NDArray[np.uint8], threads: int) -> Calibration:
    """Run a float classifier on preprocessed images, (n, height, width, 3)."""
    session = _create_session(checkpoint, threads)
    names = [output.name for output in session.get_outputs()]
    scale, offset = checkpoint.preprocessing.scale_and_offset()
    rng = np.random.default_rng(0)
    calibration = Calibration()
    for start in range(0, len(pixels), _BATCH_SIZE):
        batch = pixels[start : start + _BATCH_SIZE]
        maps = dict(zip(names, session.run(names, {PIXELS: batch}), strict=True))
        source = (batch / scale - offset).transpose(0, 3, 1, 2)
        for layer in checkpoint.config.layers:
            seen = _sample(source, layer, rng, tf_padding=checkpoint.config.tf_padding)
            calibration.see(layer.key, seen)
            source = maps[_map(layer)]
            calibration.widen(layer.key, source)
        calibration.see(CLASSIFIER, maps[POOLED].T[None])
        calibration.widen(POOLED, maps[POOLED])
        calibration.widen(CLASSIFIER, maps[LOGITS])
    return calibration


def _create_session(checkpoint: Checkpoint, threads: int) -> onnxruntime.InferenceSession:
    model = create_model(checkpoint)
    model.graph.output.extend(
        helper.make_tensor_value_info(_map(layer), TensorProto.FLOAT, None)
        for layer in checkpoint.config.layers
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _FATAL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _map(layer: ConvLayer) -> str:
    """Name of a layer's output in the graph, before it is transposed for a client."""
    return f"{layer.end_point}/map"


def _sample(
    source: NDArray[Any], layer: ConvLayer, rng: np.random.Generator, *, tf_padding: bool
) -> NDArray[np.float32]:
    """What a layer's kernels see at some positions: (groups, inputs, positions).

    Args:
        source: the layer's input, (n, channels, height, width).
        layer: without dilation.
        rng: chooses the positions.
        tf_padding: see `MobileNetV1Config`.
    """
    sizes = np.array(source.shape[2:])
    outputs = -(-sizes // layer.stride)
    spanned = (outputs - 1) * layer.stride + layer.kernel_size
    total = np.maximum(spanned - sizes, 0)
    before = total // 2 if tf_padding else np.full(2, layer.kernel_size // 2)
    after = np.maximum(total - before, 0)
    padded = np.pad(source, ((0, 0), (0, 0), *zip(before, after, strict=True)))
    count = min(int(outputs.prod()), _POSITIONS)
    chosen = rng.choice(outputs.prod(), count, replace=False)
    rows, columns = (part * layer.stride for part in np.divmod(chosen, outputs[1]))
    seen = np.stack(
        [
            padded[:, :, rows + row, columns + column]
            for row, column in np.ndindex(layer.kernel_size, layer.kernel_size)
        ],
        axis=2,
    )  # (n, channels, places in the kernel, positions)
    by_channel: NDArray[np.float32] = seen.transpose(1, 2, 0, 3)
    return by_channel.reshape(layer.groups, -1, len(source) * count)
