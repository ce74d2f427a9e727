"""The Open Inference Protocol, as its clients write it."""

from __future__ import annotations

import base64
import json
import struct
import threading
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from app import __version__
from app.inference.lifecycle import Lifecycle
from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, Checkpoint
from model.engines import load_engine
from model.engines.base import Engine
from model.network.scores import softmax
from tests.conftest import serve
from tests.fakes import FakeEngine
from tests.image_files import uniform

NAME = DEFAULT_DIRECTORY.name
INFER = f"/v2/models/{NAME}/infer"
WIDTHS = {"probabilities": 1001, "logits": 1001, "embedding": 1024}

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def expected(checkpoint: Checkpoint, pixels: NDArray[np.uint8]) -> dict[str, Floats]:
    """What the engine computes of the cat and the coffee."""
    output = load_engine(checkpoint).run(pixels)
    return {
        "probabilities": softmax(output.logits),
        "logits": output.logits,
        "embedding": output.pooled,
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
        httpx2.Client(base_url=server.url) as client,
    ):

        def statuses() -> list[int]:
            paths = ("health/live", "health/ready", f"models/{NAME}/ready")
            return [client.get(f"/v2/{path}").status_code for path in paths]

        assert statuses() == [200, 503, 503]
        loading.set()
        server.wait_for(server.server.lifecycle.ready.is_set)
        assert statuses() == [200, 200, 200]
        server.server.lifecycle.begin_drain()
        assert statuses()[:2] == [200, 503]
        assert list(client.get("/v2/health/ready").json()) == ["error"]


def test_the_server_and_the_model_describe_themselves(client: httpx2.Client) -> None:
    assert client.get("/v2").json() == {
        "name": "mobilenet-serve",
        "version": __version__,
        "extensions": ["binary_tensor_data", "classification"],
    }
    described = client.get(f"/v2/models/{NAME}").json()
    assert (
        described
        == client.get(f"/v2/models/{NAME}/versions/1").json()
        == {
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
    )
    for path in ("models/resnet", "models/resnet/ready", f"models/{NAME}/versions/2"):
        assert client.get(f"/v2/{path}").status_code == 404


def send(client: httpx2.Client, document: Any, binary: bytes = b"", **more: Any) -> httpx2.Response:
    """Post a request whose inputs may have their data behind the JSON."""
    head = json.dumps(document).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return client.post(more.pop("path", INFER), content=head + binary, headers=headers, **more)


def in_binary(*images: bytes) -> tuple[dict[str, Any], bytes]:
    data = b"".join(struct.pack("<I", len(one)) + one for one in images)
    return sized(len(data), shape=[len(images)]), data


def in_json(*images: bytes) -> tuple[dict[str, Any], bytes]:
    texts = [base64.b64encode(one).decode() for one in images]
    return image(shape=[len(images)], data=texts), b""


def grey(value: int, count: int = 1) -> NDArray[np.uint8]:
    return np.full((count, 224, 224, 3), value, np.uint8)


def raw(pixels: NDArray[np.uint8]) -> tuple[dict[str, Any], bytes]:
    tensor = dots(shape=list(pixels.shape), data=None, parameters={"binary_data_size": pixels.size})
    return tensor, pixels.tobytes()


@pytest.mark.parametrize("encode", [in_binary, in_json])
def test_images_are_answered_in_both_encodings(
    client: httpx2.Client, cat: bytes, coffee: bytes, expected: dict[str, Floats], encode: Any
) -> None:
    document, behind = encode(cat, coffee)
    in_text = send(client, {**document, "id": "a-7"}, behind).json()
    assert (in_text["id"], in_text["model_name"]) == ("a-7", NAME)
    document["parameters"] = {"binary_data_output": True}
    answer = send(client, document, behind)
    length = int(answer.headers["Inference-Header-Content-Length"])
    described, data = json.loads(answer.content[:length]), answer.content[length:]
    for text, one in zip(in_text["outputs"], described["outputs"], strict=True):
        size = one["parameters"]["binary_data_size"]
        values = np.frombuffer(data[:size], "<f4").reshape(one["shape"])
        assert values == pytest.approx(expected[one["name"]], abs=2e-3)
        assert values.ravel() == pytest.approx(text["data"])
        data = data[size:]
    assert not data


def test_pixels_and_images_of_one_request_are_answered_in_their_order(
    client: httpx2.Client, cat: bytes
) -> None:
    tensors = [raw(grey(7, 2)), in_binary(cat)]

    def embed(*inputs: tuple[dict[str, Any], bytes]) -> Floats:
        document = {"inputs": [one["inputs"][0] for one, _ in inputs]}
        document["outputs"] = [{"name": "embedding"}]
        answer = send(client, document, b"".join(data for _, data in inputs)).json()
        return np.array(answer["outputs"][0]["data"], np.float32).reshape(-1, 1024)

    first, second = map(embed, tensors)
    assert embed(*tensors) == pytest.approx(np.concatenate([first, second]), abs=1e-4)
    assert embed(*tensors[::-1]) == pytest.approx(np.concatenate([second, first]), abs=1e-4)


def test_class_count_gives_the_best_classes_as_triton_writes_them(
    client: httpx2.Client, cat: bytes, expected: dict[str, Floats]
) -> None:
    document, _ = in_json(cat)
    document["outputs"] = [
        {"name": "logits", "parameters": {"classification": 3}},
        {"name": "probabilities", "parameters": {"classification": 5000}},
    ]
    best, every = send(client, document).json()["outputs"]
    assert (best["datatype"], best["shape"], every["shape"]) == ("BYTES", [1, 3], [1, 1001])
    classes = np.argsort(expected["logits"][0])[::-1][:3]
    assert [int(text.split(":")[1]) for text in best["data"]] == list(classes)
    assert best["data"][0].split(":")[2] == "tabby, tabby cat"
    scores = [text.split(":")[0] for text in best["data"]]
    assert [float(one) for one in scores] == pytest.approx(expected["logits"][0][classes], abs=2e-3)
    assert {len(one.partition(".")[2]) for one in scores} == {6}


@pytest.mark.parametrize(
    ("changes", "more", "status", "sentence"),
    [
        ({"outputs": [{"name": "embedding", "parameters": {"classification": 3}}]}, {}, 400,
         "no classes"),
        ({"outputs": [{"name": "logits", "parameters": {"shared_memory_region": "r"}}]}, {}, 400,
         "outputs: There is no shared memory."),
        ({"parameters": {"timeout": 1}}, {}, 504, "deadline"),
        ({}, {"path": "/v2/models/resnet/infer"}, 404, "No model"),
        ({}, {"path": f"/v2/models/{NAME}/versions/2/infer"}, 404,
         "A model has one version, `1`."),
        ({"parameters": {"timeout": 0, "sequence_id": 3, "priority": 2, "a": "b"}}, {}, 200, ""),
        ({}, {"path": f"/v2/models/{NAME}/versions/1/infer"}, 200, ""),
    ],
)  # fmt: skip
def test_a_parameter_is_followed_or_refused_in_a_sentence(
    client: httpx2.Client, changes: Any, more: Any, status: int, sentence: str
) -> None:
    answer = send(client, {**in_json(uniform(1))[0], **changes}, **more)
    assert answer.status_code == status
    assert sentence in answer.json().get("error", "")


def test_a_bad_image_of_several_is_named_by_its_place(client: httpx2.Client, cat: bytes) -> None:
    answer = send(client, *in_binary(cat, cat, cat[:9000]))
    assert answer.status_code == 400
    assert answer.json()["error"] == "image[2]: The image ends before its last row."


def test_a_compressed_request_is_refused(client: httpx2.Client) -> None:
    answer = client.post(INFER, content=b"{}", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, "must not be compressed" in answer.json()["error"]) == (400, True)


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
