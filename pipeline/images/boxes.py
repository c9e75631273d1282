"""Masks to boxes: which pixels are a defect's, and which of them belong together."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from pipeline.errors import InputError

# Lossy or scaled masks are not quite 0 and white: what is within this share of either end counts
# as that end, the rest is the softness of an edge.
_NEAR_AN_END = 1 / 4
# JPEG's blocks: softness further than this from an edge is drawn, not left by compression …
_EDGE_PX = 8
# … but for single pixels, as a share of the image.
_MAX_STRAY_SHARE = 1e-4
# A photograph put in place of a mask has edges everywhere; a mask, however fine, has few.
_MAX_SOFT_SHARE = 0.05
# Values that an error shows.
_SHOWN = 6
# More separate spots than anybody marks: noise, whose boxes would be compared pair by pair.
MAX_COMPONENTS = 4000


@dataclass(frozen=True)
class BoxRules:
    """How components become boxes.

    Attributes:
        min_area: marked pixels that a box must hold, px.
        merge_distance: boxes with fewer unmarked rows or columns between them become one, px.
    """

    min_area: int
    merge_distance: int


def marked(pixels: NDArray[np.uint8], what: str) -> NDArray[np.bool_]:
    """Which pixels a mask marks, (H, W).

    A mask of 0 and one other value (1, 253, 255, a palette's colour) marks what is above 0. One
    with soft edges, as JPEG and resizing leave them, marks what is above half of its maximum.

    Args:
        pixels: the decoded mask (H, W, 3); the largest of the three channels counts.
        what: the mask's file, for errors.

    Raises:
        InputError: the mask holds more than two values, and not only along edges.
    """
    values: NDArray[np.uint8] = pixels.max(axis=2)
    found = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    if len(found) == 1 or (len(found) == 2 and found[0] == 0):
        return values > 0
    top = int(found[-1])
    inside = values > top / 2
    soft = (values > top * _NEAR_AN_END) & (values < top * (1 - _NEAR_AN_END))
    stray = (soft & ~_near_edge(inside)).mean()
    if found[0] != 0 or soft.mean() > _MAX_SOFT_SHARE or stray > _MAX_STRAY_SHARE:
        shown = ", ".join(map(str, found[:_SHOWN])) + (" …" if len(found) > _SHOWN else "")
        raise InputError(
            f"{what}: is not a binary mask: it holds {len(found)} values ({shown}); write 0 where "
            "the part is good and one other value on the defect"
        )
    return inside


def _near_edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    kernel = np.ones((2 * _EDGE_PX + 1, 2 * _EDGE_PX + 1), np.uint8)
    image = inside.astype(np.uint8)
    near: NDArray[np.bool_] = cv2.dilate(image, kernel) != cv2.erode(image, kernel)
    return near


def mask_boxes(mask: NDArray[np.bool_], rules: BoxRules, what: str) -> NDArray[np.int64]:
    """The boxes of a mask's defects.

    Components are 8-connected. Boxes that are closer than the merge distance become one, until
    none are; then those that hold too few marked pixels are dropped.

    Args:
        mask: (H, W).
        rules: which components belong together, and which count.
        what: the mask's file, for errors.

    Returns:
        (M, 4): x_min, y_min, x_max, y_max in px, the maxima exclusive; from the top down, then
        from the left.

    Raises:
        InputError: the mask is noise.
    """
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count - 1 > MAX_COMPONENTS:
        raise InputError(
            f"{what}: marks {count - 1} separate spots, more than {MAX_COMPONENTS}: this is noise, "
            "not a mask of defects"
        )
    left, top, width, height, areas = stats[1:].astype(np.int64).T
    boxes = np.stack([left, top, left + width, top + height], axis=1)
    boxes, areas = _merged(boxes, areas, rules.merge_distance)
    boxes = boxes[areas >= rules.min_area]
    order: NDArray[np.intp] = np.lexsort(boxes.T[[3, 2, 0, 1]])
    return boxes[order]


def _merged(
    boxes: NDArray[np.int64], areas: NDArray[np.int64], distance: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Boxes (M, 4) and areas (M,) after joining those that are closer than the distance."""
    while len(boxes) > 1:
        starts, ends = boxes[:, None, :2], boxes[None, :, 2:]
        gaps = np.maximum(starts - ends, 0)  # empty columns, rows between two boxes: (M, M, 2)
        gaps = np.maximum(gaps, gaps.transpose(1, 0, 2)).max(axis=2)
        groups, member = connected_components(gaps < distance, directed=False)
        if groups == len(boxes):
            break
        joined = np.empty((groups, 4), np.int64)
        for group in range(groups):
            rows = boxes[member == group]
            joined[group] = [*rows[:, :2].min(axis=0), *rows[:, 2:].max(axis=0)]
        areas = np.bincount(member, weights=areas).astype(np.int64)
        boxes = joined
    return boxes, areas
