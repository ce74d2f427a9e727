"""Stores what transformers makes of images and configurations, for tests that run without it.

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


def write(name: str, answers: dict[str, Any]) -> None:
    (FOLDER / f"{name}.json").write_text(json.dumps(answers, indent=1) + "\n")


def main() -> None:
    photos = [Image.open(path).convert("RGB") for path in sorted(IMAGES.glob("*.jpg"))]
    write("pixels", pixels(photos))
    with tempfile.TemporaryDirectory() as folder:
        write("configurations", configurations(Path(folder)))


if __name__ == "__main__":
    main()
