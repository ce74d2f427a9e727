"""Packages that only thorough tests need: whoever imports a missing one is skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

__all__ = ["torch", "transformers"]

if TYPE_CHECKING:
    import torch
    import transformers
else:

    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        reason = f"{name} is not installed: `make test-all` installs it"
        return pytest.importorskip(name, reason=reason)
