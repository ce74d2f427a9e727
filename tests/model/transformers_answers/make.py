"""Stores what transformers answers to images and configurations, for tests that run without it.

`python -m tests.model.transformers_answers.make` writes the files beside this one anew.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from model.engines.onnx.float_graph import ACTIVATIONS
from model.images.preprocessor_config import Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = Path(__file__).parent
IMAGES = FOLDER.parents[1] / "images"

_SIZES = [
    *[(1, 1), (2, 3), (31, 17), (223, 225), (224, 224), (255, 257)],
    *[(256, 256), (257, 1000), (1000, 257), (640, 480), (641, 481), (1200, 1200)],
    *[(20, 300), (300, 20), (90, 1350), (1351, 91)],
]
_OTHER_CHECKPOINTS = ((160, 128), (192, 160), (224, 192), (256, 224), (160, 160), (300, 32))
"""Preprocessing as (shortest edge, side of the crop)."""

NULLS = json.dumps(dict.fromkeys(("do_resize", "do_rescale", "do_normalize")))
SETTINGS = [
    json.dumps(settings)
    for settings in (
        {},
        {"size": {"shortest_edge": 200}, "crop_size": {"height": 160, "width": 192}, "resample": 3},
        {"rescale_factor": 1 / 127.5, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]},
        {"size": 99, "crop_size": 77},
    )
]
"""What a processor is created with before transformers saves it."""
SPELLINGS = [
    json.dumps(document)
    for document in (
        {"size": 200},
        {"size": 200, "default_to_square": True},
        {"size": [200, 180]},
        {"size": {"height": 200, "width": 180}},
        {"crop_size": 100},
        {"crop_size": [100, 120]},
        {"do_resize": False, "do_normalize": False},
        {"image_mean": 0.4, "image_std": 1},
        {"feature_extractor_type": "MobileNetV1FeatureExtractor", "size": {"shortest_edge": 99}},
        {"image_processor_type": "MobileNetV1ImageProcessorFast", "do_convert_rgb": True},
        {"do_pad": False, "pad_size": None, "data_format": "channels_first"},
        {"_valid_processor_keys": ["images"], "processor_class": None},
    )
]

NETWORK: dict[str, Any] = {
    "image_size": 160,
    "depth_multiplier": 0.5,
    "min_depth": 16,
    "hidden_act": "silu",
    "tf_padding": False,
    "classifier_dropout_prob": 0.2,
    "initializer_range": 0.1,
    "layer_norm_eps": 1e-5,
}
"""Every setting of a network but its labels, none at its default."""
TWINS: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "same padding": ({"depth_multiplier": 0.25}, (97, 131)),
    "explicit padding": ({"depth_multiplier": 0.25, "tf_padding": False}, (97, 131)),
    "min_depth": ({"depth_multiplier": 0.1, "min_depth": 24}, (64, 48)),
    "layer_norm_eps": ({"depth_multiplier": 0.1, "layer_norm_eps": 0.1}, (64, 48)),
    "one class": ({"depth_multiplier": 0.1, "num_labels": 1}, (64, 48)),
} | {name: ({"depth_multiplier": 0.1, "hidden_act": name}, (64, 48)) for name in ACTIVATIONS}
"""A random network's settings and its input's (height, width)."""


def twin_settings(case: str) -> dict[str, Any]:
    return {"num_labels": 11} | TWINS[case][0]


def twin_pixels(case: str) -> NDArray[np.uint8]:
    shape = (1, *TWINS[case][1], 3)
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


def every_byte() -> NDArray[np.uint8]:
    row = np.arange(256, dtype=np.uint8)
    return np.stack([row, row[::-1], row], axis=-1).reshape(16, 16, 3)


def create_preprocessing(shortest_edge: int, crop: int, **keys: Any) -> Preprocessing:
    return Preprocessing.model_validate(
        {
            "size": {"shortest_edge": shortest_edge},
            "crop_size": {"height": crop, "width": crop},
            **keys,
        }
    )


CASES: dict[str, tuple[tuple[int, int], Preprocessing]] = (
    {f"{width}x{height}": ((width, height), Preprocessing()) for width, height in _SIZES}
    | {
        f"{width}x{height} at {edge}-{crop}": ((width, height), create_preprocessing(edge, crop))
        for edge, crop in _OTHER_CHECKPOINTS
        for width, height in ((131, 97), (640, 427), (100, 1200))
    }
    | {
        f"640x427 by {name}": ((640, 427), Preprocessing(resample=int(Image.Resampling[name])))
        for name in ("NEAREST", "LANCZOS", "BILINEAR", "BICUBIC", "BOX", "HAMMING")
    }
    | {
        "320x200 without a crop": (
            (320, 200),
            Preprocessing.model_validate(
                {"size": {"height": 100, "width": 77}, "do_center_crop": False}
            ),
        ),
        "320x200 without a resize": ((320, 200), Preprocessing(do_resize=False)),
        "50x40 without a resize": ((50, 40), Preprocessing(do_resize=False)),
    }
)
"""An image's (width, height) and what is to be made of it, by name."""


@cache
def noise(size: tuple[int, int]) -> Image.Image:
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8))


def digest(pixels: NDArray[np.uint8]) -> str:
    assert pixels.dtype == np.uint8
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def load(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_bytes())


def load_answers() -> dict[str, NDArray[np.float32]]:
    with np.load(FOLDER / "answers.npz") as stored:
        return dict(stored)


def reference_pixels(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """What transformers makes of an image, before it scales the values."""
    from tests.optional import transformers

    processor = transformers.MobileNetV1ImageProcessorPil(
        **preprocessing.model_dump(exclude_none=True) | {"do_rescale": False, "do_normalize": False}
    )
    pixels: NDArray[np.uint8] = processor(image, return_tensors="np")["pixel_values"][0]
    return pixels.transpose(1, 2, 0)


def pixels(photos: list[Image.Image]) -> dict[str, Any]:
    return {
        "noise": {
            name: digest(reference_pixels(noise(size), preprocessing))
            for name, (size, preprocessing) in CASES.items()
        },
        "photos": [digest(reference_pixels(photo, Preprocessing())) for photo in photos],
    }


def configurations(folder: Path) -> dict[str, Any]:
    """What transformers saves of settings, and what it reads of each spelling."""
    from tests.optional import transformers

    path = folder / "preprocessor_config.json"
    saved, read = {}, {}
    for settings in SETTINGS:
        transformers.MobileNetV1ImageProcessorPil(**json.loads(settings)).save_pretrained(folder)
        saved[settings] = json.loads(path.read_bytes())
    for spelling in (*SPELLINGS, NULLS):
        path.write_text(spelling)
        theirs = transformers.MobileNetV1ImageProcessorPil.from_pretrained(folder)
        read[spelling] = json.loads(theirs.to_json_string())
    return {"saved": saved, "read": read}


def network_configurations(folder: Path) -> dict[str, Any]:
    """The default network, and what transformers saves of another."""
    from tests.optional import transformers

    other: dict[str, Any] = NETWORK | {"num_labels": 5}
    transformers.MobileNetV1Config(**other).save_pretrained(folder)
    default = transformers.MobileNetV1Config().to_dict()
    saved = json.loads((folder / "config.json").read_bytes())
    del saved["transformers_version"]
    settings = (*NETWORK, "model_type", "num_channels", "id2label")
    return {"default": {name: default[name] for name in settings}, "saved": saved}


def answers(photos: list[Image.Image]) -> dict[str, NDArray[np.float32]]:
    """Logits and pooled features of photos by the packaged network, and of noise by random ones."""
    from tests.model.torch_twins import create_twins
    from tests.optional import torch, transformers

    loader: Any = transformers.AutoImageProcessor
    processor = loader.from_pretrained(DEFAULT_DIRECTORY, backend="pil")
    packaged = transformers.AutoModelForImageClassification.from_pretrained(DEFAULT_DIRECTORY)
    scaled = processor(
        Image.fromarray(every_byte()), do_resize=False, do_center_crop=False, return_tensors="np"
    )
    networks = {"photos": (packaged.eval(), processor(photos, return_tensors="pt")["pixel_values"])}
    for case in TWINS:
        pixels = twin_pixels(case).astype(np.float32) / np.float32(127.5) - np.float32(1)
        images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        networks[case] = (create_twins(**twin_settings(case))[1], images)
    stored = {"every byte": scaled["pixel_values"]}
    with torch.inference_mode():
        for case, (network, images) in networks.items():
            stored[f"{case} logits"] = network(images).logits.numpy()
            stored[f"{case} pooled"] = network.mobilenet_v1(images).pooler_output.numpy()
    return stored


def write(name: str, answers: dict[str, Any]) -> None:
    (FOLDER / f"{name}.json").write_text(json.dumps(answers, indent=1) + "\n")


def main() -> None:
    photos = [Image.open(path).convert("RGB") for path in sorted(IMAGES.glob("*.jpg"))]
    write("pixels", pixels(photos))
    with tempfile.TemporaryDirectory() as folder:
        write("configurations", configurations(Path(folder)))
        write("network_configurations", network_configurations(Path(folder)))
    stored: Any = answers(photos)
    np.savez_compressed(FOLDER / "answers.npz", **stored)


if __name__ == "__main__":
    main()
