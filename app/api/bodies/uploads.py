"""Reads images from requests: multipart, raw body, or base64 in JSON."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator
from typing import Annotated

from pydantic import BaseModel, FailFast
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header
from starlette.requests import Request

from app import errors
from app.api.bodies.json_body import decode_base64, offload, parse_json
from app.inference.options import MAX_FILES

# What most clients send needs no parser, which takes as long as all else that a request costs here.
_USUAL_CONTENT_TYPE = re.compile(r"multipart/form-data; boundary=([\w-]+)", re.ASCII)
_USUAL_HEAD = re.compile(
    rb'Content-Disposition: form-data; name="file"; filename="[^"\\\r\n]{0,255}"\r\n'
    rb"(?:Content-Type: [\w/+.-]{1,100}\r\n)?\r\n"
)

_MAX_PARTS = 100
_MAX_BOUNDARY_BYTES = 200


class ImageBody(BaseModel):
    """One image in JSON: base64, or a data: URI."""

    image: str = ""


class ImagesBody(BaseModel):
    """Several images in JSON: base64, or data: URIs."""

    images: Annotated[list[str], FailFast()] = []


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
        (image,) = await _read_form(request, parameters, max_files=1)
    elif media_type.startswith("image/") or media_type == "application/octet-stream":
        image = await request.body()
    elif media_type == "application/json":
        body = await request.body()
        image = await offload(len(body), _parse_image, body)
    else:
        raise errors.UnsupportedMediaTypeError
    if not image:
        raise errors.EmptyFileError
    return image


async def read_images(request: Request) -> list[bytes]:
    """Read the images, at most `MAX_FILES`, in a body in their order; each may be empty.

    Raises:
        As `read_image`, except EmptyFileError.
    """
    media_type, parameters = _content_type(request)
    if media_type == "multipart/form-data":
        return await _read_form(request, parameters, MAX_FILES)
    if media_type == "application/json":
        body = await request.body()
        return await offload(len(body), _parse_images, body)
    raise errors.UnsupportedMediaTypeError(
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
        raise errors.UnsupportedContentEncodingError


def _content_type(request: Request) -> tuple[str, dict[bytes, bytes]]:
    _check_encoding(request)
    content_type = request.headers.get("content-type", "")
    if usual := _USUAL_CONTENT_TYPE.fullmatch(content_type):
        return "multipart/form-data", {b"boundary": usual[1].encode()}
    media_type, parameters = parse_options_header(content_type)
    return media_type.decode("latin-1").lower(), parameters


def _parse_image(body: bytes) -> bytes:
    document = parse_json(ImageBody, body)
    if not document.model_fields_set:
        raise errors.MissingFileError
    return decode_base64(document.image)


def _parse_images(body: bytes) -> list[bytes]:
    images = parse_json(ImagesBody, body).images
    if not images:
        raise errors.MissingFileError
    if len(images) > MAX_FILES:
        raise errors.TooManyFilesError
    # One at a time, so that there are never two copies of all images.
    return [decode_base64(images.pop(0)) for _ in range(len(images))]


async def _read_form(
    request: Request, parameters: dict[bytes, bytes], max_files: int
) -> list[bytes]:
    boundary = parameters.get(b"boundary", b"")
    if not 0 < len(boundary) <= _MAX_BOUNDARY_BYTES:
        raise errors.MalformedMultipartError
    if max_files > 1:
        return await _parse_form(request.stream(), boundary, max_files)
    body = b"".join([chunk async for chunk in request.stream() if chunk])
    image = _find_only_part(body, boundary)
    return await _parse_form(_once(body), boundary, max_files) if image is None else [image]


def _find_only_part(body: bytes, boundary: bytes) -> bytes | None:
    """Return the content of a form's only part, a file; None if the form is not as usual."""
    delimiter = b"\r\n--" + boundary
    if not body.startswith(delimiter[2:] + b"\r\n"):
        return None
    head = _USUAL_HEAD.match(body, len(delimiter))
    end = body.find(delimiter, head.end()) if head else -1
    is_last = body.startswith(b"--", end + len(delimiter))
    return body[head.end() : end] if head and end > 0 and is_last else None


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _parse_form(chunks: AsyncIterable[bytes], boundary: bytes, max_files: int) -> list[bytes]:
    form = _Form(max_files)
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": form.start_part,
            "on_header_field": form.extend_name,
            "on_header_value": form.extend_value,
            "on_header_end": form.end_header,
            "on_headers_finished": form.open_part,
            "on_part_data": form.extend_part,
        },
    )
    try:
        async for chunk in chunks:
            if chunk:  # the last one is empty
                parser.write(chunk)
    except MultipartParseError as error:
        raise errors.MalformedMultipartError from error
    if parser.state != MultipartState.END:
        raise errors.MalformedMultipartError
    return form.take_files()


class _Form:
    """Collects the file parts of a multipart body in memory, as it arrives.

    It does not know its parser: a reference cycle would wait for the garbage collector. The parser
    bounds the headers of a part: eight, of four kilobytes each.
    """

    def __init__(self, max_files: int) -> None:
        self._max_files = max_files
        self._files: list[list[bytes]] = []
        self._parts = 0
        self.start_part()

    def start_part(self) -> None:
        self._name = self._value = self._disposition = b""
        self._target: list[bytes] | None = None

    def extend_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def extend_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def open_part(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise errors.TooManyFilesError
        if not _is_image(self._disposition):
            return
        if len(self._files) == self._max_files:
            raise errors.TooManyFilesError
        self._target = []
        self._files.append(self._target)

    def extend_part(self, data: bytes, start: int, end: int) -> None:
        if self._target is not None:
            self._target.append(data[start:end])

    def take_files(self) -> list[bytes]:
        if not self._files:
            raise errors.MissingFileError
        self._target = None  # releases the last file
        # One at a time, so that there are never two copies of all images.
        return [b"".join(self._files.pop(0)) for _ in range(len(self._files))]


def _is_image(disposition: bytes) -> bool:
    """Whether a part is a file of the field that carries images.

    Raises:
        MalformedMultipartError: the part has no name.
    """
    _, options = parse_options_header(disposition)
    if b"name" not in options:
        raise errors.MalformedMultipartError
    # The parser drops RFC 5987's `filename*`, which also marks a file.
    is_file = b"filename" in options or b"filename*" in disposition.lower()
    return is_file and options[b"name"] == b"file"
