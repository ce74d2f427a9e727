from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.images.preprocessor_config import Preprocessing
from tests.model.sources.refusal import refused
from tests.model.transformers_answers import make

STORED = make.load("configurations")
CHANGED: dict[str, Any] = {
    "size": {"shortest_edge": 200},
    "crop_size": {"height": 160, "width": 192},
    "resample": 3,
    "rescale_factor": 1 / 127.5,
    "image_mean": (0.485, 0.456, 0.406),
    "image_std": (0.229, 0.224, 0.225),
}


SAVED: list[dict[str, Any]] = [
    {},
    CHANGED,
    {"size": {"height": 99, "width": 77}, "do_center_crop": False},
    {"do_resize": False, "do_rescale": False, "do_normalize": False},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "preprocessor_config.json"


def load(path: Path, document: dict[str, Any]) -> Preprocessing:
    path.write_text(json.dumps(document))
    return Preprocessing.load(path)


@pytest.mark.parametrize("document", SAVED, ids=str)
def test_a_saved_configuration_is_loaded_as_it_was(path: Path, document: dict[str, Any]) -> None:
    preprocessing = Preprocessing.model_validate(document)
    preprocessing.save(path)
    assert Preprocessing.load(path) == preprocessing


@pytest.mark.thorough
@pytest.mark.parametrize("document", SAVED, ids=str)
def test_transformers_reads_a_saved_configuration(path: Path, document: dict[str, Any]) -> None:
    from tests.optional import transformers

    preprocessing = Preprocessing.model_validate(document)
    preprocessing.save(path)
    loader: Any = transformers.AutoImageProcessor
    theirs = loader.from_pretrained(path.parent, backend="pil")
    assert type(theirs).__name__ == "MobileNetV1ImageProcessorPil"
    read = json.loads(theirs.to_json_string())
    expected = preprocessing.model_dump(mode="json", exclude_none=True)
    assert {key: read[key] for key in expected} == expected


@pytest.mark.parametrize("settings", make.SETTINGS)
def test_a_configuration_that_transformers_saved_is_read(path: Path, settings: str) -> None:
    assert load(path, STORED["saved"][settings]) == Preprocessing.model_validate_json(settings)


@pytest.mark.parametrize("spelling", make.SPELLINGS)
def test_every_spelling_means_what_it_means_to_transformers(path: Path, spelling: str) -> None:
    ours = load(path, json.loads(spelling))
    theirs = STORED["read"][spelling]
    for key, value in ours.model_dump(mode="json", exclude_none=True).items():
        mean_of_all = isinstance(value, list) and isinstance(theirs[key], int | float)
        assert value == ([theirs[key]] * 3 if mean_of_all else theirs[key])


@pytest.mark.thorough
def test_the_stored_configurations_are_those_of_transformers(tmp_path: Path) -> None:
    assert make.configurations(tmp_path) == STORED


def test_a_step_that_is_null_is_left_out_as_transformers_does(path: Path) -> None:
    steps = dict.fromkeys(("do_resize", "do_rescale", "do_normalize"))
    ours = load(path, steps | {"image_processor_type": "MobileNetV1ImageProcessor"})
    for step in steps:
        assert getattr(ours, step) is bool(STORED["read"][make.NULLS][step]) is False


def test_a_null_that_no_step_needs_is_the_default(path: Path) -> None:
    document = {"do_resize": None, "size": None, "resample": None, "do_pad": None}
    assert load(path, document) == Preprocessing(do_resize=False)


@pytest.mark.parametrize(
    ("document", "darkest", "lightest"),
    [
        ({}, -1, 1),
        ({"image_mean": 0.25, "image_std": 0.5}, -0.5, 1.5),
        ({"rescale_factor": 1, "image_mean": 0, "image_std": 1}, 0, 255),
        ({"do_normalize": False}, 0, 1),
        ({"do_rescale": False}, -1, 509),
        ({"do_rescale": False, "do_normalize": False}, 0, 255),
    ],
    ids=str,
)
def test_pixels_are_rescaled_and_then_normalized(
    document: dict[str, Any], darkest: float, lightest: float
) -> None:
    scale, offset = Preprocessing.model_validate(document).scale_and_offset()
    np.testing.assert_allclose(0 / scale - offset, [darkest] * 3, rtol=1e-6)
    np.testing.assert_allclose(255 / scale - offset, [lightest] * 3, rtol=1e-6)


@pytest.mark.thorough
@given(
    do_rescale=st.booleans(),
    do_normalize=st.booleans(),
    rescale_factor=st.sampled_from([1 / 255, 1 / 127.5, 1, 0.01]),
    image_mean=st.floats(0, 1) | st.tuples(*[st.floats(0, 1)] * 3),
    image_std=st.floats(0.1, 2) | st.tuples(*[st.floats(0.1, 2)] * 3),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_network_s_input_is_that_of_transformers(**document: Any) -> None:
    from tests.optional import transformers

    pixels = np.arange(256, dtype=np.uint8).repeat(3 * 4).reshape(32, 32, 3)
    scale, offset = Preprocessing.model_validate(document).scale_and_offset()
    processor = transformers.MobileNetV1ImageProcessorPil(
        **document, do_resize=False, do_center_crop=False
    )
    expected = processor(pixels, return_tensors="np", input_data_format="channels_last")
    actual = (pixels / scale - offset).astype(np.float32)
    theirs = expected["pixel_values"][0].transpose(1, 2, 0)
    assert np.allclose(actual, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


def refusal(path: Path) -> str:
    return refused(lambda: Preprocessing.load(path), f"{path}: ")


@pytest.mark.parametrize(
    "document",
    [
        {"do_resize": False, "do_center_crop": False},
        {"do_center_crop": False},
        {"do_resize": "perhaps"},
        {"crop_size": {"height": 224}} | {"crop_size": {"shortest_edge": 224}},
        {"crop_size": [224]},
        {"crop_size": 2001},
        {"size": {"height": 256}},
        {"size": {"shortest_edge": 100_000}},
        {"size": {"shortest_edge": 256, "longest_edge": 300}},
        {"size": {"max_height": 256, "max_width": 300}},
        {"size": 0},
        {"size": []},
        {"size": "large"},
        {"size": None},
        {"image_mean": None},
        {"do_center_crop": None},
        {"resample": 9},
        {"resample": -1},
        {"rescale_factor": 0},
        {"image_mean": [0.5]},
        {"image_std": [0.5, 0, 0.5]},
        {"image_std": [0.5, -1, 0.5]},
        {"do_pad": True},
        {"do_flip_channel_order": True},
        {"crop_pct": 0.875},
        {"auto_map": {"AutoImageProcessor": "code.Processor"}},
        {"image_processor_type": "ViTImageProcessor"},
        {"feature_extractor_type": "ConvNextFeatureExtractor"},
    ],
    ids=json.dumps,
)
def test_what_cannot_be_honoured_is_refused_by_its_key(
    path: Path, document: dict[str, Any]
) -> None:
    path.write_text(json.dumps(document))
    text = refusal(path)
    assert next(iter(document)) in text
    kind = document.get("image_processor_type") or document.get("feature_extractor_type")
    assert kind is None or kind in text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"], ids=repr)
def test_what_is_not_a_json_object_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert refusal(path)
