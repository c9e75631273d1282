"""An image before it is exposed: layers that a defect can change one by one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.canvas import (
    Floats,
    Point,
    Pose,
    Stroke,
    blob,
    inside,
    pixel_grid,
    smooth_noise,
)

Colour = tuple[float, float, float]

# A line camera's sensor noise, in grey levels of 255.
GRAIN_LEVELS = (2.0, 4.0)
# Lamps age and drift: brightness of the whole image, and the fall-off across it.
EXPOSURE = (0.92, 1.08)
LIGHT_FALL = 0.14


@dataclass(frozen=True)
class Scene:
    """Layers of one image, S pixels a side; colours in 0..1, sizes in shares of the side.

    background, part: (S, S, 3); cover: share of the part, (S, S); ink: share of the print on the
    part, (S, S); light: factor, (S, S); grain: grey levels, (S, S, 3).
    """

    background: Floats
    part: Floats
    cover: Floats
    ink: Floats
    light: Floats
    grain: Floats
    pose: Pose
    ink_colour: Colour = (0.1, 0.1, 0.12)

    @property
    def size(self) -> int:
        """Pixels a side."""
        return int(self.cover.shape[0])

    def pixels(self) -> NDArray[np.uint8]:
        """The exposed image (S, S, 3)."""
        printed = mix(self.part, self.ink, self.ink_colour)
        surface = self.background + (printed - self.background) * self.cover[..., None]
        levels = surface * (255 * self.light)[..., None] + self.grain
        return np.asarray(np.clip(np.rint(levels), 0, 255), dtype=np.uint8)

    def painted(self, cover: Floats, colour: Colour) -> "Scene":
        """The scene with a colour laid over everything, (S, S) shares of it."""
        return replace(
            self,
            background=mix(self.background, cover, colour),
            part=mix(self.part, cover, colour),
            ink=self.ink * (1 - cover),
        )


Draw = Callable[[np.random.Generator, int], Scene]
Defect = Callable[[Scene, np.random.Generator], Scene]


@dataclass(frozen=True)
class Category:
    """How a category's good images are drawn, and what each defect type does to one."""

    draw: Draw
    defects: Mapping[str, Defect]


def mix(layer: Floats, cover: Floats, colour: Colour) -> Floats:
    """The layer (S, S, 3) with a share cover (S, S) of the colour."""
    return layer + (np.asarray(colour, dtype=np.float32) - layer) * cover[..., None]


def lamp(rng: np.random.Generator, size: int) -> Floats:
    """Light (S, S): an exposure, a gradient in some direction."""
    x, y = pixel_grid(size)
    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, LIGHT_FALL)
    slope = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)
    return np.asarray(rng.uniform(*EXPOSURE) * (1 + 2 * fall * slope), dtype=np.float32)


def sensor_grain(rng: np.random.Generator, size: int) -> Floats:
    """Noise (S, S, 3) in grey levels: mostly common to the channels, a little of each."""
    level = rng.uniform(*GRAIN_LEVELS)
    common = rng.standard_normal((size, size, 1), dtype=np.float32)
    each = rng.standard_normal((size, size, 3), dtype=np.float32)
    return np.asarray(level * (0.9 * common + 0.4 * each), dtype=np.float32)


def tinted(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    """The colour, a little lighter or darker and off its hue, as between two lots."""
    shade = rng.normal(0, spread)
    red, green, blue = (float(c * (1 + shade + rng.normal(0, spread / 3))) for c in colour)
    return red, green, blue


def dusted(scene: Scene, rng: np.random.Generator, colours: tuple[Colour, ...]) -> Scene:
    """The scene with a few harmless specks and fibres, as on any line."""
    for _ in range(rng.integers(0, 4)):
        colour = colours[rng.integers(len(colours))]
        spot = blob(rng, scene.size, _anywhere(rng), rng.uniform(0.004, 0.011))
        scene = scene.painted(inside(spot) * np.float32(rng.uniform(0.3, 0.8)), colour)
    for _ in range(rng.integers(0, 2)):
        colour = colours[rng.integers(len(colours))]
        fibre = Stroke(
            _anywhere(rng), rng.uniform(0.04, 0.1), rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3)
        )
        line = inside(fibre.distance(scene.size) - np.float32(0.003))
        scene = scene.painted(line * np.float32(rng.uniform(0.2, 0.6)), colour)
    return scene


def cloudy(rng: np.random.Generator, size: int, colour: Colour, spread: float) -> Floats:
    """A surface (S, S, 3) of one colour with soft lighter and darker patches."""
    field = 1 + spread * (0.6 * smooth_noise(rng, size, 4) + 0.4 * smooth_noise(rng, size, 24))
    return np.asarray(field[..., None] * np.asarray(colour), dtype=np.float32)


def _anywhere(rng: np.random.Generator) -> Point:
    return float(rng.uniform(0, 1)), float(rng.uniform(0, 1))
