from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from components.common.scoring.inline_pictures import data_uri


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def test_class_maps_stay_exact_inside_a_page() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[::2] = 255, 255, 0
    uri = data_uri(picture, 64)
    assert uri.startswith("data:image/png;base64,")
    np.testing.assert_array_equal(np.asarray(decoded(uri).convert("RGB")), picture)


def test_photographs_inside_a_page_are_small_and_of_the_size_asked_for() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (100, 50, 3), np.uint8)
    uri = data_uri(picture, 40)
    assert uri.startswith("data:image/jpeg;base64,") and decoded(uri).size == (20, 40)
