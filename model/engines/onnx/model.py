"""Writes a checkpoint as an ONNX model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.engines.onnx.float_graph import FloatGraph
from model.engines.onnx.quantized_graph import QuantizedGraph
from model.network.config import LOGITS, POOLED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto

    from model.checkpoints.checkpoint import Checkpoint


def create_model(
    checkpoint: Checkpoint,
    outputs: Sequence[str] = (LOGITS, POOLED),
    output_stride: int = 32,
    *,
    signed_kernels: bool = False,
) -> ModelProto:
    """Write a checkpoint's float weights, or its levels if it is quantized.

    Args:
        checkpoint: to write.
        outputs: names as in `EngineOutput`; nothing deeper is written.
        output_stride: see `MobileNetV1Config.layers_at`.
        signed_kernels: see `QuantizedGraph`.

    Raises:
        UnsupportedModelError: no operator is known for the checkpoint's `hidden_act`.
    """
    quantization = checkpoint.quantization
    graph = (
        QuantizedGraph(checkpoint, quantization, signed_kernels=signed_kernels)
        if quantization
        else FloatGraph(checkpoint)
    )
    return graph.create_model(outputs, output_stride)
