"""Bodies of the Open Inference Protocol, version 2."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, Field, StrictBool
from typing_extensions import TypedDict  # pydantic's wish before Python 3.12

_SHAPE_RANK = 4
_MAX_ID = 1024

Dimension = Annotated[int, Field(ge=0, le=2**31 - 1)]


class InputParameters(BaseModel):
    """Of one input tensor; Triton's other ones are ignored."""

    binary_data_size: int | None = Field(
        None, ge=0, description="Bytes of this tensor behind the JSON, in the order of the inputs."
    )
    shared_memory_region: Any = Field(None, description="There is none: refused.")


class InputTensor(BaseModel):
    """`image`, BYTES [n]: encoded images; or `pixels`, UINT8 [n, height, width, 3]: RGB."""

    name: str
    shape: list[Dimension] = Field(max_length=_SHAPE_RANK)
    datatype: str
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = Field(
        None,
        description="Without `binary_data_size`: the numbers in row-major order, nested or not; "
        "of `image`, base64 or data: URIs.",
    )


class OutputParameters(BaseModel):
    """Of one wanted output."""

    binary_data: StrictBool | None = Field(None, description="Send it behind the JSON.")
    classification: int | None = Field(
        None, ge=1, description="Answer so many best classes instead, as `score:index:label`."
    )
    shared_memory_region: Any = Field(None, description="There is none: refused.")


class WantedOutput(BaseModel):
    """`probabilities`, `logits` or `embedding`."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferParameters(BaseModel):
    """Of the request; Triton's other ones are ignored."""

    binary_data_output: StrictBool = Field(
        default=False, description="Send outputs behind the JSON unless they say otherwise."
    )
    timeout: int | None = Field(
        None, ge=0, description="May lower the request's deadline, in microseconds; 0 does not."
    )


class InferRequest(BaseModel):
    """One input tensor, and which outputs are wanted: all of them, if none is named."""

    id: str | None = Field(None, max_length=_MAX_ID)
    parameters: InferParameters = InferParameters()
    inputs: list[InputTensor] = Field(max_length=16)
    outputs: list[WantedOutput] = Field(default=[], max_length=16)


class BinaryParameters(TypedDict):
    """How many bytes behind the JSON are this tensor's."""

    binary_data_size: int


class OutputTensor(TypedDict):
    """One output: `data`, row by row, or its bytes behind the JSON."""

    name: str
    datatype: str
    shape: list[int]
    parameters: NotRequired[BinaryParameters]
    data: NotRequired[list[float] | list[str]]


class InferResponse(TypedDict):
    """The wanted outputs, in the order asked for."""

    id: NotRequired[str]
    model_name: str
    outputs: list[OutputTensor]


class ServerMetadata(TypedDict):
    """What this server is."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(TypedDict):
    """A tensor that a model takes or gives; -1 is any number."""

    name: str
    datatype: Literal["BYTES", "UINT8", "FP32"]
    shape: list[int]


class ModelMetadata(TypedDict):
    """What a model takes, one of its inputs, and gives."""

    name: str
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ErrorResponse(TypedDict):
    """What went wrong, in a sentence."""

    error: str
