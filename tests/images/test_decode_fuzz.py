"""Whatever the bytes: a sound image within the limits, or an ImageError."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.images.decode import ERROR_TYPES, DecodeLimits, ImageError, decode

# Small, so that a mutated header can't ask the test machine for gigabytes.
LIMITS = DecodeLimits(max_pixels=50_000, min_side=1)
NOISE = np.random.default_rng(5).integers(0, 256, (12, 10, 3), dtype=np.uint8)

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's remarks on damaged metadata

fuzzed = settings(
    max_examples=400,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def seed_files() -> list[bytes]:
    colour = Image.fromarray(NOISE)
    grey16 = Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    ways: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (colour, "PNG", {"exif": exif}),
        (colour.convert("P"), "PNG", {"transparency": 1}),
        (grey16, "PNG", {}),
        (colour, "PNG", {"save_all": True, "append_images": [colour.rotate(180)]}),
        (colour, "JPEG", {"exif": exif}),
        (colour.convert("CMYK"), "JPEG", {"progressive": True}),
        (colour, "BMP", {}),
        (colour.convert("P"), "BMP", {}),
        (colour, "TIFF", {"exif": exif}),
        (colour, "TIFF", {"compression": "tiff_lzw"}),
        (colour.convert("1"), "TIFF", {"compression": "group4"}),
        (grey16, "TIFF", {"big_tiff": True}),
        (colour, "WEBP", {"exif": exif}),
        (colour, "WEBP", {"lossless": True}),
        (colour, "GIF", {}),
        (colour, "GIF", {"save_all": True, "append_images": [colour.rotate(180)]}),
        (colour, "PPM", {}),
        (grey16.convert("I"), "PPM", {}),
    ]
    files = []
    for image, fmt, options in ways:
        buffer = io.BytesIO()
        image.save(buffer, fmt, **options)
        files.append(buffer.getvalue())
    return [*files, b"P2\n3 2\n7\n0 1 2\n3 4 5\n", b"P1\n3 2\n0 1 0\n1 0 1\n"]


SEEDS = seed_files()
SIGNATURES = [data[:18] for data in SEEDS]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid file with bytes changed, a piece cut out or repeated, and often its end cut off."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    # Headers are where parsers fall over: half of the changes go to the first 64 bytes.
    positions = st.one_of(st.integers(0, min(64, len(data)) - 1), st.integers(0, len(data) - 1))
    for position, value in draw(st.lists(st.tuples(positions, st.integers(0, 255)), max_size=6)):
        data[position] = value
    start, length = draw(positions), draw(st.integers(0, 40))
    piece = bytes(data[start : start + length])
    data[start : start + length] = piece * draw(st.sampled_from([1, 1, 0, 2]))
    end = draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))
    return bytes(data[:end])


def assert_sound_or_refused(data: bytes) -> None:
    try:
        image = decode(data, LIMITS)
    except ImageError as error:
        assert error.error_type in ERROR_TYPES
        assert len(str(error)) > 20
        return
    assert image.pixels.shape == (image.height, image.width, 3)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.flags.c_contiguous
    assert 1 <= image.width * image.height <= LIMITS.max_pixels


@pytest.mark.parametrize("data", SEEDS)
def test_the_seeds_reach_the_decoders(data: bytes) -> None:
    try:
        decode(data, LIMITS)
    except ImageError as error:
        assert error.error_type == "animated"


@given(mutated())
@fuzzed
def test_mutated_files(data: bytes) -> None:
    assert_sound_or_refused(data)


@given(st.sampled_from(SIGNATURES), st.binary(max_size=200))
@fuzzed
def test_noise_behind_a_valid_signature(signature: bytes, noise: bytes) -> None:
    assert_sound_or_refused(signature + noise)


@given(st.binary(max_size=200))
@fuzzed
def test_plain_noise(noise: bytes) -> None:
    assert_sound_or_refused(noise)
