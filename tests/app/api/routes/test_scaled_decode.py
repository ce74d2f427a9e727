from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from io import BytesIO

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.checkpoints.checkpoint import Checkpoint
from model.engines import load_engine
from model.images.decoder import DecodeLimits, Decoder
from model.images.formats.table import read_header
from model.images.pixels import needed_size, preprocess
from tests.conftest import serve
from tests.image_files import encode


@pytest.fixture(scope="module")
def unscaled() -> Iterator[httpx2.Client]:
    """A client of a server that decodes every image at its own size."""
    with (
        serve(jpeg_scaled_decode=False) as server,
        httpx2.Client(base_url=server.url, timeout=30) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def big_cat(cat: bytes) -> bytes:
    return encode(Image.open(BytesIO(cat)).resize((2100, 1400)), "JPEG", quality=90)


def embed(client: httpx2.Client, image: bytes, query: str = "") -> NDArray[np.float32]:
    answer = client.post(f"/embed{query}", files={"file": image})
    return np.array(answer.json()["embedding"], np.float32)


def reference(
    checkpoint: Checkpoint, image: bytes, *, scaled: bool, side: int | None = None
) -> NDArray[np.float32]:
    preprocessing = checkpoint.preprocessing.with_side(side)
    needed = partial(needed_size, preprocessing=preprocessing) if scaled else lambda _: None
    with Decoder(DecodeLimits()).open(read_header(image), needed) as decoded:
        pixels = preprocess(decoded, preprocessing)
    pooled = load_engine(checkpoint, name="onnx").run(pixels[None]).arrays["pooled"]
    return np.asarray(pooled[0])


@pytest.mark.parametrize("side", [None, 128, 512])
def test_a_big_jpeg_is_decoded_smaller_unless_the_setting_is_off(
    client: httpx2.Client,
    unscaled: httpx2.Client,
    checkpoint: Checkpoint,
    big_cat: bytes,
    side: int | None,
) -> None:
    query = "" if side is None else f"?size={side}"
    expected = [
        reference(checkpoint, big_cat, scaled=scaled, side=side) for scaled in (True, False)
    ]
    assert np.allclose(expected[0], expected[1], atol=1e-4) == (side == 512)
    assert np.allclose(embed(client, big_cat, query), expected[0], atol=1e-4)
    assert np.allclose(embed(unscaled, big_cat, query), expected[1], atol=1e-4)


def test_a_big_jpeg_shows_the_same_at_either_size(
    client: httpx2.Client, unscaled: httpx2.Client, big_cat: bytes
) -> None:
    for one in (client, unscaled):
        best = one.post("/classify?top_k=1", files={"file": big_cat}).json()["predictions"]
        assert [row["class_id"] for row in best] == [282]


def test_a_small_jpeg_has_the_same_answer_at_either_setting(
    client: httpx2.Client, unscaled: httpx2.Client, cat: bytes
) -> None:
    assert np.allclose(embed(client, cat), embed(unscaled, cat), atol=1e-5)
    small = embed(client, cat, "?size=32"), embed(unscaled, cat, "?size=32")
    assert np.allclose(small[0], small[1], atol=1e-5)


def test_info_tells_of_the_setting(client: httpx2.Client, unscaled: httpx2.Client) -> None:
    told = [one.get("/info").json()["jpeg_scaled_decode"] for one in (client, unscaled)]
    assert told == [True, False]
