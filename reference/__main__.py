"""`python -m reference`: write every page."""

from __future__ import annotations

from reference.pages import PAGES, path_of

for name, write in PAGES.items():
    path_of(name).write_text(write())
