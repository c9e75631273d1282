"""Brightness, contrast and sharpness against the plain formulas, and what they must not see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import convolve, gaussian_filter

from pipeline.images.facts import image_facts

LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
LUMA = np.array([0.299, 0.587, 0.114])


def texture(height: int, width: int, seed: int = 0, *, smooth: float = 1.5) -> np.ndarray:
    """(H, W) grey levels around 110, of several scales."""
    noise = np.random.default_rng(seed).normal(0, 1, (height, width))
    field = gaussian_filter(noise, smooth) / 0.4 + 4 * gaussian_filter(noise, 4 * smooth)
    return 110 + 30 * field / field.std()


def rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(np.rint(grey).clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


@pytest.mark.parametrize("shape", [(60, 90), (200, 131), (16, 700)])
def test_the_formulas_on_an_image_that_is_not_shrunk(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = image_facts(pixels)
    grey = np.rint(pixels @ LUMA)
    edges = convolve(grey, LAPLACIAN, mode="mirror")
    # Grey in whole levels: a level of rounding in some pixels.
    assert found.brightness == pytest.approx(grey.mean(), abs=0.02)
    assert found.contrast == pytest.approx(grey.std(), rel=1e-3)
    assert found.sharpness == pytest.approx(np.sqrt((edges**2).mean()) / grey.std(), rel=1e-3)


def test_a_grey_image_keeps_its_levels_and_a_colour_counts_by_its_luma() -> None:
    assert image_facts(np.full((40, 40, 3), 77, np.uint8)).brightness == 77
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 200
    assert image_facts(red).brightness == pytest.approx(200 * LUMA[0], abs=0.5)


@pytest.mark.parametrize("level", [0, 77, 255])
def test_a_flat_image_has_no_sharpness(level: int) -> None:
    found = image_facts(np.full((700, 500, 3), level, np.uint8))
    assert (found.brightness, found.contrast) == (level, 0)
    assert np.isnan(found.sharpness)


@pytest.mark.parametrize(("gain", "offset"), [(0.6, 0), (0.8, 20), (1.3, -10)])
def test_light_moves_brightness_and_contrast_and_leaves_sharpness(
    gain: float, offset: float
) -> None:
    plain = texture(300, 400)
    before, after = image_facts(rgb(plain)), image_facts(rgb(gain * plain + offset))
    assert after.brightness == pytest.approx(gain * before.brightness + offset, abs=1)
    assert after.contrast == pytest.approx(gain * before.contrast, rel=0.02)
    assert after.sharpness == pytest.approx(before.sharpness, rel=0.03)


@pytest.mark.parametrize("blur", [0.7, 1.5, 3.0])
def test_blur_lowers_sharpness_and_leaves_brightness(blur: float) -> None:
    plain = texture(256, 256)
    before, after = image_facts(rgb(plain)), image_facts(rgb(gaussian_filter(plain, blur)))
    assert after.sharpness < 0.9 * before.sharpness
    assert after.brightness == pytest.approx(before.brightness, abs=0.5)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_camera_of_more_pixels_gives_the_same_sharpness(factor: int) -> None:
    plain = texture(280, 270)
    large = np.kron(plain, np.ones((factor, factor)))
    before, after = image_facts(rgb(plain)), image_facts(rgb(large))
    assert after.sharpness == pytest.approx(before.sharpness, rel=0.05)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40))
def test_every_shape_has_facts_and_mirrored_images_have_the_same(
    seed: int, height: int, width: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = image_facts(pixels)
    mirrored = image_facts(np.ascontiguousarray(pixels[::-1, ::-1]))
    assert 0 <= found.brightness <= 255
    assert mirrored.contrast == pytest.approx(found.contrast)
    assert mirrored.sharpness == pytest.approx(found.sharpness, nan_ok=True)


def test_a_line_scan_strip_can_be_shrunk() -> None:
    strip = rgb(texture(16, 300)).repeat(200, axis=1)
    assert image_facts(strip).contrast > 0


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="need uint8"):
        image_facts(image)
