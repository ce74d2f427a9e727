"""Bodies of the Open Inference Protocol, version 2."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, StrictBool
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

_SHAPE_RANK = 4
_MAX_ID = 1024

Dimension = Annotated[int, Field(ge=0, le=2**31 - 1)]

_T = TypeVar("_T")
_Absent = Annotated[_T, BeforeValidator(lambda value: {} if value is None else value)]
"""Parameters, which some clients send as null where they have none."""


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
    parameters: _Absent[InputParameters] = InputParameters()
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
    parameters: _Absent[OutputParameters] = OutputParameters()


class InferParameters(BaseModel):
    """Of the request; Triton's other ones are ignored."""

    binary_data_output: StrictBool = Field(
        default=False, description="Send outputs behind the JSON unless they say otherwise."
    )
    timeout: int | None = Field(
        None, ge=0, description="May lower the request's deadline, in microseconds; 0 does not."
    )


class InferRequest(BaseModel):
    """`image`, `pixels` or both, and which outputs are wanted: all, if none is named."""

    id: str | None = Field(None, max_length=_MAX_ID)
    parameters: _Absent[InferParameters] = InferParameters()
    inputs: list[InputTensor] = Field(max_length=16)
    outputs: list[WantedOutput] | None = Field(default=None, max_length=16)


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
    """The wanted outputs, in the order asked for; their rows are in that of the inputs."""

    id: NotRequired[str]
    model_name: str
    model_version: str
    outputs: list[OutputTensor]


class ServerMetadata(TypedDict):
    """What this server is."""

    name: str
    version: str
    extensions: list[str]


class Live(TypedDict):
    """KServe's word for a 200."""

    live: bool


class Ready(TypedDict):
    """KServe's word for a 200; `name` is the model's, if one was asked for."""

    name: NotRequired[str]
    ready: bool


class TensorMetadata(TypedDict):
    """A tensor that a model takes or gives; -1 is any number."""

    name: str
    datatype: Literal["BYTES", "UINT8", "FP32"]
    shape: list[int]


class ModelMetadata(TypedDict):
    """What a model takes, one of its inputs or both, and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
