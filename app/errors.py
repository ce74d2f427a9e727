"""Defines every failure that a client is told of; docs/errors.md has the table.

Statuses and codes are part of the API. Texts are fixed, so that none repeats an exception's or what
a client sent.
"""

from __future__ import annotations

from typing import ClassVar, Self


class AppError(Exception):
    """An unexpected failure.

    Args:
        detail: one sentence for the client, instead of the class's own.
        headers: to send with the answer.

    Attributes:
        parameter: the field of the request that is wrong, if that is known.
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
        """Return the same error with a sentence that says where in the request it is."""
        error = self.copy()
        error.detail = f"{place}: {self.detail}"
        return error

    def copy(self) -> Self:
        """Return the same error without traceback and cause."""
        error = type(self).__new__(type(self), *self.args)  # subclasses take other arguments
        vars(error).update(vars(self))
        return error


class MalformedRequestError(AppError):
    """The body is not what its Content-Type says."""

    status, code, title = 400, "malformed_request", "Malformed request"
    detail = "The body is not valid JSON."


class MalformedMultipartError(MalformedRequestError):
    """The multipart body breaks RFC 7578."""

    code, title = "malformed_multipart", "Malformed multipart body"
    detail = "The multipart body cannot be read: its boundary, a part's header or its end is wrong."


class UrlInputDisabledError(AppError):
    """The image is given as a URL."""

    status, code, title = 400, "url_input_disabled", "URL input disabled"
    detail = "Images are not fetched from URLs; send a data: URI with base64."


class UnauthorizedError(AppError):
    """The API key is missing or unknown."""

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
    """The path does not answer this method."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"
    detail = "This path does not answer that method; see the Allow header."


class NotAcceptableError(AppError):
    """The client accepts none of the media types on offer."""

    status, code, title = 406, "not_acceptable", "Not acceptable"
    detail = "Vectors can be application/json; one layer application/x-npy; all application/x-npz."


class RequestTimeoutError(AppError):
    """The client sent its request too slowly."""

    status, code, title = 408, "request_timeout", "Request timeout"
    detail = "The body did not arrive in time (BODY_TIMEOUT_S)."
    closes_connection = True


class BodyTooLargeError(AppError):
    """The body has too many bytes."""

    status, code, title = 413, "body_too_large", "Body too large"
    detail = "The body has more bytes than allowed (MAX_BODY_MIB; of a batch, MAX_BATCH_BODY_MIB)."
    closes_connection = True


class ImageTooLargeError(AppError):
    """The image has too many pixels or too long a side."""

    status, code, title = 413, "image_too_large", "Image too large"
    detail = "The image has more pixels or a longer side than allowed (MAX_PIXELS_MP, MAX_SIDE)."


class OutputTooLargeError(AppError):
    """The answer would have too many numbers."""

    status, code, title = 413, "output_too_large", "Output too large"
    detail = "The answer would be larger than allowed (MAX_OUTPUT_MIB)."


class UriTooLongError(AppError):
    """The path and query have too many bytes."""

    status, code, title = 414, "uri_too_long", "URI too long"
    detail = "The path and query have more than 4 KiB."
    closes_connection = True


class HeadersTooLargeError(AppError):
    """The headers have too many bytes or lines."""

    status, code, title = 431, "headers_too_large", "Headers too large"
    detail = "The headers have more than 16 KiB or 100 lines."
    closes_connection = True


class UnsupportedMediaTypeError(AppError):
    """The Content-Type carries no image."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"
    detail = (
        "Send the image as multipart/form-data, as image/* or application/octet-stream, "
        "or in application/json."
    )


class UnsupportedImageFormatError(AppError):
    """The image starts like none of the supported formats."""

    status, code, title = 415, "unsupported_image_format", "Unsupported image format"
    detail = "The body is not a JPEG, PNG, WebP, GIF or BMP image."


class UnsupportedContentEncodingError(AppError):
    """The body is compressed."""

    status, code, title = 415, "unsupported_content_encoding", "Unsupported content encoding"
    detail = "The body must not be compressed: leave Content-Encoding out."


class MissingFileError(AppError):
    """The body has no image."""

    status, code, title = 422, "missing_file", "Missing file"
    detail = "The body has no image: multipart wants a file part named `file`, JSON its own field."


class EmptyFileError(AppError):
    """The image has no bytes."""

    status, code, title = 422, "empty_file", "Empty file"
    detail = "The image has no bytes."


class TooManyFilesError(AppError):
    """The body has too many images or parts."""

    status, code, title = 422, "too_many_files", "Too many files"
    detail = "The body has more parts than this route takes."


class InvalidParameterError(AppError):
    """A query parameter, header or field is not valid."""

    status, code, title = 422, "invalid_parameter", "Invalid parameter"
    detail = "A parameter is not valid."

    def __init__(self, detail: str | None = None, parameter: str | None = None) -> None:
        super().__init__(detail)
        self.parameter = parameter


class InvalidImageError(AppError):
    """The image is damaged."""

    status, code, title = 422, "invalid_image", "Invalid image"
    detail = "The image begins like an allowed format, but cannot be read."


class ImageTruncatedError(AppError):
    """The end of the image is missing."""

    status, code, title = 422, "image_truncated", "Truncated image"
    detail = "The image ends before its last row."


class ImageTooComplexError(AppError):
    """The image would take too long to decode."""

    status, code, title = 422, "image_too_complex", "Image too complex"
    detail = "The image would take too long to decode for its size."


class NoClassifierError(AppError):
    """The model has no classes."""

    status, code, title = 422, "no_classifier", "No classifier"
    detail = "This model has no classification layer; /embed works."


class OverloadedError(AppError):
    """The queue is full."""

    status, code, title = 429, "overloaded", "Overloaded"
    detail = "The queue is full (QUEUE_MS); try again after Retry-After seconds."

    def __init__(self, detail: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(detail, {"Retry-After": str(retry_after_s)})


class ModelOutputInvalidError(AppError):
    """The engine returned NaN, or not one row for each image."""

    code, title = "model_output_invalid", "Invalid model output"
    detail = "The model's output for this image is not a valid answer."


class UnavailableError(AppError):
    """The service cannot answer now."""

    status, code, title = 503, "unavailable", "Unavailable"

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


class NotReadyError(UnavailableError):
    """The models are not loaded yet, or the engine fails."""

    code, title = "not_ready", "Not ready"
    detail = "The service is not ready; GET /readyz?verbose tells why."


class ShuttingDownError(UnavailableError):
    """The service is shutting down."""

    code, title = "shutting_down", "Shutting down"
    detail = "The service is shutting down; try another replica."


class OutOfMemoryError(UnavailableError):
    """The image does not fit into memory, even alone."""

    code, title = "out_of_memory", "Out of memory"
    detail = "There is not enough memory for this image now."


class DeadlineExceededError(AppError):
    """The deadline passed before the answer was ready."""

    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"
    detail = "The deadline passed before the answer was there (REQUEST_TIMEOUT_S)."


def every_error() -> list[type[AppError]]:
    """List the errors that clients are told of, in the order of this file."""
    classes = [value for value in globals().values() if isinstance(value, type)]
    return [one for one in classes if issubclass(one, AppError) and one is not UnavailableError]
