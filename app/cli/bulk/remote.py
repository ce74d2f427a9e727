"""Answers of a running server, asked over several connections at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from io import BytesIO
from typing import Any, Final, Self, TypeVar
from zipfile import BadZipFile

import httpx2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter, ValidationError

from app import __version__
from app.api.bodies.responses import JSON, NPZ
from app.api.problems import Problem
from app.api.routes.schemas import Prediction
from app.cli.bulk.errors import FileError, StoppedError
from app.cli.bulk.workers import Answerer
from app.inference.information import InfoResponse
from app.inference.options import ClassifyOptions, EmbedOptions

_T = TypeVar("_T")

_MEBI: Final = 1024 * 1024
_FEWEST, _MOST = 4, 64
"""Connections that are chosen without being told how many."""
_REFUSALS, _FAILURES = 20, 5
"""How often an image is sent: while the server says later; while the connection fails."""
_LONGEST_WAIT_S: Final = 60.0
_SHORTEST_WAIT_S: Final = 0.5
_JITTER: Final = 0.25
"""Of a wait, so that those who were refused together do not come back together."""
_LATER: Final = (429, 502, 503)
_OF_ALL: Final = (401, 403, 404, 405, 406)
"""Statuses that say that the next image would be refused as well; so do these codes."""
_OF_ALL_CODES: Final = ("invalid_parameter", "no_classifier", "output_too_large")
_TIMEOUT: Final = httpx2.Timeout(60, connect=10)
"""The server ends what takes too long by itself. In seconds."""


_UNREADABLE: Final = (ValueError, KeyError, EOFError, BadZipFile)
"""What pydantic and NumPy raise on what is no answer."""


class _ClassifyAnswer(BaseModel):
    predictions: list[Prediction]


class RemoteServer:
    """Use as a context manager.

    Args:
        url: the server's, perhaps with a path before the routes'.
        api_key: sent as `Authorization: Bearer`.
        connections: at once; None chooses: what keeps its streams busy.
        sleep: waits so many seconds.
        now: seconds since 1970, to read dates by.
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
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=connections or _MOST)
        self._client = httpx2.Client(base_url=url, headers=headers, timeout=_TIMEOUT, limits=limits)
        self._connections = connections
        self._sleep = sleep
        self._now = now

    def __enter__(self) -> Self:
        """Ask what it serves.

        Raises:
            StoppedError: it cannot be reached, or it is another kind of server.
        """
        with ExitStack() as stack:
            stack.callback(self._client.close)
            try:
                response = self._send(partial(self._client.get, "/info"))
                self._info = TypeAdapter(InfoResponse).validate_json(response.content)
            except FileError as error:
                raise StoppedError(str(error)) from error
            except ValidationError as error:
                raise StoppedError(f"{self.address} is no mobilenet-serve.") from error
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def address(self) -> str:
        """Scheme, host and port, without what else the URL may hold."""
        url = self._client.base_url
        return f"{url.scheme}://{url.netloc.decode('ascii')}"

    @property
    def name(self) -> str:
        """The default model's."""
        return self._info.models[0].name

    def classifier(self, options: ClassifyOptions) -> Answerer[list[Prediction]]:
        """As `LocalModel.classifier`."""

        def read(content: bytes) -> list[Prediction]:
            return _ClassifyAnswer.model_validate_json(content).predictions

        return self._answerer("/classify", _query(options), JSON, read)

    def embedder(self, options: EmbedOptions) -> Answerer[Mapping[str, NDArray[np.float32]]]:
        """As `LocalModel.embedder`."""
        return self._answerer("/embed", _query(options), NPZ, _read_arrays)

    def _answerer(
        self, path: str, query: Mapping[str, str], accept: str, read: Callable[[bytes], _T]
    ) -> Answerer[_T]:
        def ask(images: Sequence[bytes]) -> list[_T | FileError]:
            return [self._ask(path, query, accept, read, image) for image in images]

        busy = 2 * self._info.streams * self._info.max_batch_size
        workers = self._connections or min(max(busy, _FEWEST), _MOST)
        max_body_mib = float(self._info.limits.get("max_body_mib", _MOST))
        return Answerer(ask, workers, batch_size=1, max_bytes=int(max_body_mib * _MEBI))

    def _ask(
        self,
        path: str,
        query: Mapping[str, str],
        accept: str,
        read: Callable[[bytes], _T],
        image: bytes,
    ) -> _T | FileError:
        headers = {"Content-Type": "application/octet-stream", "Accept": accept}
        post = partial(self._client.post, path, params=query, headers=headers, content=image)
        try:
            return read(self._send(post).content)
        except FileError as error:
            return error
        except _UNREADABLE:
            return FileError("The server's answer cannot be understood.")

    def _send(self, send: Callable[[], httpx2.Response]) -> httpx2.Response:
        """Send until there is an answer that counts.

        Raises:
            FileError: the server refuses this request.
            StoppedError: it refuses every one, or it cannot be reached.
        """
        failures = refusals = 0
        while True:
            try:
                response = send()
            except httpx2.TransportError as error:
                failures += 1
                if failures == _FAILURES:
                    raise StoppedError(f"{self.address} cannot be reached: {error}.") from error
                self._wait(_SHORTEST_WAIT_S * 2 ** (failures - 1))
                continue
            failures = 0
            if response.status_code == httpx2.codes.OK:
                return response
            refusals += 1
            if response.status_code not in _LATER or refusals == _REFUSALS:
                raise self._refusal(response)
            wait_s = self._retry_after_s(response)
            self._wait(_SHORTEST_WAIT_S if wait_s is None else wait_s)

    def _wait(self, seconds: float) -> None:
        longer = 1 + _JITTER * random.random()  # noqa: S311  # no secret
        self._sleep(min(seconds, _LONGEST_WAIT_S) * longer)

    def _retry_after_s(self, response: httpx2.Response) -> float | None:
        """Seconds or a date (RFC 9110, 10.2.3); None where there is neither."""
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
        problem = _read_problem(response)
        detail = problem.get("detail", f"The server answered with status {response.status_code}.")
        if response.status_code in _OF_ALL or problem.get("code") in _OF_ALL_CODES:
            return StoppedError(f"{self.address} refuses: {detail}")
        return FileError(detail.replace("The body", "The file"))


def _query(options: ClassifyOptions | EmbedOptions) -> dict[str, str]:
    """The query of the options that are not at their defaults."""
    given = {
        one.name: value
        for one in fields(options)
        if (value := getattr(options, one.name)) != one.default
    }
    if "layers" in given:
        given = {"layer": ",".join(given.pop("layers")), **given}
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in given.items()
    }


def _read_problem(response: httpx2.Response) -> Problem | dict[str, Any]:
    try:
        problem = response.json()
    except ValueError:
        return {}
    known = isinstance(problem, dict) and isinstance(problem.get("detail"), str)
    return problem if known else {}


def _read_arrays(content: bytes) -> Mapping[str, NDArray[np.float32]]:
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
