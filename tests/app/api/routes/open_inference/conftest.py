from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.checkpoints.checkpoint import Checkpoint
from model.images.decoder import DecodeLimits, Decoder
from model.images.pixels import preprocess


@pytest.fixture(scope="package")
def pixels(checkpoint: Checkpoint, cat: bytes, coffee: bytes) -> NDArray[np.uint8]:
    decoder = Decoder(DecodeLimits())
    preprocessing = checkpoint.preprocessing
    return np.stack([preprocess(decoder.decode(one), preprocessing) for one in (cat, coffee)])
