"""The pages that are written from the code are those that are committed."""

from __future__ import annotations

import pytest

from reference.pages import PAGES, path_of


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_the_code_says(name: str) -> None:
    assert path_of(name).read_text() == PAGES[name](), "run `make docs`"
