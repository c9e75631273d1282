"""Masks to boxes, against a flood fill and naive merging, and what is no mask."""

from __future__ import annotations

import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from pipeline.errors import InputError
from pipeline.images.boxes import MAX_COMPONENTS, BoxRules, marked, mask_boxes
from pipeline.images.decode import decode

Box = tuple[int, int, int, int]
MASKS = arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))


def flooded(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """The 8-connected components, pixel by pixel."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        spot, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            spot.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
        found.append(spot)
    return found


def around(spot: set[tuple[int, int]]) -> Box:
    ys, xs = zip(*spot, strict=True)
    return min(xs), min(ys), max(xs) + 1, max(ys) + 1


def gap(a: Box, b: Box) -> int:
    """Empty columns or rows between two boxes, the larger number."""
    return max(max(a[i], b[i]) - min(a[i + 2], b[i + 2]) for i in (0, 1))


def naive(mask: np.ndarray, min_area: int, distance: int) -> list[Box]:
    spots = flooded(mask)
    while True:
        close = next(
            (
                (a, b)
                for a, b in combinations(spots, 2)
                if max(gap(around(a), around(b)), 0) < distance
            ),
            None,
        )
        if close is None:
            break
        spots = [s for s in spots if s not in close] + [close[0] | close[1]]
    boxes = [around(spot) for spot in spots if len(spot) >= min_area]
    return sorted(boxes, key=lambda b: (b[1], b[0], b[2], b[3]))


@given(MASKS, st.integers(1, 6), st.integers(0, 5))
def test_boxes_are_those_of_a_flood_fill_merged_naively(
    mask: np.ndarray, min_area: int, distance: int
) -> None:
    found = mask_boxes(mask, BoxRules(min_area, distance), "m")
    assert found.shape[1] == 4
    assert [tuple(box) for box in found.tolist()] == naive(mask, min_area, distance)


@given(MASKS, st.integers(0, 5))
def test_every_marked_pixel_lies_in_a_box_and_boxes_keep_their_distance(
    mask: np.ndarray, distance: int
) -> None:
    boxes = mask_boxes(mask, BoxRules(1, distance), "m")
    covered = np.zeros_like(mask)
    for x0, y0, x1, y1 in boxes:
        covered[y0:y1, x0:x1] = True
    assert (covered | ~mask).all()
    assert all(max(gap(a, b), 0) >= distance for a, b in combinations(boxes.tolist(), 2))


def test_several_defects_of_one_image_stay_apart_until_they_are_close() -> None:
    mask = np.zeros((40, 60), bool)
    mask[5:10, 5:10] = mask[5:10, 16:20] = mask[30:34, 50:58] = True
    apart = mask_boxes(mask, BoxRules(1, 6), "m").tolist()
    assert apart == [[5, 5, 10, 10], [16, 5, 20, 10], [50, 30, 58, 34]]
    assert mask_boxes(mask, BoxRules(1, 7), "m").tolist() == [[5, 5, 20, 10], [50, 30, 58, 34]]
    assert mask_boxes(mask, BoxRules(26, 0), "m").tolist() == [[50, 30, 58, 34]]


def test_specks_that_make_up_a_defect_together_count_together() -> None:
    mask = np.zeros((9, 40), bool)
    mask[4, 2:30:3] = True
    assert mask_boxes(mask, BoxRules(10, 3), "m").tolist() == [[2, 4, 30, 5]]
    assert len(mask_boxes(mask, BoxRules(10, 2), "m")) == 0


def grey(values: np.ndarray) -> np.ndarray:
    return np.stack([values.astype(np.uint8)] * 3, axis=-1)


@pytest.mark.parametrize("value", [1, 128, 253, 255])
def test_a_mask_of_two_values_marks_what_is_above_0(value: int) -> None:
    mask = np.zeros((20, 30), bool)
    mask[3:7, 4:20] = True
    assert np.array_equal(marked(grey(mask * value), "m"), mask)


def test_masks_in_grey_rgb_palette_and_one_bit_mark_the_same() -> None:
    mask = np.zeros((24, 30), bool)
    mask[3:9, 4:20] = True
    plain = Image.fromarray((mask * 255).astype(np.uint8))
    palette = Image.fromarray(mask.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 200, 0, 0])
    red = Image.merge("RGB", [plain, Image.new("L", plain.size), Image.new("L", plain.size)])
    for image in (plain, plain.convert("1"), plain.convert("RGB"), red, palette):
        file = io.BytesIO()
        image.save(file, "PNG")
        assert np.array_equal(marked(decode(file.getvalue()).pixels, "m"), mask), image.mode


def test_nothing_and_everything_are_masks_too() -> None:
    assert not marked(grey(np.zeros((20, 20))), "m").any()
    assert marked(grey(np.full((20, 20), 255)), "m").all()


@pytest.mark.parametrize("quality", [60, 75, 95])
def test_a_mask_that_went_through_jpeg_gives_its_boxes_again(quality: int) -> None:
    mask = np.zeros((120, 160), bool)
    mask[20:50, 30:70] = mask[80:84, 100:150] = True
    file = io.BytesIO()
    Image.fromarray((mask * 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    pixels = decode(file.getvalue()).pixels
    assert len(np.unique(pixels)) > 2
    boxes = mask_boxes(marked(pixels, "m"), BoxRules(10, 5), "m")
    assert np.abs(boxes - [[30, 20, 70, 50], [100, 80, 150, 84]]).max() <= 1


def not_masks() -> dict[str, np.ndarray]:
    ramp = np.tile(np.arange(0, 256, 2), (90, 1))
    labels = np.zeros((90, 128))
    labels[5:15, 5:15], labels[60:80, 90:110] = 1, 2
    photo = np.random.default_rng(0).normal(128, 40, (90, 128)).clip(0, 255)
    two = np.where(ramp > 100, 255, 100)
    return {"ramp": ramp, "labels": labels, "photo": photo, "no zero": two}


@pytest.mark.parametrize("kind", not_masks())
def test_what_is_no_binary_mask_is_refused_with_its_values(kind: str) -> None:
    values = not_masks()[kind].astype(np.uint8)
    first = ", ".join(str(v) for v in np.unique(values)[:2])
    with pytest.raises(InputError, match=rf"m\.png: is not a binary mask: .*\({first}"):
        marked(grey(values), "m.png")


def test_noise_is_refused_with_its_number_of_spots() -> None:
    mask = np.zeros((200, 200), bool)
    mask[::2, ::2] = True
    with pytest.raises(InputError, match=rf"m\.png: marks 10000 separate .*{MAX_COMPONENTS}"):
        mask_boxes(mask, BoxRules(1, 0), "m.png")


def test_every_real_mask_gives_boxes_in_its_image(shared: Path) -> None:
    files = sorted((shared / "real").glob("*/ground_truth/*/*.png"))
    assert len(files) > 100
    for file in files:
        pixels = decode(file.read_bytes()).pixels
        boxes = mask_boxes(marked(pixels, str(file)), BoxRules(10, 10), str(file))
        height, width = pixels.shape[:2]
        assert len(boxes) >= 1, file
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= [width, height]).all()
