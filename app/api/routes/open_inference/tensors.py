"""Reads and writes tensors, in JSON and in the bytes behind it.

Every number is little-endian, and a BYTES element follows its length in four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from app.api.bodies.json_body import decode_base64, parse_json
from app.api.routes.open_inference.schemas import (
    InferRequest,
    InferResponse,
    InputTensor,
    OutputTensor,
    WantedOutput,
)
from app.errors import AppError, InvalidParameterError, MalformedRequestError
from app.inference.image import PIXELS, Image, ImageFile, ImagePixels
from app.inference.options import MAX_FILES
from model.checkpoints.checkpoint import Checkpoint
from model.checkpoints.labels import Label
from model.network.scores import top_k

IMAGE: Final = "image"
VERSION: Final = "1"
"""Of every model: a served model does not change."""
_CHANNELS: Final = 3
_LENGTH: Final = struct.Struct("<I")


def read_request(
    body: bytes, header_length: str | None, input_size: tuple[int, int]
) -> tuple[InferRequest, list[Image]]:
    """Parse a request and the images of all its tensors, in their order.

    Args:
        body: JSON, and the bytes behind it.
        header_length: length of the JSON, as the header says; None: all of the body.
        input_size: height and width that pixels must have.

    Raises:
        MalformedRequestError: the body cannot be parsed.
        InvalidParameterError: its parts contradict one another.
    """
    length = len(body)
    if header_length is not None:
        if not (header_length.isascii() and header_length.isdigit()) or int(header_length) > length:
            detail = "Inference-Header-Content-Length is not the length of the JSON in the body."
            raise MalformedRequestError(detail)
        length = int(header_length)
    request = parse_json(InferRequest, body[:length])
    rest = memoryview(body)[length:]
    _check_together(request, len(rest), input_size)
    images: list[Image] = []
    for tensor in request.inputs:
        size = tensor.parameters.binary_data_size or 0
        if tensor.name == IMAGE:
            images.extend(map(ImageFile, _read_files(tensor, rest[:size])))
        else:
            images.extend(map(ImagePixels, _read_pixels(tensor, rest[:size])))
        rest = rest[size:]
    return request, images


def _check_together(request: InferRequest, behind: int, input_size: tuple[int, int]) -> None:
    tensors = request.inputs
    if not tensors:
        raise _refuse(f"Give a tensor, `{IMAGE}` or `{PIXELS}`; a batch is its first dimension.")
    for tensor in tensors:
        _check(tensor, input_size)
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise _refuse("A tensor is named twice.")
    counts = [tensor.shape[0] for tensor in tensors]
    if not all(counts) or sum(counts) > MAX_FILES:
        raise _refuse(f"A request has at least 1 and at most {MAX_FILES} images.")
    if behind != sum(tensor.parameters.binary_data_size or 0 for tensor in tensors):
        raise _refuse("`binary_data_size` is not how many bytes there are behind the JSON.")
    if any(one.parameters.shared_memory_region is not None for one in request.outputs or ()):
        raise InvalidParameterError("outputs: There is no shared memory.", "outputs")


def _check(tensor: InputTensor, input_size: tuple[int, int]) -> None:
    known = {IMAGE: ("BYTES", []), PIXELS: ("UINT8", [*input_size, _CHANNELS])}
    if tensor.name not in known:
        raise _refuse(f"A tensor is named `{IMAGE}` or `{PIXELS}`.")
    datatype, shape = known[tensor.name]
    if tensor.datatype != datatype:
        raise _refuse(f"The datatype of `{tensor.name}` is {datatype}.")
    if not tensor.shape or tensor.shape[1:] != shape:
        raise _refuse(f"The shape of `{tensor.name}` is {[-1, *shape]}.")
    if tensor.parameters.shared_memory_region is not None:
        raise _refuse("There is no shared memory.")
    if (tensor.parameters.binary_data_size is None) == (tensor.data is None):
        raise _refuse("A tensor has `data`, or `binary_data_size` and its bytes; not both.")


def _read_files(tensor: InputTensor, rest: memoryview) -> list[bytes]:
    (count,) = tensor.shape
    if tensor.data is None:
        files = list(islice(_split(rest), count + 1))  # empty ones could be millions
    else:
        if not all(isinstance(text, str) for text in tensor.data):
            raise _refuse("In JSON, an image is base64 or a data: URI.")
        files = [decode_base64(text, f"{IMAGE}[{index}]") for index, text in enumerate(tensor.data)]
    if len(files) != count:
        raise _refuse(f"The shape of `{IMAGE}` is not how many elements there are.")
    return files


def _split(elements: memoryview) -> Iterator[bytes]:
    while elements:
        if len(elements) < _LENGTH.size:
            raise _refuse("A BYTES element follows its length in four bytes.")
        (length,) = _LENGTH.unpack_from(elements)
        elements = elements[_LENGTH.size :]
        if length > len(elements):
            raise _refuse("A BYTES element is longer than the bytes there are.")
        yield bytes(elements[:length])
        elements = elements[length:]


def _read_pixels(tensor: InputTensor, rest: memoryview) -> NDArray[np.uint8]:
    content: bytes | memoryview = rest
    if tensor.data is not None:
        content = _flatten(tensor.data, len(tensor.shape))
    if len(content) != np.prod(tensor.shape):
        raise _refuse(f"`{PIXELS}` has another number of values than its shape says.")
    return np.frombuffer(content, np.uint8).reshape(tensor.shape).copy()


def _flatten(values: list[Any], rank: int) -> bytes:
    try:
        for _ in range(rank - 1):
            if not isinstance(values[0], list):
                break
            values = list(chain.from_iterable(values))
        return bytes(values)
    except (IndexError, TypeError, ValueError) as error:
        raise _refuse(f"The values of `{PIXELS}` are integers from 0 to 255.") from error


def _refuse(why: str) -> AppError:
    return InvalidParameterError(f"inputs: {why}", "inputs")


def write_answer(
    request: InferRequest,
    outputs: Sequence[WantedOutput],
    arrays: Mapping[str, NDArray[np.float32]],
    checkpoint: Checkpoint,
) -> tuple[bytes, int | None]:
    """Write a response's body; also return the length of its JSON, None where it is all.

    The arrays are (n, classes) or (n, channels), by the outputs' names.
    """
    tensors: list[OutputTensor] = []
    behind: list[bytes] = []
    for output in outputs:
        values: NDArray[Any] = arrays[output.name]
        datatype = "FP32"
        if output.parameters.classification is not None:
            values = _classify(values, output.parameters.classification, checkpoint.labels)
            datatype = "BYTES"
        tensor: OutputTensor = {
            "name": output.name,
            "datatype": datatype,
            "shape": list(values.shape),
        }
        binary = output.parameters.binary_data
        if request.parameters.binary_data_output if binary is None else binary:
            behind.append(_to_bytes(values))
            tensor["parameters"] = {"binary_data_size": len(behind[-1])}
        else:
            tensor["data"] = values.ravel().tolist()
        tensors.append(tensor)
    answer: InferResponse = {
        "model_name": checkpoint.name,
        "model_version": VERSION,
        "outputs": tensors,
    }
    if request.id is not None:
        answer["id"] = request.id
    head = to_json(answer)
    return b"".join((head, *behind)), len(head) if behind else None


def _classify(
    scores: NDArray[np.float32], count: int, labels: Sequence[Label]
) -> NDArray[np.object_]:
    """Write the best classes of each row as Triton does; returns texts, (n, count)."""
    rows = [
        [f"{score:f}:{index}:{labels[index].label}" for index, score in top_k(row, count, -np.inf)]
        for row in scores
    ]
    return np.array(rows, dtype=object)


def _to_bytes(values: NDArray[Any]) -> bytes:
    if values.dtype != object:
        return values.astype("<f4", copy=False).tobytes()
    return b"".join(_LENGTH.pack(len(text)) + text for text in map(str.encode, values.flat))
