"""Reads the JSON files of a checkpoint strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from model.errors import InvalidCheckpointError, named_in_errors

if TYPE_CHECKING:
    from pathlib import Path


class Document(BaseModel):
    """The content of a JSON file; unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file, or raise `InvalidCheckpointError`."""
        with named_in_errors(path):
            try:
                return cls.model_validate_json(path.read_bytes())
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False)[0]
                place = ".".join(str(part) for part in first["loc"]) or "the document"
                text = " ".join(f"{place}: {first['msg']}".split())
                raise InvalidCheckpointError(text) from error
