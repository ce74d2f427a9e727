"""Every failure that a client can be told of; status and code are api names and stay.

AppError                          500 internal_error
+-- MalformedRequestError         400
|   +-- MalformedMultipartError
+-- UrlInputDisabledError         400
+-- UnauthorizedError             401
+-- NotFoundError                 404
|   +-- ModelNotFoundError
+-- MethodNotAllowedError         405
+-- NotAcceptableError            406
+-- RequestTimeoutError           408, closes the connection
+-- BodyTooLargeError             413, closes the connection
+-- ImageTooLargeError, OutputTooLargeError                            413
+-- UriTooLongError               414, closes the connection
+-- HeadersTooLargeError          431, closes the connection
+-- UnsupportedMediaTypeError     415
+-- UnsupportedImageFormatError   415
+-- UnsupportedContentEncodingError 415
+-- MissingFileError, EmptyFileError, TooManyFilesError, InvalidParameterError,
|   InvalidImageError, ImageTruncatedError, ImageTooComplexError, NoClassifierError   422
+-- OverloadedError               429
+-- ModelOutputInvalidError       500
+-- UnavailableError              503
|   +-- NotReadyError, ShuttingDownError, OutOfMemoryError
+-- DeadlineExceededError         504

Texts are fixed: no exception's own, and nothing that a client sent.
This file is longer than others because it is the whole table, a few lines a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import ClassVar, Self


class AppError(Exception):
    """Something went wrong that nobody foresaw.

    Args:
        detail: one sentence for the client instead of the class's own.
        headers: to send with the answer.

    Attributes:
        parameter: the field of the request that is wrong, where that is known.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    detail: str = "The service failed to answer; its log has the reason."
    closes_connection: ClassVar[bool] = False
    parameter: str | None = None

    def __init__(self, detail: str | None = None, headers: dict[str, str] | None = None) -> None:
        if detail is not None:
            self.detail = detail
        self.headers = dict(headers or {})
        if self.closes_connection:
            self.headers["Connection"] = "close"
        super().__init__(self.detail)

    def at(self, place: str) -> Self:
        """The same error, whose sentence says where in the request it is."""
        there = copy(self)
        there.detail = f"{place}: {self.detail}"
        return there


class MalformedRequestError(AppError):
    """The body is not what its Content-Type says."""

    status, code, title = 400, "malformed_request", "Malformed request"
    detail = "The body is not valid JSON."


class MalformedMultipartError(MalformedRequestError):
    """The multipart body breaks RFC 7578."""

    code, title = "malformed_multipart", "Malformed multipart body"
    detail = "The multipart body cannot be read: its boundary, a part's header or its end is wrong."


class UrlInputDisabledError(AppError):
    """An address instead of an image."""

    status, code, title = 400, "url_input_disabled", "URL input disabled"
    detail = "Images are not fetched from URLs; send a data: URI with base64."


class UnauthorizedError(AppError):
    """No key, or none of ours."""

    status, code, title = 401, "unauthorized", "Unauthorized"
    detail = "Send a key of this service as `Authorization: Bearer KEY`."

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class NotFoundError(AppError):
    """There is nothing at this path."""

    status, code, title = 404, "not_found", "Not found"
    detail = "There is nothing at this path."


class ModelNotFoundError(NotFoundError):
    """No model of that name is served."""

    code, title = "model_not_found", "Model not found"
    detail = "No model of that name is served; GET /info lists those that are."


class MethodNotAllowedError(AppError):
    """The path is there, but not for this method."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"
    detail = "This path does not answer that method; see the Allow header."


class NotAcceptableError(AppError):
    """No representation that the client accepts."""

    status, code, title = 406, "not_acceptable", "Not acceptable"
    detail = "Vectors can be application/json; one layer application/x-npy; all application/x-npz."


class RequestTimeoutError(AppError):
    """The client was too slow to send its request."""

    status, code, title = 408, "request_timeout", "Request timeout"
    detail = "The body did not arrive in time (BODY_TIMEOUT_S)."
    closes_connection = True


class BodyTooLargeError(AppError):
    """More bytes than a body may have."""

    status, code, title = 413, "body_too_large", "Body too large"
    detail = "The body has more bytes than allowed (MAX_BODY_MIB; of a batch, MAX_BATCH_BODY_MIB)."
    closes_connection = True


class ImageTooLargeError(AppError):
    """More pixels than a picture may have."""

    status, code, title = 413, "image_too_large", "Image too large"
    detail = "The image has more pixels or a longer side than allowed (MAX_PIXELS_MP, MAX_SIDE)."


class OutputTooLargeError(AppError):
    """More numbers than an answer may have."""

    status, code, title = 413, "output_too_large", "Output too large"
    detail = "The answer would be larger than allowed (MAX_OUTPUT_MIB)."


class UriTooLongError(AppError):
    """A path and query of more bytes than allowed."""

    status, code, title = 414, "uri_too_long", "URI too long"
    detail = "The path and query have more than 4 KiB."
    closes_connection = True


class HeadersTooLargeError(AppError):
    """More header bytes or lines than a request may have."""

    status, code, title = 431, "headers_too_large", "Headers too large"
    detail = "The headers have more than 16 KiB or 100 lines."
    closes_connection = True


class UnsupportedMediaTypeError(AppError):
    """A Content-Type that carries no image."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"
    detail = (
        "Send the image as multipart/form-data, as image/* or application/octet-stream, "
        "or in application/json."
    )


class UnsupportedImageFormatError(AppError):
    """The bytes begin like no allowed format."""

    status, code, title = 415, "unsupported_image_format", "Unsupported image format"
    detail = "The body is not a JPEG, PNG, WebP, GIF or BMP image."


class UnsupportedContentEncodingError(AppError):
    """A compressed body."""

    status, code, title = 415, "unsupported_content_encoding", "Unsupported content encoding"
    detail = "The body must not be compressed: leave Content-Encoding out."


class MissingFileError(AppError):
    """No image in the body."""

    status, code, title = 422, "missing_file", "Missing file"
    detail = "The body has no image: multipart wants a file part named `file`, JSON its own field."


class EmptyFileError(AppError):
    """An image of no bytes."""

    status, code, title = 422, "empty_file", "Empty file"
    detail = "The image has no bytes."


class TooManyFilesError(AppError):
    """More images, or more parts, than one body may have."""

    status, code, title = 422, "too_many_files", "Too many files"
    detail = "The body has more parts than this route takes."


class InvalidParameterError(AppError):
    """A query parameter, header or field out of its range."""

    status, code, title = 422, "invalid_parameter", "Invalid parameter"
    detail = "A parameter is not valid."

    def __init__(self, detail: str | None = None, parameter: str | None = None) -> None:
        super().__init__(detail)
        self.parameter = parameter


class InvalidImageError(AppError):
    """An allowed format, but damaged."""

    status, code, title = 422, "invalid_image", "Invalid image"
    detail = "The image begins like an allowed format, but cannot be read."


class ImageTruncatedError(AppError):
    """The end is missing."""

    status, code, title = 422, "image_truncated", "Truncated image"
    detail = "The image ends before its last row."


class ImageTooComplexError(AppError):
    """It would take too long to decode."""

    status, code, title = 422, "image_too_complex", "Image too complex"
    detail = "The image would take too long to decode for its size."


class NoClassifierError(AppError):
    """The model has no classes."""

    status, code, title = 422, "no_classifier", "No classifier"
    detail = "This model has no classification layer; /embed works."


class OverloadedError(AppError):
    """The queue is full; try again later."""

    status, code, title = 429, "overloaded", "Overloaded"
    detail = "The queue is full (QUEUE_MS); try again after Retry-After seconds."


class ModelOutputInvalidError(AppError):
    """The engine gave NaN, or another number of rows than images."""

    code, title = "model_output_invalid", "Invalid model output"
    detail = "The model's output for this image is not a valid answer."


class UnavailableError(AppError):
    """The service cannot answer now."""

    status, code, title = 503, "unavailable", "Unavailable"
    retry_after_s: ClassVar[int] = 1

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, {"Retry-After": str(self.retry_after_s)})


class NotReadyError(UnavailableError):
    """Not loaded yet, or broken."""

    code, title = "not_ready", "Not ready"
    detail = "The service is not ready; GET /readyz?verbose tells why."


class ShuttingDownError(UnavailableError):
    """About to end."""

    code, title = "shutting_down", "Shutting down"
    detail = "The service is shutting down; try another replica."


class OutOfMemoryError(UnavailableError):
    """This image did not fit into memory, even alone."""

    code, title = "out_of_memory", "Out of memory"
    detail = "There is not enough memory for this image now."


class DeadlineExceededError(AppError):
    """The request's time was up before its answer was there."""

    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"
    detail = "The deadline passed before the answer was there (REQUEST_TIMEOUT_S)."


def every_error() -> Iterator[type[AppError]]:
    """Each of them that clients are told of, in the order of this file."""
    for one in globals().copy().values():
        if isinstance(one, type) and issubclass(one, AppError) and one is not UnavailableError:
            yield one
