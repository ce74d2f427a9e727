"""Creates the flags of `serve`: one for each setting, in groups."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Annotated, Final, get_args

import typer

from app.settings import Settings, describe_settings

_PANELS: Final = {
    "Address": ("host", "port", "page"),
    "Models": ("models", "engine", "device", "threads", "max_batch_size", "streams"),
    "Load": ("queue_ms", "request_timeout_s", "cache_mib"),
    "Limits": (
        *("max_body_mib", "max_batch_body_mib", "max_output_mib"),
        *("max_pixels_mp", "max_side", "jpeg_scaled_decode"),
    ),
    "Connections": (
        *("max_connections", "header_timeout_s", "body_timeout_s"),
        *("write_timeout_s", "keep_alive_s"),
    ),
    "Access": ("api_keys_file", "cors_origins"),
    "Stopping": ("drain_s", "shutdown_timeout_s"),
    "Logs": ("log_format", "log_level"),
}
SERVE_EPILOG = """
[bold]Examples[/]
mobilenet-serve serve --port 9000
mobilenet-serve serve --models pets=/weights/pets,mobilenet_v1_0.5_160.tgz
MOBILENET_API_KEYS_FILE=keys.txt mobilenet-serve serve --host 0.0.0.0

Each flag has an environment variable; the flag wins. `docs/settings.md` has them in a table.
"""


def serve_flags() -> Iterator[inspect.Parameter]:
    """Yield a parameter for each setting; `Settings` parses and checks its value."""
    panels = {name: panel for panel, names in _PANELS.items() for name in names}
    for setting in describe_settings():
        option = typer.Option(
            setting.flag,
            help=f"{setting.meaning} [dim](default {setting.default})[/]",
            metavar=_values(setting.name),
            envvar=setting.variable,
            rich_help_panel=panels.get(setting.name),
        )
        yield inspect.Parameter(
            setting.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[str | None, option],
        )


def _values(name: str) -> str:
    """List the values of a setting, if there are few."""
    annotation = Settings.model_fields[name].annotation
    if annotation is bool:
        return "true|false"
    words = get_args(annotation)
    return "|".join(words) if all(isinstance(word, str) for word in words) and words else "VALUE"
