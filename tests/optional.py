"""Packages that only thorough tests need: whoever imports a missing one is skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

__all__ = ["kubernetes_validate", "playwright", "promql_parser", "torch", "transformers", "triton"]

if TYPE_CHECKING:
    import kubernetes_validate
    import playwright.sync_api as playwright
    import promql_parser
    import torch
    import transformers
    import tritonclient.http as triton
else:

    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        module = {"playwright": "playwright.sync_api", "triton": "tritonclient.http"}.get(
            name, name
        )
        reason = f"{module} is not installed: `make test-all` installs it"
        return pytest.importorskip(module, reason=reason)
