"""Answers images through a running server, over several connections at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from io import BytesIO
from typing import Any, Final, Self, TypeVar
from zipfile import BadZipFile

import httpx2
import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError

from app import __version__
from app.api.bodies.responses import JSON, NPZ
from app.api.routes.schemas import Prediction
from app.cli.bulk.files import FileError, StoppedError
from app.cli.bulk.workers import Answerer
from app.inference.answers import Arrays
from app.inference.information import InfoResponse
from app.inference.options import ClassifyOptions, EmbedOptions
from app.settings import MEBI

_T = TypeVar("_T")

_MIN_CONNECTIONS, _MAX_CONNECTIONS = 4, 64
"""Unless the user says how many."""
_REFUSALS, _FAILURES = 20, 5
"""How often an image is sent: while the server says later; while the connection fails."""
_MIN_WAIT_S, _MAX_WAIT_S = 0.5, 60.0
_JITTER: Final = 0.25
"""Of a wait, so that those who were refused together do not come back together."""
_RETRY_STATUSES: Final = (429, 502, 503)
_STOP_STATUSES: Final = (401, 403, 404, 405, 406)
_STOP_CODES: Final = ("invalid_parameter", "no_classifier", "output_too_large")
"""Of refusals that the next image would get as well."""
_DEFAULT_BODY_MIB: Final = 64
_TIMEOUT: Final = httpx2.Timeout(60, connect=10)
"""In seconds; the server itself ends what takes too long."""
_UNREADABLE: Final = (ValueError, KeyError, EOFError, BadZipFile)
"""What pydantic and NumPy raise on a malformed answer."""


class _ClassifyAnswer(BaseModel):
    predictions: list[Prediction]


class _Refusal(BaseModel):
    detail: str
    code: str = ""


class RemoteServer:
    """Use as a context manager.

    Args:
        url: of the server, perhaps with a path before the routes'.
        api_key: sent as `Authorization: Bearer`.
        connections: at once; None: as many as keep its streams busy.
        now: seconds since 1970; dates are compared with it.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        connections: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        headers = {"User-Agent": f"mobilenet-serve/{__version__}"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        limits = httpx2.Limits(
            max_connections=None, max_keepalive_connections=connections or _MAX_CONNECTIONS
        )
        self._client = httpx2.Client(base_url=url, headers=headers, timeout=_TIMEOUT, limits=limits)
        self._connections = connections
        self._sleep = sleep
        self._now = now

    def __enter__(self) -> Self:
        """Ask what the server serves.

        Raises:
            StoppedError: it cannot be reached, or is another kind of server.
        """
        try:
            response = self._send(partial(self._client.get, "/info"))
            self._info = TypeAdapter(InfoResponse).validate_json(response.content)
        except (FileError, StoppedError, ValidationError) as error:
            self._client.close()
            invalid = isinstance(error, ValidationError)
            why = f"{self.address} is not a mobilenet-serve." if invalid else str(error)
            raise StoppedError(why) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def address(self) -> str:
        """Scheme, host and port, without a user, a password or a path."""
        url = self._client.base_url
        return f"{url.scheme}://{url.netloc.decode('ascii')}"

    @property
    def name(self) -> str:
        """The default model's name."""
        return self._info.models[0].name

    def classifier(self, options: ClassifyOptions) -> Answerer[list[Prediction]]:
        """As `LocalModel.classifier`."""

        def read(content: bytes) -> list[Prediction]:
            return _ClassifyAnswer.model_validate_json(content).predictions

        return self._answerer("/classify", _query(options), JSON, read)

    def embedder(self, options: EmbedOptions) -> Answerer[Arrays]:
        """As `LocalModel.embedder`."""
        return self._answerer("/embed", _query(options), NPZ, _read_arrays)

    def _answerer(
        self, path: str, query: Mapping[str, Any], accept: str, read: Callable[[bytes], _T]
    ) -> Answerer[_T]:
        headers = {"Content-Type": "application/octet-stream", "Accept": accept}
        post = partial(self._client.post, path, params=query, headers=headers)

        def ask_one(image: bytes) -> _T | FileError:
            try:
                return read(self._send(partial(post, content=image)).content)
            except FileError as error:
                return error
            except _UNREADABLE:
                return FileError("The server's answer cannot be understood.")

        busy = 2 * self._info.streams * self._info.max_batch_size
        workers = self._connections or min(max(busy, _MIN_CONNECTIONS), _MAX_CONNECTIONS)
        max_bytes = int(self._info.limits.get("max_body_mib", _DEFAULT_BODY_MIB) * MEBI)
        return Answerer(lambda images: list(map(ask_one, images)), workers, 1, max_bytes)

    def _send(self, send: Callable[[], httpx2.Response]) -> httpx2.Response:
        """Send, and retry while the server asks for it or the connection fails.

        Raises:
            FileError: the server refuses this image.
            StoppedError: it would refuse every image, or cannot be reached.
        """
        failures = refusals = 0
        while True:
            try:
                response = send()
            except httpx2.TransportError as error:
                failures += 1
                if failures == _FAILURES:
                    raise StoppedError(f"{self.address} cannot be reached: {error}.") from error
                self._wait(_MIN_WAIT_S * 2 ** (failures - 1))
                continue
            failures = 0
            if response.status_code == httpx2.codes.OK:
                return response
            refusals += 1
            if response.status_code not in _RETRY_STATUSES or refusals == _REFUSALS:
                raise self._refusal(response)
            wait_s = self._retry_after_s(response)
            self._wait(_MIN_WAIT_S if wait_s is None else wait_s)

    def _wait(self, seconds: float) -> None:
        jitter = 1 + _JITTER * random.random()  # noqa: S311  # no secret
        self._sleep(min(seconds, _MAX_WAIT_S) * jitter)

    def _retry_after_s(self, response: httpx2.Response) -> float | None:
        """Read seconds or a date (RFC 9110, 10.2.3); None if there is neither."""
        text = response.headers.get("retry-after", "").strip()
        if text.isdecimal():
            return float(text)
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return None
        now = datetime.fromtimestamp(self._now(), UTC)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())

    def _refusal(self, response: httpx2.Response) -> Exception:
        try:
            refusal = _Refusal.model_validate_json(response.content)
        except ValidationError:
            refusal = _Refusal(detail=f"The server answered with status {response.status_code}.")
        if response.status_code in _STOP_STATUSES or refusal.code in _STOP_CODES:
            return StoppedError(f"{self.address} refuses: {refusal.detail}")
        return FileError(refusal.detail.replace("The body", "The file"))


def _query(options: ClassifyOptions | EmbedOptions) -> dict[str, Any]:
    """Create the query of the options that are not at their defaults."""
    given = {
        one.name: value
        for one in fields(options)
        if (value := getattr(options, one.name)) != one.default
    }
    if "layers" in given:
        given = {"layer": ",".join(given.pop("layers")), **given}
    return given


def _read_arrays(content: bytes) -> Arrays:
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
