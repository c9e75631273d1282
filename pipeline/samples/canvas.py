"""Drawing on square float arrays, in shares of the image side, so that any size looks alike."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Point = tuple[float, float]

# Eight straight pieces look like a curve up to several hundred pixels.
CURVE_SEGMENTS = 8
# Three waves round a blob's rim look irregular; more look like a gear.
BLOB_WAVES = (2, 3, 5)


@cache
def pixel_grid(size: int) -> tuple[Floats, Floats]:
    """Pixel centres x, y (size, size) in 0..1, read-only because they are shared."""
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = (
        np.ascontiguousarray(plane, dtype=np.float32) for plane in np.meshgrid(centres, centres)
    )
    x.setflags(write=False)
    y.setflags(write=False)
    return x, y


@cache
def _interpolation(size: int, cells: int) -> Floats:
    """Weights (size, cells + 1) that spread cells + 1 knots smoothly over one side."""
    place = (np.arange(size) + 0.5) / size * cells
    left = np.floor(place).astype(int)
    share = place - left
    share = share * share * (3 - 2 * share)
    weights = np.zeros((size, cells + 1), dtype=np.float32)
    rows = np.arange(size)
    weights[rows, left] = 1 - share
    weights[rows, left + 1] = share
    weights.setflags(write=False)
    return weights


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Floats:
    """A random field (size, size) of about unit deviation that changes over 1/cells of the side."""
    knots = rng.standard_normal((cells + 1, cells + 1), dtype=np.float32)
    weights = _interpolation(size, cells)
    return np.asarray(weights @ knots @ weights.T, dtype=np.float32)


def inside(distance: Floats) -> Floats:
    """Coverage 0..1 of the region with a negative signed distance, antialiased over one pixel."""
    return np.asarray(np.clip(0.5 - distance * distance.shape[0], 0, 1), dtype=np.float32)


@dataclass(frozen=True)
class Pose:
    """Where a part lies: centre, scale (its own unit length) and angle in radians."""

    x: float
    y: float
    scale: float
    angle: float

    def local(self, size: int) -> tuple[Floats, Floats]:
        """The pixel grid in the part's own coordinates u, v (size, size), in units of scale."""
        x, y = pixel_grid(size)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        dx, dy = (x - self.x) / self.scale, (y - self.y) / self.scale
        return (
            np.asarray(cos * dx + sin * dy, dtype=np.float32),
            np.asarray(cos * dy - sin * dx, dtype=np.float32),
        )

    def place(self, u: float, v: float) -> Point:
        """The image point of the part's own point (u, v)."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return (
            float(self.x + self.scale * (cos * u - sin * v)),
            float(self.y + self.scale * (sin * u + cos * v)),
        )


def blob(rng: np.random.Generator, size: int, centre: Point, radius: float) -> Floats:
    """Signed distance (size, size), roughly, to an irregular spot; negative inside."""
    x, y = pixel_grid(size)
    dx, dy = x - centre[0], y - centre[1]
    theta = np.arctan2(dy, dx)
    rim = np.ones_like(theta)
    for waves in BLOB_WAVES:
        rim += rng.uniform(0, 0.5 / waves) * np.cos(waves * theta + rng.uniform(0, 2 * np.pi))
    return np.asarray(np.hypot(dx, dy) - radius * rim, dtype=np.float32)


def segment(size: int, start: Point, end: Point) -> Floats:
    """Distance (size, size) to a straight segment."""
    x, y = pixel_grid(size)
    dx, dy = end[0] - start[0], end[1] - start[1]
    length2 = max(dx * dx + dy * dy, 1e-12)
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / length2, 0, 1)
    aside = np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)
    return np.asarray(aside, dtype=np.float32)


@dataclass(frozen=True)
class Stroke:
    """A curved line: its middle, length, direction in radians and bend as a share of the length."""

    middle: Point
    length: float
    direction: float
    bend: float

    def distance(self, size: int) -> Floats:
        """Distance (size, size) to the curve, a parabola drawn as a few straight segments."""
        t = np.linspace(-0.5, 0.5, CURVE_SEGMENTS + 1)
        along = t * self.length
        aside = self.bend * self.length * (1 - 4 * t * t)
        cos, sin = np.cos(self.direction), np.sin(self.direction)
        xs = self.middle[0] + cos * along - sin * aside
        ys = self.middle[1] + sin * along + cos * aside
        points = [(float(px), float(py)) for px, py in zip(xs, ys, strict=True)]
        pieces = [segment(size, a, b) for a, b in pairwise(points)]
        return np.asarray(np.minimum.reduce(pieces), dtype=np.float32)
