"""What a refusal looks like: one line, which starts with the place that is at fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.errors import InvalidCheckpointError
from model.sources.load import convert_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def refused(read: Callable[[], object], start: str) -> str:
    """See it refused, and return what the refusal says after its start."""
    with pytest.raises(InvalidCheckpointError) as caught:
        read()
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.startswith(start)
    return text.removeprefix(start)


def refused_import(source: Path, content: bytes) -> str:
    """Write a file, see its import leave nothing behind, and return what is said of the file."""
    source.write_bytes(content)
    directory = source.parent / "imported"
    said = refused(lambda: convert_model(str(source), directory), f"{source}: ")
    assert not directory.exists()
    return said
