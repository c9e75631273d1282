"""The perceptual hash keeps its bits under other light, and loses them with another surface."""

from __future__ import annotations

import io

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.images.fingerprint import HASH_SIDE, even_light, perceptual_hash
from pipeline.images.geometry import resize_square


def surface(seed: int, side: int = 200) -> np.ndarray:
    """Blotches and grain, as on a cast or ground part; (side, side) float in grey levels."""
    rng = np.random.default_rng(seed)
    field = np.zeros((side, side))
    for cells, strength in ((8, 12), (16, 12), (40, 8), (side, 3)):
        noise = rng.normal(0, strength, (cells, cells)).astype(np.float32)
        field += np.asarray(Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC))
    return field + 128


def hashed(grey: np.ndarray) -> np.ndarray:
    pixels = np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return np.unpackbits(perceptual_hash(resize_square(pixels, HASH_SIDE)))


def distance(a: np.ndarray, b: np.ndarray) -> int:
    return int((hashed(a) != hashed(b)).sum())


def lamp(side: int = 200) -> np.ndarray:
    across = np.linspace(0.5, 1.4, side)
    return across[None, :] * np.linspace(1.2, 0.9, side)[:, None]


@pytest.mark.parametrize("seed", range(4))
def test_another_exposure_lamp_or_encoding_is_the_same_part(seed: int) -> None:
    part = surface(seed)
    assert distance(part, part * 0.55) <= 40
    assert distance(part, part * lamp()) <= 40
    buffer = io.BytesIO()
    Image.fromarray(part.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=70)
    assert distance(part, np.asarray(Image.open(buffer), float)) <= 40


def test_two_parts_under_one_lamp_are_two_parts() -> None:
    parts = [surface(seed) * lamp() for seed in range(8)]
    found = [distance(a, b) for i, a in enumerate(parts) for b in parts[:i]]
    assert min(found) > 80
    # The plain hash sees the lamp: it is what the light is evened out for.
    plain = [imagehash.phash(Image.fromarray(p.clip(0, 255).astype(np.uint8)), 16) for p in parts]
    assert np.mean([a - b for i, a in enumerate(plain) for b in plain[:i]]) < np.mean(found)


def naive_even_light(grey: np.ndarray) -> np.ndarray:
    """Window by window, in floating point."""
    padded = np.pad(grey.astype(float), 6, mode="edge")
    result = np.empty(grey.shape)
    for y, x in np.ndindex(*grey.shape):
        window = padded[y : y + 13, x : x + 13]
        result[y, x] = 128 + 48 * (grey[y, x] - window.mean()) / max(window.std(), 1)
    return result.clip(0, 255)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 999), st.sampled_from([0, 1, 3, 60]))
def test_evening_the_light_equals_the_formula(seed: int, contrast: int) -> None:
    grey = np.random.default_rng(seed).normal(90, contrast, (20, 27)).clip(0, 255).astype(np.uint8)
    assert np.abs(even_light(grey) - naive_even_light(grey)).max() <= 0.5 + 1e-6


def test_an_image_without_anything_on_it_has_a_hash() -> None:
    blank = np.full((64, 64, 3), 77, np.uint8)
    assert perceptual_hash(blank).tolist() == [128] + [0] * 31  # the bit of its mean
