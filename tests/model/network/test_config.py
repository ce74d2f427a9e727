from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from model.errors import InvalidCheckpointError
from model.network.config import MobileNetV1Config
from tests.model.sources.refusal import refused
from tests.model.transformers_answers import make

if TYPE_CHECKING:
    from pathlib import Path

STORED = make.load("network_configurations")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def refusal(path: Path, document: str | bytes) -> str:
    """Write a document, see it refused, and return what the refusal says of it."""
    path.write_bytes(document if isinstance(document, bytes) else document.encode())
    return refused(lambda: MobileNetV1Config.load(path), f"{path}: ")


def test_every_setting_and_default_is_that_of_transformers() -> None:
    ours = MobileNetV1Config()
    assert make.NETWORK.keys() | {"model_type", "num_channels", "id2label"} == (
        ours.model_dump().keys()
    )
    assert json.loads(ours.model_dump_json()) == STORED["default"]
    assert ours.num_labels == 2


@pytest.mark.thorough
def test_the_stored_configurations_are_those_of_transformers(tmp_path: Path) -> None:
    current = make.network_configurations(tmp_path)
    assert json.loads(json.dumps(current)) == STORED


def test_a_saved_configuration_is_loaded_as_it_was(path: Path) -> None:
    config = MobileNetV1Config(**make.NETWORK, id2label={0: "kitten", 1: "jaguar", 2: "日本"})
    config.save(path)
    assert MobileNetV1Config.load(path) == config


@pytest.mark.parametrize(
    ("labels", "architecture"),
    [(["kitten"], "MobileNetV1ForImageClassification"), ([], "MobileNetV1Model")],
)
def test_a_saved_configuration_names_the_class_that_transformers_loads(
    path: Path, labels: list[str], architecture: str
) -> None:
    MobileNetV1Config(id2label=dict(enumerate(labels))).save(path)
    document = json.loads(path.read_text())
    assert document["architectures"] == [architecture]
    assert document["label2id"] == {label: number for number, label in enumerate(labels)}


@pytest.mark.thorough
def test_transformers_reads_a_saved_configuration(path: Path) -> None:
    from tests.optional import transformers

    config = MobileNetV1Config(**make.NETWORK, id2label={0: "kitten", 1: "jaguar", 2: "日本"})
    config.save(path)
    theirs = transformers.AutoConfig.from_pretrained(path.parent)
    assert type(theirs).__name__ == "MobileNetV1Config"
    assert {name: getattr(theirs, name) for name in config.model_dump()} == config.model_dump()
    assert theirs.label2id == {"kitten": 0, "jaguar": 1, "日本": 2}
    assert theirs.architectures == ["MobileNetV1ForImageClassification"]


def test_a_configuration_that_transformers_saved_is_read(path: Path) -> None:
    path.write_text(json.dumps(STORED["saved"]))
    ours = MobileNetV1Config.load(path)
    assert {name: getattr(ours, name) for name in make.NETWORK} == make.NETWORK
    assert ours.id2label == {number: f"LABEL_{number}" for number in range(5)}


def test_the_number_of_classes_alone_names_them_as_transformers_does() -> None:
    number: dict[str, Any] = {"num_labels": 5}
    id2label = MobileNetV1Config.model_validate(number).id2label
    assert {str(number): name for number, name in id2label.items()} == STORED["saved"]["id2label"]


def test_keys_that_are_not_about_the_network_are_left_out(path: Path) -> None:
    path.write_text(json.dumps({"model_type": "mobilenet_v1", "dtype": "float32", "_name": "x"}))
    assert MobileNetV1Config.load(path) == MobileNetV1Config()


def test_a_missing_file_is_refused(path: Path) -> None:
    with pytest.raises(InvalidCheckpointError, match=r"config\.json: No such file"):
        MobileNetV1Config.load(path)


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"[1]", b"null", b"not json", b"\xff\xfe", b"\x80\x02}q\x00."],
    ids=["empty", "cut", "list", "null", "text", "utf-16", "pickle"],
)
def test_what_is_not_a_json_object_is_refused(path: Path, document: bytes) -> None:
    assert refusal(path, document)


@pytest.mark.parametrize(
    "setting",
    [
        {"model_type": "mobilenet_v2"},
        {"num_channels": 0},
        {"depth_multiplier": 0},
        {"depth_multiplier": -1},
        {"depth_multiplier": "wide"},
        {"min_depth": 0},
        {"hidden_act": 3},
        {"tf_padding": "sometimes"},
        {"classifier_dropout_prob": 1.5},
        {"initializer_range": -0.1},
        {"layer_norm_eps": 0},
        {"id2label": None},
        {"id2label": {"0": "a", "2": "c"}},
        {"id2label": {"1": "b"}},
        {"id2label": {"first": "a"}},
        {"num_labels": None},
        {"num_labels": [1]},
        {"num_labels": "many"},
        {"num_labels": -3},
    ],
    ids=json.dumps,
)
def test_an_impossible_value_is_refused_by_its_key(path: Path, setting: dict[str, Any]) -> None:
    (key,) = setting
    assert key in refusal(path, json.dumps(setting))


@pytest.mark.parametrize("key", ["depth_multiplier", "num_labels"])
def test_an_infinite_value_is_refused_by_its_key(path: Path, key: str) -> None:
    assert key in refusal(path, f'{{"{key}": 1e400}}')


def test_a_key_with_a_line_break_is_refused_in_one_line(path: Path) -> None:
    assert "id2label" in refusal(path, json.dumps({"id2label": {"a\nb\r\u2028c": "x"}}))


def test_the_layers_are_those_of_the_paper() -> None:
    layers = MobileNetV1Config().layers
    assert [layer.end_point for layer in layers] == [
        "Conv2d_0",
        *[f"Conv2d_{n}_{step}" for n in range(1, 14) for step in ("depthwise", "pointwise")],
    ]
    assert [layer.out_channels for layer in layers[::2]] == [
        *[32, 64, 128, 128, 256, 256],
        *[512] * 6,
        *[1024, 1024],
    ]
    depthwise = layers[1::2]
    assert [layer.stride for layer in depthwise] == [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    assert all(layer.groups == layer.in_channels == layer.out_channels for layer in depthwise)
    assert all(layer.kernel_size == layer.stride == 1 for layer in layers[2::2])


def test_no_layer_is_thinner_than_min_depth() -> None:
    layers = MobileNetV1Config(depth_multiplier=0.01, min_depth=6).layers
    assert {layer.out_channels for layer in layers[:-4]} == {6}
    assert MobileNetV1Config(depth_multiplier=0.01, min_depth=6).num_features == 10
