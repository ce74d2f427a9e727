from __future__ import annotations

import pytest

from app.api.bodies.json_body import parse_json
from app.api.bodies.uploads import ImagesBody
from app.errors import MalformedRequestError


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"images":[' + b"{}," * 1_000 + b"{}]}", "objects"),
        (b'{"images":[' + b"5," * 1_250_000 + b"5]}", "values"),
    ],
    ids=["objects", "numbers"],
)
def test_json_that_would_fill_the_memory_is_refused_unparsed(body: bytes, sentence: str) -> None:
    with pytest.raises(MalformedRequestError, match=f"more than .* {sentence}"):
        parse_json(ImagesBody, body)


def test_json_of_many_images_is_read() -> None:
    assert len(parse_json(ImagesBody, b'{"images":[' + b'"QQ==",' * 63 + b'"QQ=="]}').images) == 64
