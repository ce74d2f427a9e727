"""The Open Inference Protocol, asked by Triton's own client."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from app import __version__
from model.checkpoints.checkpoint import Checkpoint
from model.engines import load_engine
from model.network.scores import softmax
from tests.app.api.routes.open_inference.test_routes import NAME, WIDTHS, Floats, grey
from tests.conftest import LiveServer
from tests.optional import triton as http

pytestmark = pytest.mark.thorough

utils = pytest.importorskip("tritonclient.utils")


@pytest.fixture(scope="module")
def expected(checkpoint: Checkpoint, pixels: NDArray[np.uint8]) -> dict[str, Floats]:
    """What PyTorch computes of the cat and the coffee."""
    output = load_engine(checkpoint, name="torch").run(pixels)
    return {
        "probabilities": softmax(output.logits),
        "logits": output.logits,
        "embedding": output.pooled,
    }


def address(server: LiveServer) -> str:
    return server.url.removeprefix("http://")


@pytest.fixture(scope="module")
def triton(live_server: LiveServer) -> Iterator[Any]:
    with http.InferenceServerClient(address(live_server)) as client:
        yield client


def files(*images: bytes, binary: bool = True) -> Any:
    """Encoded images as the input `image`; in JSON they are base64."""
    elements = images if binary else [base64.b64encode(image) for image in images]
    tensor = http.InferInput("image", [len(images)], "BYTES")
    return tensor.set_data_from_numpy(np.array(elements, np.object_), binary_data=binary)


def raw(pixels: NDArray[np.uint8], *, binary: bool = True) -> Any:
    tensor = http.InferInput("pixels", list(pixels.shape), "UINT8")
    return tensor.set_data_from_numpy(pixels, binary_data=binary)


def assert_outputs(answer: Any, expected: dict[str, Floats]) -> None:
    for name, values in expected.items():
        assert answer.as_numpy(name) == pytest.approx(values, abs=2e-3)
        assert answer.as_numpy(name).dtype == np.float32


def refused(triton: Any, *arguments: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(utils.InferenceServerException) as error:
        triton.infer(*arguments, **options)
    return error.value.status(), error.value.message()


def test_health_and_metadata_are_as_the_client_expects(triton: Any, client: httpx2.Client) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(NAME)
    assert not triton.is_model_ready("resnet")
    assert triton.get_server_metadata() == {
        "name": "mobilenet-serve",
        "version": __version__,
        "extensions": ["binary_tensor_data", "classification"],
    }
    assert triton.get_model_metadata(NAME) == client.get(f"/v2/models/{NAME}").json()


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
    outputs = [http.InferRequestedOutput(name, binary_data=binary_output) for name in WIDTHS]
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


@pytest.mark.parametrize("binary", [True, False])
def test_chosen_outputs_come_alone_and_in_their_order(
    triton: Any, images: tuple[bytes, bytes], *, binary: bool
) -> None:
    outputs = [
        http.InferRequestedOutput("embedding", binary_data=binary),
        http.InferRequestedOutput("logits", binary_data=not binary),
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
    output = http.InferRequestedOutput(name, class_count=3, binary_data=binary)
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
    output = http.InferRequestedOutput("logits", class_count=5000)
    assert triton.infer(NAME, [files(cat)], outputs=[output]).as_numpy("logits").shape == (1, 1001)


@pytest.mark.anyio
async def test_the_async_client_has_the_same_answers(
    live_server: LiveServer,
    images: tuple[bytes, bytes],
    pixels: NDArray[np.uint8],
    expected: dict[str, Floats],
) -> None:
    from tritonclient.http import aio

    async with aio.InferenceServerClient(address(live_server)) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(NAME)
        assert (await client.get_model_metadata(NAME))["name"] == NAME
        for tensor in (files(*images), files(*images, binary=False), raw(pixels)):
            assert_outputs(await client.infer(NAME, [tensor], request_id="b"), expected)
        with pytest.raises(utils.InferenceServerException, match="No model of that name"):
            await client.infer("resnet", [files(*images)])


def test_refusals_are_exceptions_with_a_sentence(triton: Any, cat: bytes) -> None:
    unknown = http.InferRequestedOutput("heatmap")
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
    classes = http.InferRequestedOutput("embedding", class_count=3)
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


def test_every_model_has_one_version(triton: Any, cat: bytes) -> None:
    assert triton.is_model_ready(NAME, "1")
    assert triton.get_model_metadata(NAME, "1") == triton.get_model_metadata(NAME)
    assert triton.get_model_metadata(NAME)["versions"] == ["1"]
    answer = triton.infer(NAME, [files(cat)], model_version="1")
    assert answer.get_response()["model_version"] == "1"
    assert answer.as_numpy("logits").argmax() == 282


def test_another_version_is_not_found(triton: Any, cat: bytes) -> None:
    assert not triton.is_model_ready(NAME, "2")
    status, text = refused(triton, NAME, [files(cat)], model_version="2")
    assert (status, text) == ("404", "A model has one version, `1`.")
    status, text = refused(triton, "resnet", [files(cat)], model_version="1")
    assert (status, text.startswith("No model")) == ("404", True)


@pytest.mark.parametrize("binary", [True, False])
def test_several_inputs_are_answered_in_their_order(
    triton: Any, cat: bytes, coffee: bytes, *, binary: bool
) -> None:
    pixels = grey(7, 2)
    alone = triton.infer(NAME, [raw(pixels)]).as_numpy("embedding")
    images = triton.infer(NAME, [files(cat, coffee)]).as_numpy("embedding")
    inputs = [raw(pixels), files(cat, coffee, binary=binary)]
    answer = triton.infer(NAME, inputs).as_numpy("embedding")
    assert answer == pytest.approx(np.concatenate([alone, images]), abs=1e-4)
    answer = triton.infer(NAME, inputs[::-1]).as_numpy("embedding")
    assert answer == pytest.approx(np.concatenate([images, alone]), abs=1e-4)


def test_a_bad_image_of_several_inputs_is_named_by_its_place_in_its_own(
    triton: Any, cat: bytes
) -> None:
    status, text = refused(triton, NAME, [raw(grey(7, 2)), files(cat, cat[:9000])])
    assert (status, text) == ("400", "image[1]: The image ends before its last row.")


def test_shared_memory_is_refused_for_inputs_and_outputs(triton: Any, cat: bytes) -> None:
    tensor, output = files(cat), http.InferRequestedOutput("logits")
    output.set_shared_memory("region", 4004)
    status, text = refused(triton, NAME, [tensor], outputs=[output])
    assert (status, text) == ("400", "outputs: There is no shared memory.")
    tensor.set_shared_memory("region", 100)
    assert refused(triton, NAME, [tensor]) == ("400", "inputs: There is no shared memory.")
    with pytest.raises(utils.InferenceServerException, match=r"\[404\] There is nothing"):
        triton.register_system_shared_memory("region", "/region", 100)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_refused_and_answers_are_never_compressed(
    triton: Any, cat: bytes, algorithm: str
) -> None:
    options = {"request_compression_algorithm": algorithm}
    status, text = refused(triton, NAME, [files(cat)], **options)
    assert (status, "must not be compressed" in text) == ("400", True)
    answer = triton.infer(NAME, [files(cat)], response_compression_algorithm=algorithm)
    assert answer.as_numpy("logits").shape == (1, 1001)


def test_options_for_sequences_and_priorities_are_ignored(triton: Any, cat: bytes) -> None:
    options = {"sequence_id": 3, "sequence_start": True, "priority": 2, "parameters": {"a": "b"}}
    assert triton.infer(NAME, [files(cat)], **options).as_numpy("logits").shape == (1, 1001)
