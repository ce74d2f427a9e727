from __future__ import annotations

import numpy as np
import pytest

from app.cli.bulk.files import FileError
from app.cli.bulk.local import LocalModel
from app.inference.options import ClassifyOptions, EmbedOptions
from app.settings import Settings
from model.checkpoints.checkpoint import Checkpoint
from model.engines.base import EngineOutput
from tests.conftest import serve
from tests.fakes import FakeEngine
from tests.image_files import uniform


@pytest.fixture
def engine(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine(checkpoint)
    monkeypatch.setattr("app.inference.engines.load_engine", lambda *_, **__: engine)
    monkeypatch.setattr("app.inference.engines.check_engine", lambda _: None)
    return engine


def embed(*images: bytes) -> list[float | str]:
    """The first number of each image's embedding, which is its first value; or its sentence."""
    answers = LocalModel(Settings()).embedder(EmbedOptions()).ask(images)
    return [str(one) if isinstance(one, FileError) else float(one["pooled"][0]) for one in answers]


BAD = "The file is not a JPEG, PNG, WebP, GIF or BMP image."


def test_a_bad_image_of_a_batch_moves_no_answer(engine: FakeEngine) -> None:
    answers = embed(b"none", uniform(7), b"", uniform(9))
    assert answers == [BAD, 7, "The image has no bytes.", 9]
    assert engine.batches == [[7, 9]]
    assert embed(b"none") == [BAD]


def test_an_image_that_breaks_the_engine_fails_alone(engine: FakeEngine) -> None:
    def fail(values: list[int]) -> None:
        if 7 in values:
            raise MemoryError
        if 8 in values:
            raise RuntimeError("secret")

    engine.fail = fail
    assert embed(uniform(6), uniform(7), uniform(8), uniform(9)) == [
        6,
        "There is not enough memory for this image now.",
        "The engine failed on this image (RuntimeError).",
        9,
    ]


def test_an_answer_that_is_not_finite_is_none(engine: FakeEngine) -> None:
    def spoil(output: EngineOutput) -> EngineOutput:
        for array in output.arrays.values():
            array[array == 7] = np.nan
        return output

    engine.shape = spoil
    assert embed(uniform(6), uniform(7)) == [
        6,
        "The model's output for this image is not a valid answer.",
    ]


def test_settings_bound_the_threads_the_batch_and_the_file(engine: FakeEngine) -> None:
    model = LocalModel(Settings(threads=3, max_batch_size=5, max_body_mib=2))
    answerer = model.classifier(ClassifyOptions())
    assert (answerer.workers, answerer.batch_size, answerer.max_bytes) == (3, 5, 2 * 2**20)


def test_decoding_has_the_memory_that_it_has_in_the_service(engine: FakeEngine) -> None:
    model = LocalModel(Settings())
    with serve() as server:
        service = server.server.lifecycle.service
        assert model._decoder.limits == service.pipeline.decode_threads._decoder.limits
        assert model._decoder.limits.max_bytes_at_once >= 12 * model._decoder.limits.max_pixels
