from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from model.checkpoints.checkpoint import load_checkpoint
from model.errors import InvalidCheckpointError
from tests.model.checkpoints.test_checkpoint import FILES, STEM, read_tensors
from tests.model.sources.refusal import refused

MISSING = {"model.safetensors": "is missing; a pickle (pytorch_model.bin) is not read"}


@pytest.fixture
def unsigned(tiny_directory: Path) -> Path:
    """A sound checkpoint without SHA256SUMS."""
    (tiny_directory / "SHA256SUMS").unlink()
    return tiny_directory


def refusal(directory: Path, file: str) -> str:
    """See the directory refused, and return what the refusal says of the file."""
    return refused(lambda: load_checkpoint(directory), f"{directory / file}: ")


@pytest.mark.parametrize("file", FILES)
def test_one_flipped_bit_is_refused(tiny_directory: Path, file: str) -> None:
    data = bytearray((tiny_directory / file).read_bytes())
    data[len(data) // 2] ^= 1
    (tiny_directory / file).write_bytes(data)
    assert "SHA256SUMS" in refusal(tiny_directory, file)


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_refused(tiny_directory: Path, file: str) -> None:
    (tiny_directory / file).unlink()
    assert refusal(tiny_directory, file).startswith(MISSING.get(file, "No such file or directory"))


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_refused_without_sums(unsigned: Path, file: str) -> None:
    (unsigned / file).unlink()
    assert refusal(unsigned, file).startswith(MISSING.get(file, "No such file or directory"))


@pytest.mark.parametrize(
    "sums",
    [b"what is this\n", b"00  ../config.json\n", b"00  \n", b"\xff\n", b"\n"],
    ids=["text", "outside", "no-name", "binary", "blank"],
)
def test_sums_that_are_none_are_refused(tiny_directory: Path, sums: bytes) -> None:
    (tiny_directory / "SHA256SUMS").write_bytes(sums)
    assert refusal(tiny_directory, "SHA256SUMS")


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpointError, match=r"nowhere: is not a directory"):
        load_checkpoint(tmp_path / "nowhere")


def test_a_file_in_place_of_the_directory_is_refused(tiny_directory: Path) -> None:
    with pytest.raises(InvalidCheckpointError, match=r"config\.json: is not a directory"):
        load_checkpoint(tiny_directory / "config.json")


@pytest.mark.parametrize("file", FILES)
def test_a_directory_in_place_of_a_file_is_refused(unsigned: Path, file: str) -> None:
    (unsigned / file).unlink()
    (unsigned / file).mkdir()
    assert refusal(unsigned, file) == "Is a directory"


@pytest.mark.parametrize("file", FILES)
def test_an_empty_file_is_refused(unsigned: Path, file: str) -> None:
    (unsigned / file).write_bytes(b"")
    assert refusal(unsigned, file)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_truncated_weights_are_refused(unsigned: Path, share: float) -> None:
    path = unsigned / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "is cut" in refusal(unsigned, path.name)


def test_random_bytes_are_refused(unsigned: Path) -> None:
    (unsigned / "model.safetensors").write_bytes(np.random.default_rng(0).bytes(5000))
    assert "is not a safetensors file" in refusal(unsigned, "model.safetensors")


def test_a_pickle_in_place_of_the_weights_is_refused_and_never_executed(unsigned: Path) -> None:
    trace = unsigned / "executed"
    payload = f"cos\nmkdir\n(V{trace}\ntR.".encode()  # os.mkdir(trace)
    (unsigned / "model.safetensors").write_bytes(payload)
    assert "is not a safetensors file" in refusal(unsigned, "model.safetensors")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        pytest.param("classifier.bias", np.zeros(4), "has shape (4,)", id="classes"),
        pytest.param(
            f"{STEM}.convolution.weight", np.zeros((8, 3, 3)), "has shape", id="dimensions"
        ),
        pytest.param("classifier.bias", np.array([0, np.nan, 0]), "not finite", id="nan"),
        pytest.param("classifier.bias", np.array([0, np.inf, 0]), "not finite", id="infinity"),
        pytest.param(
            f"{STEM}.normalization.running_var",
            np.array([1, 1, 1, 1, 1, 1, 1, -1e-6]),
            "negative values",
            id="variance",
        ),
        pytest.param("head\n.weight", np.zeros(3), "unknown tensor 'head\\n.weight'", id="unknown"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused_by_name(
    unsigned: Path, name: str, value: NDArray[Any], complaint: str
) -> None:
    tensors = read_tensors(unsigned) | {name: value.astype(np.float32)}
    safetensors.numpy.save_file(tensors, unsigned / "model.safetensors")
    text = refusal(unsigned, "model.safetensors")
    assert complaint in text
    assert repr(name)[1:-1] in text


@pytest.mark.parametrize(
    "name", [f"{STEM}.convolution.weight", f"{STEM}.normalization.running_var", "classifier.weight"]
)
def test_a_missing_tensor_is_refused_by_name(unsigned: Path, name: str) -> None:
    tensors = read_tensors(unsigned)
    del tensors[name]
    safetensors.numpy.save_file(tensors, unsigned / "model.safetensors")
    assert refusal(unsigned, "model.safetensors") == f"has no tensor {name}"


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        pytest.param('{"model_type": "resnet"}', "model_type", id="another-model"),
        pytest.param("not json", "JSON", id="not-json"),
        pytest.param('{"num_channels": 1}', "num_channels: Input should be 3", id="grey"),
        pytest.param('{"id2label": {"0": "a", "2": "c"}}', "without a gap", id="gap"),
    ],
)
def test_a_configuration_of_something_else_is_refused(
    unsigned: Path, document: str, complaint: str
) -> None:
    (unsigned / "config.json").write_text(document)
    assert complaint in refusal(unsigned, "config.json")


def test_a_configuration_that_the_weights_do_not_fit_is_refused(unsigned: Path) -> None:
    config = json.loads((unsigned / "config.json").read_text())
    (unsigned / "config.json").write_text(json.dumps(config | {"min_depth": 9}))
    assert "the configuration wants (9, 3, 3, 3)" in refusal(unsigned, "model.safetensors")


@pytest.mark.parametrize(
    "document",
    [
        {"crop_size": {"height": 16, "width": 224}},
        {"do_center_crop": False, "size": {"height": 16, "width": 224}},
    ],
    ids=json.dumps,
)
def test_an_input_that_the_network_cannot_see_is_refused(
    unsigned: Path, document: dict[str, Any]
) -> None:
    (unsigned / "preprocessor_config.json").write_text(json.dumps(document))
    complaint = "has input size 16x224, but sides must be at least 32"
    assert refusal(unsigned, "preprocessor_config.json") == complaint
