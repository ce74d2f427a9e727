"""Declares every option of the service: an environment variable and a flag of `serve` each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from model.sources.load import default_name

ENV_PREFIX = "MOBILENET_"
MEBI = 1024 * 1024
"""Bytes of a MiB, in which settings are given."""
API_KEY_VARIABLE = f"{ENV_PREFIX}API_KEY"
"""Not a setting: the key that `classify` and `embed` send to a server."""

_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")


def _split(given: Any) -> Any:
    if isinstance(given, str):
        return tuple(part.strip() for part in given.split(",") if part.strip())
    return given


_Auto = Literal["auto"]
_Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class InvalidSettingError(Exception):
    """A setting has an unusable value; the message is one line that names it."""


def refuse_setting(name: str, why: str, given: object) -> InvalidSettingError:
    """Create the error for a setting with an unusable value."""
    return InvalidSettingError(f"{_variable(name)} ({_flag(name)}): {why}, got {str(given)!r}")


def _variable(name: str) -> str:
    return f"{ENV_PREFIX}{name.upper()}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


class Settings(BaseSettings):
    """Reads keyword arguments first, then `MOBILENET_*` variables."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", allow_inf_nan=False
    )

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    models: _Words = Field(
        (DEFAULT_DIRECTORY.name,),
        min_length=1,
        max_length=16,
        description="directories, files to import, or Hugging Face ids, with commas; the first is "
        "the default; name=source gives one a name",
    )
    engine: Literal["auto", "onnx", "torch"] = Field("auto", description="what runs the batches")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where they run")
    threads: _Auto | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto", description="cores to use; auto: those that affinity and cgroup quota leave"
    )
    max_batch_size: _Auto | Annotated[int, Field(ge=1, le=256)] = Field(
        "auto", description="images a batch at most; auto: 2 on a CPU, 64 on a GPU"
    )
    streams: _Auto | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto", description="batches that run at once; auto: one a thread, one on a GPU"
    )
    queue_ms: float = Field(
        500, gt=0, le=60_000, description="predicted work that may wait, in milliseconds"
    )
    request_timeout_s: float = Field(
        10, gt=0, le=300, description="deadline of a request once its body is here, in seconds"
    )
    max_body_mib: float = Field(10, gt=0, le=1024, description="largest body of one image, in MiB")
    max_batch_body_mib: float = Field(
        64,
        gt=0,
        le=4096,
        description="largest body of many images, in MiB; all bodies together may hold twice that",
    )
    max_output_mib: float = Field(
        16, gt=0, le=1024, description="largest answer of /embed, in MiB of numbers"
    )
    cache_mib: float = Field(
        0,
        ge=0,
        le=1_048_576,
        description="memory for answers to images asked again, in MiB; 0: off",
    )
    max_pixels_mp: float = Field(
        25,
        gt=0,
        le=80,
        description="largest image, in megapixels; all that is decoded at once takes at most 12 "
        "bytes for each of its pixels",
    )
    max_side: int = Field(16384, ge=32, le=65535, description="longest side, in pixels")
    jpeg_scaled_decode: bool = Field(
        default=True,
        description="decode JPEGs of a megapixel and more at 1/2, 1/4 or 1/8 of their size where "
        "that leaves twice the needed side both ways; answers may differ a little from those of "
        "the full size, see performance.md",
    )
    max_connections: _Auto | Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        "auto",
        description="connections at once; auto: 4096, or fewer if the limit on open files is low",
    )
    header_timeout_s: float = Field(
        5, gt=0, le=600, description="time a client has to send its headers, in seconds"
    )
    body_timeout_s: float = Field(
        15, gt=0, le=600, description="time a client has to send its body, in seconds"
    )
    write_timeout_s: float = Field(
        15, gt=0, le=600, description="time a client has to read each MiB of its answer, in seconds"
    )
    keep_alive_s: float = Field(
        75, gt=0, le=3600, description="how long an idle connection is kept, in seconds"
    )
    drain_s: float = Field(
        0, ge=0, le=300, description="how long to answer after SIGTERM before draining, in seconds"
    )
    shutdown_timeout_s: float = Field(
        8, gt=0, le=600, description="how long shutting down may take in all, in seconds"
    )
    api_keys_file: Annotated[Path | None, BeforeValidator(lambda given: given or None)] = Field(
        None,
        description="file of API keys, one a line, read at start; without it nobody needs one",
    )
    cors_origins: _Words = Field(
        (),
        max_length=64,
        description="origins whose pages may ask, as https://example.org, with commas",
    )
    page: bool = Field(
        default=True, description="serve the page at /, its files, and /live, which it watches"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else json"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is logged"
    )

    @field_validator("shutdown_timeout_s")
    @classmethod
    def _leave_time_to_drain(cls, value: float, info: ValidationInfo) -> float:
        if value <= info.data.get("drain_s", 0):
            raise PydanticCustomError("shutdown", "must be longer than DRAIN_S, which it includes")
        return value

    @field_validator("models")
    @classmethod
    def _check_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [name for name, _ in map(_name_and_source, value)]
        if len(set(names)) < len(names):
            raise PydanticCustomError("names", "two models have the same name")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(_ORIGIN.fullmatch, value)):
            raise PydanticCustomError(
                "origins",
                "must be origins as browsers send them: scheme, host in small letters, perhaps a "
                "port, no path; * would let every page ask",
            )
        return value

    def model_sources(self) -> Iterator[tuple[str, str]]:
        """Yield name and source of each model, in the order given; see `load_model`."""
        return map(_name_and_source, self.models)


def _name_and_source(entry: str) -> tuple[str, str]:
    name, separator, source = entry.rpartition("=")
    return (name if separator else default_name(source)), source


def load_settings(**given: Any) -> Settings:
    """Read the settings; what is given, unless it is None, wins over the environment.

    Raises:
        InvalidSettingError: a setting is out of range.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        errors = error.errors(include_url=False)
        name, given_value = errors[0]["loc"][0], errors[0]["input"]
        why = " or ".join(one["msg"] for one in errors if one["loc"][0] == name)
        raise refuse_setting(str(name), why, given_value) from error


@dataclass(frozen=True, slots=True)
class Setting:
    """One option, as messages and documents name it."""

    name: str
    variable: str
    flag: str
    default: str
    meaning: str


def describe_settings() -> list[Setting]:
    """Describe every option, in the order of the class."""
    return [
        Setting(name, _variable(name), _flag(name), _write(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def _write(value: Any) -> str:
    """Write a default as an environment variable would."""
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def unknown_variables() -> list[str]:
    """List the `MOBILENET_*` variables in the environment that no setting reads."""
    known = {API_KEY_VARIABLE, *map(_variable, Settings.model_fields)}
    return sorted(name for name in os.environ if name.startswith(ENV_PREFIX) and name not in known)
