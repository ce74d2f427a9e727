"""Reads images from requests: multipart, raw body, or base64 in JSON."""

from __future__ import annotations

from functools import partial
from typing import Annotated, TypeVar

from pydantic import BaseModel, FailFast, Field, ValidationError
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from app.api.bodies.json_body import decode_base64, list_errors, offload, read_json
from app.api.validation import explain
from app.errors import (
    EmptyFileError,
    MalformedMultipartError,
    MissingFileError,
    TooManyFilesError,
    UnsupportedContentEncodingError,
    UnsupportedMediaTypeError,
)

_Body = TypeVar("_Body", bound=BaseModel)

_FIELD = b"file"
_MAX_PARTS = 100
_MAX_BOUNDARY_BYTES = 200


class ImageBody(BaseModel):
    """One image in JSON."""

    image: str = Field(description="base64, or a data: URI with base64")


class ImagesBody(BaseModel):
    """Several images in JSON."""

    images: Annotated[list[str], FailFast()] = Field(
        description="base64, or data: URIs with base64", min_length=1
    )


async def read_image(request: Request) -> bytes:
    """Read the one image in a request's body.

    Raises:
        UnsupportedContentEncodingError, UnsupportedMediaTypeError: the headers promise no image.
        MalformedMultipartError, MalformedRequestError: the body is not what the headers promise.
        MissingFileError, EmptyFileError, TooManyFilesError, InvalidParameterError: see there.
        BodyTooLargeError, RequestTimeoutError: raised by the middleware that bounds the body.
    """
    media_type, parameters = _content_type(request)
    if media_type == "multipart/form-data":
        (image,) = await _read_multipart(request, parameters, max_files=1)
    elif media_type.startswith("image/") or media_type == "application/octet-stream":
        image = await request.body()
    elif media_type == "application/json":
        body = await request.body()
        image = await offload(len(body), partial(_parse_image, body))
    else:
        raise UnsupportedMediaTypeError
    if not image:
        raise EmptyFileError
    return image


async def read_images(request: Request, max_files: int) -> list[bytes]:
    """Read the images in the body of a batch request, in order; each may be empty.

    Raises:
        As `read_image`, except EmptyFileError.
    """
    media_type, parameters = _content_type(request)
    if media_type == "multipart/form-data":
        return await _read_multipart(request, parameters, max_files)
    if media_type == "application/json":
        body = await request.body()
        return await offload(len(body), partial(_parse_images, body, max_files))
    raise UnsupportedMediaTypeError(
        "Send the images as multipart/form-data, or in application/json."
    )


async def read_body(request: Request) -> bytes:
    """Read a request's body as it is.

    Raises:
        UnsupportedContentEncodingError: the body is compressed.
        BodyTooLargeError, RequestTimeoutError: raised by the middleware that bounds the body.
    """
    _check_encoding(request)
    return await request.body()


def _check_encoding(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedContentEncodingError


def _content_type(request: Request) -> tuple[str, dict[bytes, bytes]]:
    _check_encoding(request)
    media_type, parameters = parse_options_header(request.headers.get("content-type", ""))
    return media_type.decode("latin-1").lower(), parameters


def _parse_image(body: bytes) -> bytes:
    return decode_base64(_parse_json(ImageBody, body).image)


def _parse_images(body: bytes, max_files: int) -> list[bytes]:
    images = _parse_json(ImagesBody, body).images
    if len(images) > max_files:
        raise TooManyFilesError
    # One at a time, so that there are never two copies of all images.
    return [decode_base64(images.pop(0)) for _ in range(len(images))]


def _parse_json(schema: type[_Body], body: bytes) -> _Body:
    try:
        return read_json(schema, body)
    except ValidationError as error:
        errors = list_errors(error)
        if errors[0]["type"] in {"missing", "too_short"}:
            raise MissingFileError from error
        raise explain(errors) from error


async def _read_multipart(
    request: Request, parameters: dict[bytes, bytes], max_files: int
) -> list[bytes]:
    boundary = parameters.get(b"boundary", b"")
    if not 0 < len(boundary) <= _MAX_BOUNDARY_BYTES:
        raise MalformedMultipartError
    form = _Form(boundary, max_files)
    try:
        async for chunk in request.stream():
            form.feed(chunk)
        return form.finish()
    finally:
        form.close()


class _Form:
    """Collects the file parts of a multipart body in memory, as it arrives.

    The parser bounds the headers of a part: eight, of four kilobytes each.
    """

    def __init__(self, boundary: bytes, max_files: int) -> None:
        self._max_files = max_files
        self._files: list[bytearray] = []
        self._parts = 0
        self._complete = False
        self._start_part()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._start_part,
                "on_header_field": self._extend_name,
                "on_header_value": self._extend_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._open_part,
                "on_part_data": self._extend_part,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        if not chunk:
            return
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise MalformedMultipartError from error

    def finish(self) -> list[bytes]:
        if not self._complete:
            raise MalformedMultipartError
        if not self._files:
            raise MissingFileError
        self._start_part()  # releases the last file
        # One at a time, so that there are never two copies of all images.
        return [bytes(self._files.pop(0)) for _ in range(len(self._files))]

    def close(self) -> None:
        """Release the parser: a reference cycle would wait for the garbage collector."""
        del self._parser

    def _start_part(self) -> None:
        self._name = self._value = self._disposition = b""
        self._target: bytearray | None = None

    def _extend_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _extend_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _open_part(self) -> None:
        self._parts += 1
        if self._parts > max(_MAX_PARTS, self._max_files):
            raise TooManyFilesError
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise MalformedMultipartError
        # The parser drops RFC 5987's `filename*`, which also marks a file.
        is_file = b"filename" in options or b"filename*" in self._disposition.lower()
        if options[b"name"] != _FIELD or not is_file:
            return
        if len(self._files) == self._max_files:
            raise TooManyFilesError
        self._target = bytearray()
        self._files.append(self._target)

    def _extend_part(self, data: bytes, start: int, end: int) -> None:
        if self._target is not None:
            self._target += data[start:end]

    def _end(self) -> None:
        self._complete = True
