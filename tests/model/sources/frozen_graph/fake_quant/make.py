"""Make `graph.pb`, `graph.tflite` and `answers.npz` with TensorFlow 2.21, once.

    python tests/model/sources/frozen_graph/fake_quant/make.py

TensorFlow is no dependency of the project; an environment of its own with `tensorflow-cpu` runs
this. The released quantized graphs were written by tf.contrib.quantize, which is gone with
TensorFlow 1. What it added to TF-Slim's MobileNet V1 is written here operation by operation, under
its names: BatchNorm folded into the kernels (`BatchNorm_Fold`, `mul_fold`, `add_fold`), then
`weights_quant` and `act_quant`. TensorFlow runs it, and its converter makes the `.tflite` of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1

FOLDER = Path(__file__).parent
SIDE, CLASSES, MULTIPLIER, COUNT = 64, 11, 0.05, 8
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)
EPSILON = 0.001


class Network:
    """Random weights, and the operations around them."""

    def __init__(self, logits_range: tuple[float, float]) -> None:
        self.rng = np.random.default_rng(1)
        self.logits_range = logits_range

    def constant(self, name: str, value: Any) -> Any:
        """A frozen variable and its read operation."""
        variable = tf1.constant(np.asarray(value, np.float32), name=name)
        return tf1.identity(variable, name=f"{name}/read")

    def fake_quant(
        self, scope: str, name: str, tensor: Any, low: float, high: float, *, narrow: bool = False
    ) -> Any:
        """Levels of a range that is two variables."""
        return tf1.quantization.fake_quant_with_min_max_vars(
            tensor,
            self.constant(f"{scope}/{name}/min", low),
            self.constant(f"{scope}/{name}/max", high),
            num_bits=8,
            narrow_range=narrow,
            name=f"MobilenetV1/{scope}/{name}/FakeQuantWithMinMaxVars",
        )

    def layer(self, name: str, source: Any, channels: int, stride: int) -> Any:
        """A convolution with its BatchNorm folded in, ReLU6 and levels."""
        rng, depth = self.rng, int(source.shape[-1])
        scope, fold = f"MobilenetV1/{name}", f"MobilenetV1/MobilenetV1/{name}"
        depthwise = name.endswith("depthwise")
        side = 1 if name.endswith("pointwise") else 3
        shape = (3, 3, depth, 1) if depthwise else (side, side, depth, channels)
        fan_in = 9 if depthwise else side * side * depth
        kernel = rng.normal(0, np.sqrt(2 / fan_in), shape)
        variable = "depthwise_weights" if depthwise else "weights"
        weights = self.constant(f"{scope}/{variable}", kernel)
        gamma, beta, mean, variance = (
            self.constant(f"{scope}/BatchNorm/{part}", value)
            for part, value in (
                ("gamma", rng.uniform(0.7, 1.5, channels)),
                ("beta", rng.normal(0.5, 0.4, channels)),
                ("moving_mean", rng.normal(0, 0.3, channels)),
                ("moving_variance", rng.uniform(0.5, 1.5, channels)),
            )
        )
        folded = f"{fold}/BatchNorm_Fold"
        root = tf1.rsqrt(tf1.add(variance, EPSILON, name=f"{folded}/add"), name=f"{folded}/Rsqrt")
        factor = tf1.multiply(root, gamma, name=f"{folded}/mul")
        offset = tf1.multiply(mean, factor, name=f"{folded}/mul_1")
        bias = tf1.subtract(beta, offset, name=f"{folded}/bias")
        if depthwise:
            factor = tf1.reshape(factor, (depth, 1), name=f"{fold}/scale_reshape")
        scaled = tf1.multiply(weights, factor, name=f"{fold}/mul_fold")
        with tf1.Session() as session:
            values = session.run(scaled)
        scaled = self.fake_quant(
            scope, "weights_quant", scaled, values.min(), values.max(), narrow=True
        )
        if depthwise:
            strides = [1, stride, stride, 1]
            convolved = tf1.nn.depthwise_conv2d_native(
                source, scaled, strides, "SAME", name=f"{fold}/depthwise_Fold"
            )
        else:
            convolved = tf1.nn.conv2d(source, scaled, stride, "SAME", name=f"{fold}/Conv2D_Fold")
        active = tf1.nn.relu6(tf1.add(convolved, bias, name=f"{fold}/add_fold"), f"{fold}/Relu6")
        return self.fake_quant(scope, "act_quant", active, 0, rng.uniform(4, 6))

    def build(self, images: Any) -> Any:
        """From images in [-1, 1] to logits."""
        features = self.layer("Conv2d_0", images, 8, 2)
        for block, (depth, stride) in enumerate(BLOCKS, start=1):
            channels = int(features.shape[-1])
            features = self.layer(f"Conv2d_{block}_depthwise", features, channels, stride)
            out_channels = max(int(depth * MULTIPLIER), 8)
            features = self.layer(f"Conv2d_{block}_pointwise", features, out_channels, 1)
        side = int(features.shape[1])
        scope = "MobilenetV1/Logits"
        pooled = tf1.nn.avg_pool2d(features, side, 1, "VALID", name=f"{scope}/AvgPool_1a/AvgPool")
        name = f"{scope}/Conv2d_1c_1x1"
        depth = int(pooled.shape[-1])
        kernel = self.rng.normal(0, 2 / np.sqrt(depth), (1, 1, depth, CLASSES))
        weights = self.fake_quant(
            name,
            "weights_quant",
            self.constant(f"{name}/weights", kernel),
            kernel.min(),
            kernel.max(),
            narrow=True,
        )
        biases = self.constant(f"{name}/biases", self.rng.normal(0, 0.5, CLASSES))
        convolved = tf1.nn.conv2d(pooled, weights, 1, "VALID", name=f"{name}/Conv2D")
        logits = tf1.nn.bias_add(convolved, biases, name=f"{name}/BiasAdd")
        logits = self.fake_quant(name, "act_quant", logits, *self.logits_range)
        squeezed = tf1.squeeze(logits, [1, 2], name=f"{scope}/SpatialSqueeze")
        tf1.nn.softmax(squeezed, name="MobilenetV1/Predictions/Reshape_1")
        return squeezed


def run(pixels: Any, logits_range: tuple[float, float]) -> tuple[Any, Any]:
    """The graph, and its logits."""
    graph = tf.Graph()
    with graph.as_default():
        images = tf1.placeholder(tf.float32, (1, SIDE, SIDE, 3), name="input")
        logits = Network(logits_range).build(images)
        with tf1.Session(graph=graph) as session:
            rows = [session.run(logits, {images: row[None]}) for row in (pixels - 128.0) / 128]
    return graph.as_graph_def(), np.concatenate(rows)


def main() -> None:
    """Write the three files."""
    pixels = np.random.default_rng(2).integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)
    pixels[: COUNT // 2] = np.sort(pixels[: COUNT // 2], axis=1)
    _, logits = run(pixels, (-100.0, 100.0))
    definition, logits = run(pixels, (float(logits.min()) - 0.3, float(logits.max()) + 0.3))
    (FOLDER / "graph.pb").write_bytes(definition.SerializeToString())
    np.savez_compressed(FOLDER / "answers.npz", pixels=pixels, logits=logits)
    converter = tf1.lite.TFLiteConverter.from_frozen_graph(
        str(FOLDER / "graph.pb"), ["input"], ["MobilenetV1/Predictions/Reshape_1"]
    )
    converter.inference_type = tf.uint8
    converter.quantized_input_stats = {"input": (128.0, 128.0)}
    (FOLDER / "graph.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    main()
