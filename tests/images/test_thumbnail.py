"""Thumbnails: size, shape and content of what a decoder reads back."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.images.thumbnail import thumbnail


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(400, 800, (96, 48)), (800, 400, (48, 96)), (30, 20, (20, 30)), (1, 5000, (96, 1))],
)
def test_the_longer_side_fits_and_nothing_is_enlarged(
    height: int, width: int, size: tuple[int, int]
) -> None:
    small = decoded(thumbnail(np.full((height, width, 3), 90, np.uint8)))
    assert small.format == "JPEG"
    assert small.size == size


def test_channels_and_places_are_kept() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    image[:100, :, 0], image[100:, :, 2] = 220, 220
    small = np.asarray(decoded(thumbnail(image, 50))).astype(int)
    assert small[5, 25] == pytest.approx([220, 0, 0], abs=12)
    assert small[45, 25] == pytest.approx([0, 0, 220], abs=12)


def test_a_thin_scratch_leaves_a_trace() -> None:
    image = np.full((960, 960, 3), 100, np.uint8)
    image[:, 480:483] = 255
    small = np.asarray(decoded(thumbnail(image))).astype(int)
    assert small[:, 47:50].max() > 120


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="need uint8"):
        thumbnail(image)
