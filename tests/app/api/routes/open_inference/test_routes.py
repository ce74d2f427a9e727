"""The Open Inference Protocol, asked by Triton's own client."""

from __future__ import annotations

import base64
import json
import struct
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.http import aio as triton_aio
from tritonclient.utils import InferenceServerException

from app import __version__
from app.inference.lifecycle import Lifecycle
from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, Checkpoint
from model.engines import load_engine
from model.engines.base import Engine
from model.images.decoder import DecodeLimits, Decoder
from model.images.pixels import preprocess
from model.network.scores import softmax
from tests.conftest import LiveServer, serve
from tests.fakes import FakeEngine

NAME = DEFAULT_DIRECTORY.name
INFER = f"/v2/models/{NAME}/infer"
WIDTHS = {"probabilities": 1001, "logits": 1001, "embedding": 1024}

Floats = NDArray[np.float32]


def address(server: LiveServer) -> str:
    return server.url.removeprefix("http://")


@pytest.fixture(scope="module")
def triton(live_server: LiveServer) -> Iterator[Any]:
    with InferenceServerClient(address(live_server)) as client:
        yield client


@pytest.fixture(scope="module")
def pixels(checkpoint: Checkpoint, cat: bytes, coffee: bytes) -> NDArray[np.uint8]:
    decoder = Decoder(DecodeLimits())
    preprocessing = checkpoint.preprocessing
    return np.stack([preprocess(decoder.decode(one), preprocessing) for one in (cat, coffee)])


@pytest.fixture(scope="module")
def expected(checkpoint: Checkpoint, pixels: NDArray[np.uint8]) -> dict[str, Floats]:
    """What PyTorch computes of the cat and the coffee."""
    output = load_engine(checkpoint, name="torch").run(pixels)
    return {
        "probabilities": softmax(output.logits),
        "logits": output.logits,
        "embedding": output.pooled,
    }


def files(*images: bytes, binary: bool = True) -> Any:
    """Encoded images as the input `image`; in JSON they are base64."""
    elements = images if binary else [base64.b64encode(image) for image in images]
    tensor = InferInput("image", [len(images)], "BYTES")
    return tensor.set_data_from_numpy(np.array(elements, np.object_), binary_data=binary)


def raw(pixels: NDArray[np.uint8], *, binary: bool = True) -> Any:
    tensor = InferInput("pixels", list(pixels.shape), "UINT8")
    return tensor.set_data_from_numpy(pixels, binary_data=binary)


def assert_outputs(answer: Any, expected: dict[str, Floats]) -> None:
    for name, values in expected.items():
        assert answer.as_numpy(name) == pytest.approx(values, abs=2e-3)
        assert answer.as_numpy(name).dtype == np.float32


def test_health_and_metadata_are_as_the_client_expects(triton: Any) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(NAME)
    assert not triton.is_model_ready("resnet")
    assert triton.get_server_metadata() == {
        "name": "mobilenet-serve",
        "version": __version__,
        "extensions": ["binary_tensor_data", "classification"],
    }
    assert triton.get_model_metadata(NAME) == {
        "name": NAME,
        "versions": ["1"],
        "platform": "onnx",
        "inputs": [
            {"name": "image", "datatype": "BYTES", "shape": [-1]},
            {"name": "pixels", "datatype": "UINT8", "shape": [-1, 224, 224, 3]},
        ],
        "outputs": [
            {"name": name, "datatype": "FP32", "shape": [-1, width]}
            for name, width in WIDTHS.items()
        ],
    }


def test_a_server_that_is_not_loaded_or_drains_is_not_ready(
    monkeypatch: pytest.MonkeyPatch, fake_engine: FakeEngine
) -> None:
    loading = threading.Event()
    load = Lifecycle._load_engines

    def slow(self: Lifecycle) -> list[Engine]:
        loading.wait()
        return load(self)

    monkeypatch.setattr(Lifecycle, "_load_engines", slow)
    with (
        serve(wait_until_loaded=False) as server,
        InferenceServerClient(address(server)) as client,
    ):
        assert client.is_server_live()
        assert not client.is_server_ready()
        assert not client.is_model_ready(NAME)
        loading.set()
        server.wait_for(server.server.lifecycle.ready.is_set)
        assert client.is_server_ready()
        server.server.lifecycle.begin_drain()
        assert client.is_server_live()
        assert not client.is_server_ready()
        refused = httpx2.get(f"{server.url}/v2/health/ready")
        assert (refused.status_code, list(refused.json())) == (503, ["error"])


@pytest.mark.parametrize("binary_input", [True, False], ids=["bytes in", "json in"])
@pytest.mark.parametrize("binary_output", [True, False], ids=["bytes out", "json out"])
def test_a_batch_of_files_is_answered_in_both_encodings(
    triton: Any,
    images: tuple[bytes, bytes],
    expected: dict[str, Floats],
    *,
    binary_input: bool,
    binary_output: bool,
) -> None:
    outputs = [InferRequestedOutput(name, binary_data=binary_output) for name in WIDTHS]
    answer = triton.infer(NAME, [files(*images, binary=binary_input)], outputs=outputs)
    assert_outputs(answer, expected)
    described = answer.get_response()["outputs"]
    assert [output["name"] for output in described] == list(WIDTHS)
    assert ["data" in output for output in described] == [not binary_output] * 3


@pytest.fixture
def images(cat: bytes, coffee: bytes) -> tuple[bytes, bytes]:
    return cat, coffee


@pytest.mark.parametrize("binary", [True, False])
def test_a_batch_of_pixels_is_answered_in_both_encodings(
    triton: Any, pixels: NDArray[np.uint8], expected: dict[str, Floats], *, binary: bool
) -> None:
    answer = triton.infer(NAME, [raw(pixels, binary=binary)], request_id="a-7")
    assert_outputs(answer, expected)
    assert answer.get_response()["id"] == "a-7"
    assert answer.get_response()["model_name"] == NAME


@pytest.mark.parametrize("nested", [True, False])
def test_json_numbers_may_be_nested(
    client: httpx2.Client, pixels: NDArray[np.uint8], expected: dict[str, Floats], *, nested: bool
) -> None:
    data = pixels.tolist() if nested else pixels.ravel().tolist()
    tensor = {"name": "pixels", "shape": [2, 224, 224, 3], "datatype": "UINT8", "data": data}
    answer = client.post(INFER, json={"inputs": [tensor]}).json()
    assert "id" not in answer
    assert {one["name"]: one["shape"] for one in answer["outputs"]} == {
        name: [2, width] for name, width in WIDTHS.items()
    }
    for output in answer["outputs"]:
        values = expected[output["name"]].ravel()
        assert np.array(output["data"]) == pytest.approx(values, abs=2e-3)


@pytest.mark.parametrize("binary", [True, False])
def test_chosen_outputs_come_alone_and_in_their_order(
    triton: Any, images: tuple[bytes, bytes], *, binary: bool
) -> None:
    outputs = [
        InferRequestedOutput("embedding", binary_data=binary),
        InferRequestedOutput("logits", binary_data=not binary),
    ]
    answer = triton.infer(NAME, [files(*images)], outputs=outputs).get_response()
    assert [output["name"] for output in answer["outputs"]] == ["embedding", "logits"]
    assert ["data" in output for output in answer["outputs"]] == [not binary, binary]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("name", ["probabilities", "logits"])
def test_class_count_gives_the_best_classes_as_triton_writes_them(
    triton: Any,
    images: tuple[bytes, bytes],
    expected: dict[str, Floats],
    name: str,
    *,
    binary: bool,
) -> None:
    output = InferRequestedOutput(name, class_count=3, binary_data=binary)
    answer = triton.infer(NAME, [files(*images)], outputs=[output])
    rows = answer.as_numpy(name)
    assert (rows.shape, answer.get_output(name)["datatype"]) == ((2, 3), "BYTES")
    texts = [[one.decode() if binary else one for one in row] for row in rows]
    assert texts[0][0].split(":")[1:] == ["282", "tabby, tabby cat"]
    for row, values in zip(texts, expected[name], strict=True):
        best = np.argsort(values)[::-1][:3]
        assert [int(text.split(":")[1]) for text in row] == list(best)
        scores = [text.split(":")[0] for text in row]
        assert [float(score) for score in scores] == pytest.approx(values[best], abs=2e-3)
        assert {len(score.partition(".")[2]) for score in scores} == {6}


def test_more_classes_than_there_are_are_all_of_them(triton: Any, cat: bytes) -> None:
    output = InferRequestedOutput("logits", class_count=5000)
    assert triton.infer(NAME, [files(cat)], outputs=[output]).as_numpy("logits").shape == (1, 1001)


@pytest.mark.anyio
async def test_the_async_client_has_the_same_answers(
    live_server: LiveServer,
    images: tuple[bytes, bytes],
    pixels: NDArray[np.uint8],
    expected: dict[str, Floats],
) -> None:
    async with triton_aio.InferenceServerClient(address(live_server)) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(NAME)
        assert (await client.get_model_metadata(NAME))["name"] == NAME
        for tensor in (files(*images), files(*images, binary=False), raw(pixels)):
            assert_outputs(await client.infer(NAME, [tensor], request_id="b"), expected)
        with pytest.raises(InferenceServerException, match="No model of that name"):
            await client.infer("resnet", [files(*images)])


def refused(triton: Any, *arguments: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as error:
        triton.infer(*arguments, **options)
    return error.value.status(), error.value.message()


def test_refusals_are_exceptions_with_a_sentence(triton: Any, cat: bytes) -> None:
    unknown = InferRequestedOutput("heatmap")
    assert refused(triton, NAME, [files(cat)], outputs=[unknown]) == (
        "400",
        "outputs: An output is one of `probabilities`, `logits`, `embedding`.",
    )
    wrong = raw(np.zeros((1, 32, 32, 3), np.uint8))
    assert refused(triton, NAME, [wrong]) == (
        "400",
        "inputs: The shape of `pixels` is [-1, 224, 224, 3].",
    )
    status, text = refused(triton, "resnet", [files(cat)])
    assert (status, text.startswith("No model")) == ("404", True)
    status, text = refused(triton, NAME, [files(cat)], request_compression_algorithm="gzip")
    assert (status, "compressed" in text) == ("400", True)
    classes = InferRequestedOutput("embedding", class_count=3)
    status, text = refused(triton, NAME, [files(cat)], outputs=[classes])
    assert (status, "no classes" in text) == ("400", True)


def test_one_bad_image_of_several_is_named_by_its_index(triton: Any, cat: bytes) -> None:
    status, text = refused(triton, NAME, [files(cat, cat, cat[:9000])])
    assert (status, text) == ("400", "image[2]: The image ends before its last row.")
    assert refused(triton, NAME, [files(b"<svg/>")])[1].startswith("The body is not a JPEG")


def test_a_deadline_can_be_lowered_in_microseconds(triton: Any, cat: bytes) -> None:
    status, text = refused(triton, NAME, [files(cat)], timeout=1)
    assert (status, "deadline" in text) == ("504", True)
    assert triton.infer(NAME, [files(cat)], timeout=0).as_numpy("logits").shape == (1, 1001)


def image(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [""], **changes}
    return {"inputs": [{name: value for name, value in tensor.items() if value is not None}]}


def dots(**changes: Any) -> dict[str, Any]:
    return image(**{"name": "pixels", "shape": [1, 224, 224, 3], "datatype": "UINT8", **changes})


def sized(size: int, **changes: Any) -> dict[str, Any]:
    return image(data=None, parameters={"binary_data_size": size}, **changes)


GREY = [7] * (224 * 224 * 3)


@pytest.mark.parametrize(
    ("document", "behind", "sentence"),
    [
        ([], b"", "must be a JSON object"),
        ({}, b"", "inputs: "),
        ({"inputs": []}, b"", "Give a tensor"),
        ({"inputs": [{"name": "image"}]}, b"", "inputs[0].shape: "),
        (image(name="s3cret"), b"", "is named `image` or `pixels`"),
        (image(datatype="FP32"), b"", "`image` is BYTES"),
        (image(datatype="s3cret"), b"", "`image` is BYTES"),
        (image(shape=[1, 1]), b"", "`image` is [-1]"),
        (image(shape=[]), b"", "`image` is [-1]"),
        (image(shape=[-1]), b"", "inputs[0].shape[0]: "),
        (image(shape=[0], data=[]), b"", "at least 1 and at most 64"),
        (image(shape=[65], data=[""] * 65), b"", "at least 1 and at most 64"),
        (image(shape=[2]), b"", "not how many elements"),
        (image(data=None), b"", "has `data`, or"),
        (image(data=[5]), b"", "base64 or a data: URI"),
        (image(data=["?"]), b"", "image[0]: The image is not valid base64"),
        (image(data=["http://localhost/"]), b"", "image[0]: The image is not valid base64"),
        (image(), b"", "no bytes"),
        (image(parameters={"binary_data_size": 1}), b"x", "not both"),
        (image(), b"x", "behind the JSON"),
        (sized(9), b"12345678", "behind the JSON"),
        (sized(3), b"123", "in four bytes"),
        (sized(5), struct.pack("<I", 2) + b"x", "longer than"),
        (sized(8, shape=[1]), struct.pack("<II", 0, 0), "not how many elements"),
        (sized(0), b"", "not how many elements"),
        (sized(-1), b"", "binary_data_size: "),
        (image(parameters={"shared_memory_region": "s3cret"}), b"", "no shared memory"),
        (dots(data=GREY[1:]), b"", "another number of values"),
        (dots(data=[*GREY[1:], 256]), b"", "0 to 255"),
        (dots(data=[*GREY[1:], "s3cret"]), b"", "0 to 255"),
        (dots(data=[*GREY[1:], 1.5]), b"", "0 to 255"),
        (dots(data=[[], []]), b"", "0 to 255"),
        (dots(data=[[[[1, 2, 3]]], 5]), b"", "0 to 255"),
        (dots(datatype="FP32"), b"", "`pixels` is UINT8"),
        ({**image(), "outputs": [{"name": "logits"}] * 2}, b"", "named twice"),
        ({**image(), "outputs": [{"name": "s3cret"}]}, b"", "An output is one of"),
        ({**image(), "id": "x" * 2000}, b"", "id: "),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_a_bad_request(
    client: httpx2.Client, document: Any, behind: bytes, sentence: str
) -> None:
    head = json.dumps(document).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))} if behind else {}
    answer = client.post(INFER, content=head + behind, headers=headers)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert sentence in answer.json()["error"]
    assert "s3cret" not in answer.text


@pytest.mark.parametrize("length", ["-1", "1e3", "99999", "x", "\xb2"])
def test_a_header_length_that_is_none_is_a_bad_request(client: httpx2.Client, length: str) -> None:
    headers = {b"Inference-Header-Content-Length": length.encode("latin-1")}
    answer = client.post(INFER, content=b"{}", headers=headers)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert "Inference-Header-Content-Length" in answer.json()["error"]
