"""Reads and writes tensors, in JSON and in the bytes behind it.

Every number is little-endian, and a BYTES element follows its length in four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from app.inference.image import Image, ImageFile, ImagePixels
from model.checkpoints.labels import Label
from model.network.scores import top_k

IMAGE: Final = "image"
PIXELS: Final = "pixels"
VERSION: Final = "1"
"""Of every model: a served model does not change."""
_CHANNELS: Final = 3
_LENGTH: Final = struct.Struct("<I")


def read_request(
    body: bytes, header_length: str | None, input_size: tuple[int, int], max_images: int
) -> tuple[InferRequest, list[Image]]:
    """Parse a request and the images of all its tensors, in their order.

    Args:
        body: JSON, and the bytes behind it.
        header_length: length of the JSON, as the header says; None: all of the body.
        input_size: height and width that pixels must have.
        max_images: of one request.

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
    _check_together(request, len(rest), input_size, max_images)
    images: list[Image] = []
    for tensor in request.inputs:
        size = tensor.parameters.binary_data_size or 0
        if tensor.name == IMAGE:
            images.extend(map(ImageFile, _read_files(tensor, rest[:size])))
        else:
            images.extend(map(ImagePixels, _read_pixels(tensor, rest[:size])))
        rest = rest[size:]
    return request, images


def _check_together(
    request: InferRequest, behind: int, input_size: tuple[int, int], max_images: int
) -> None:
    tensors = request.inputs
    if not tensors:
        raise _refuse(f"Give a tensor, `{IMAGE}` or `{PIXELS}`; a batch is its first dimension.")
    for tensor in tensors:
        _check(tensor, input_size, max_images)
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise _refuse("A tensor is named twice.")
    if sum(tensor.shape[0] for tensor in tensors) > max_images:
        raise _refuse(f"A request has at most {max_images} images.")
    if behind != sum(tensor.parameters.binary_data_size or 0 for tensor in tensors):
        raise _refuse("`binary_data_size` is not how many bytes there are behind the JSON.")
    if any(one.parameters.shared_memory_region is not None for one in request.outputs or ()):
        raise InvalidParameterError("outputs: There is no shared memory.", "outputs")


def _check(tensor: InputTensor, input_size: tuple[int, int], max_images: int) -> None:
    known = {IMAGE: ("BYTES", []), PIXELS: ("UINT8", [*input_size, _CHANNELS])}
    if tensor.name not in known:
        raise _refuse(f"A tensor is named `{IMAGE}` or `{PIXELS}`.")
    datatype, shape = known[tensor.name]
    if tensor.datatype != datatype:
        raise _refuse(f"The datatype of `{tensor.name}` is {datatype}.")
    if not tensor.shape or tensor.shape[1:] != shape:
        raise _refuse(f"The shape of `{tensor.name}` is {[-1, *shape]}.")
    if not 1 <= tensor.shape[0] <= max_images:
        raise _refuse(f"A request has at least 1 and at most {max_images} images.")
    if tensor.parameters.shared_memory_region is not None:
        raise _refuse("There is no shared memory.")
    size = tensor.parameters.binary_data_size
    if size is None and tensor.data is None:
        raise _refuse("A tensor has `data`, or `binary_data_size` and bytes behind the JSON.")
    if size is not None and tensor.data is not None:
        raise _refuse("A tensor has `data` or `binary_data_size`, not both.")


def _read_files(tensor: InputTensor, rest: memoryview) -> list[bytes]:
    (count,) = tensor.shape
    if tensor.data is None:
        files = list(islice(_split(rest), count + 1))  # empty ones could be millions
    else:
        files = [_decode(text, index) for index, text in enumerate(tensor.data)]
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


def _decode(text: object, index: int) -> bytes:
    if not isinstance(text, str):
        raise _refuse("In JSON, an image is base64 or a data: URI.")
    try:
        return decode_base64(text)
    except InvalidParameterError as error:
        raise error.at(f"{IMAGE}[{index}]") from error


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
    model: str,
    outputs: Sequence[WantedOutput],
    arrays: Mapping[str, NDArray[np.float32]],
    labels: Sequence[Label],
) -> tuple[bytes, int | None]:
    """Write a response's body; also return the length of its JSON, None where it is all.

    Args:
        request: the request.
        model: name of the model.
        outputs: the requested ones, in order.
        arrays: by output, (n, classes) or (n, channels).
        labels: of the classes.
    """
    tensors: list[OutputTensor] = []
    behind: list[bytes] = []
    for output in outputs:
        array = arrays[output.name]
        binary = output.parameters.binary_data
        if binary is None:
            binary = request.parameters.binary_data_output
        if output.parameters.classification is None:
            tensor, content = _numbers(output.name, array, binary=binary)
        else:
            texts = _classify(array, output.parameters.classification, labels)
            tensor, content = _texts(output.name, texts, len(array), binary=binary)
        tensors.append(tensor)
        behind += content
    answer: InferResponse = {"model_name": model, "model_version": VERSION, "outputs": tensors}
    if request.id is not None:
        answer["id"] = request.id
    head = to_json(answer)
    return b"".join((head, *behind)), len(head) if behind else None


def _numbers(
    name: str, array: NDArray[np.float32], *, binary: bool
) -> tuple[OutputTensor, list[bytes]]:
    tensor: OutputTensor = {"name": name, "datatype": "FP32", "shape": list(array.shape)}
    if not binary:
        tensor["data"] = array.ravel().tolist()
        return tensor, []
    content = array.astype("<f4", copy=False).tobytes()
    tensor["parameters"] = {"binary_data_size": len(content)}
    return tensor, [content]


def _texts(
    name: str, texts: list[str], rows: int, *, binary: bool
) -> tuple[OutputTensor, list[bytes]]:
    shape = [rows, len(texts) // rows]
    tensor: OutputTensor = {"name": name, "datatype": "BYTES", "shape": shape}
    if not binary:
        tensor["data"] = texts
        return tensor, []
    content = b"".join(_LENGTH.pack(len(text)) + text for text in map(str.encode, texts))
    tensor["parameters"] = {"binary_data_size": len(content)}
    return tensor, [content]


def _classify(
    scores: Iterable[NDArray[np.float32]], count: int, labels: Sequence[Label]
) -> list[str]:
    """Write the best classes of each row as Triton does."""
    return [
        f"{score:f}:{class_id}:{labels[class_id].label}"
        for row in scores
        for class_id, score in top_k(row, count, -np.inf)
    ]
