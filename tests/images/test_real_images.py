"""Images of real lines, where they lie beside the checkout: all decode, to what OpenCV reads."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.images.decode import DecodedImage, ImageError, decode

REAL = Path(__file__).parents[3] / "shared" / "real"

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real images at {REAL}")


def files(*suffixes: str) -> list[Path]:
    return sorted(path for path in REAL.rglob("*") if path.suffix in suffixes)


def by_opencv(path: Path) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), np.uint8)


def assert_size(path: Path, image: DecodedImage) -> None:
    short, long = sorted((image.width, image.height))
    match path.relative_to(REAL).parts[0]:
        case "grid":
            assert (short, long) == (1024, 1024)
        case "hazelnut":
            assert 500 <= short <= 512 <= long <= 530
        case _:
            assert 100 <= short <= long <= 700


def test_every_real_image_decodes_to_its_size_and_pixels() -> None:
    formats: Counter[str] = Counter()
    for path in files(".png", ".jpg"):
        image = decode(path.read_bytes())
        formats[image.format] += 1
        reference = by_opencv(path)
        assert_size(path, image)
        assert image.pixels.shape == reference.shape, path
        # PNG is exact; two builds of libjpeg may round a DCT differently.
        tolerance = 0 if image.format == "PNG" else 3
        assert np.abs(image.pixels.astype(np.int16) - reference).max() <= tolerance, path
    assert formats["PNG"] > 100
    assert formats["JPEG"] > 300


def test_the_stray_text_files_of_a_real_set_are_no_images() -> None:
    texts = files(".txt", ".md")
    assert texts
    for path in texts:
        with pytest.raises(ImageError) as refusal:
            decode(path.read_bytes())
        assert refusal.value.error_type == "not_an_image"
