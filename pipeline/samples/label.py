"""Category `label`: a printed paper label with logo, text and barcode on a grey plastic tote."""

from dataclasses import replace

import numpy as np

from pipeline.samples.canvas import Floats, Point, Pose, blob, inside, smooth_noise
from pipeline.samples.lettering import sheet
from pipeline.samples.scene import (
    Category,
    Colour,
    Scene,
    cloudy,
    dusted,
    lamp,
    mix,
    sensor_grain,
    tinted,
)

TOTE: Colour = (0.42, 0.46, 0.50)
PAPER: Colour = (0.88, 0.88, 0.86)
CORE: Colour = (0.66, 0.50, 0.34)
GREASE: Colour = (0.55, 0.32, 0.12)
# Black ink wiped thin looks violet.
THIN_INK: Colour = (0.30, 0.20, 0.45)
SPECKS: tuple[Colour, ...] = ((0.70, 0.66, 0.60), (0.35, 0.32, 0.30))
# Half the label's width as a share of the image, and its height as a share of its width.
HALF_WIDTH = 0.42
ASPECT = 0.75
TILT = np.radians(4)
# Sub-pixels a side when the print is sampled; three keep thin bars from flickering.
SUBSAMPLES = 3


def draw(rng: np.random.Generator, size: int) -> Scene:
    """A good label: position, tilt, ink density, lot number, paper and tote vary."""
    pose = Pose(
        float(rng.uniform(0.48, 0.52)),
        float(rng.uniform(0.48, 0.52)),
        float(HALF_WIDTH * rng.uniform(0.98, 1.02)),
        float(rng.uniform(-TILT, TILT)),
    )
    u, v = pose.local(size)
    edge = np.maximum(np.abs(u) - 1, np.abs(v) - ASPECT) * np.float32(pose.scale)
    density = 1 + 0.06 * smooth_noise(rng, size, 6)
    ink = _printed(sheet(int(rng.integers(10_000))), pose, size) * density
    scene = Scene(
        background=cloudy(rng, size, tinted(rng, TOTE, 0.05), 0.05),
        part=cloudy(rng, size, tinted(rng, PAPER, 0.02), 0.01),
        cover=inside(edge),
        ink=np.clip(ink * np.float32(rng.uniform(0.84, 0.98)), 0, 1),
        light=lamp(rng, size),
        grain=sensor_grain(rng, size),
        pose=pose,
    )
    return dusted(scene, rng, SPECKS)


def _printed(page: Floats, pose: Pose, size: int) -> Floats:
    """The page's ink (S, S) as the camera sees it: a mean over sub-pixels."""
    rows, columns = page.shape
    u, v = pose.local(size)
    step = 1 / (SUBSAMPLES * size * pose.scale)
    ink = np.zeros((size, size), dtype=np.float32)
    offsets = (np.arange(SUBSAMPLES) - (SUBSAMPLES - 1) / 2) * step
    for right in offsets:
        for down in offsets:
            column = ((u + right + 1) / 2 * columns).astype(int)
            row = ((v + down + ASPECT) / (2 * ASPECT) * rows).astype(int)
            ink += page[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
    return ink / np.float32(SUBSAMPLES**2)


def _on_print(scene: Scene, rng: np.random.Generator) -> Point:
    """A point on a printed pixel, so that what happens there shows."""
    rows, columns = np.nonzero(scene.ink * scene.cover > 0.5)
    pick = int(rng.integers(len(rows)))
    return (float(columns[pick]) + 0.5) / scene.size, (float(rows[pick]) + 0.5) / scene.size


def blot(scene: Scene, rng: np.random.Generator) -> Scene:
    """A drop of the printer's grease."""
    place = scene.pose.place(float(rng.uniform(-0.85, 0.85)), float(rng.uniform(-0.6, 0.6)))
    spot = inside(blob(rng, scene.size, place, rng.uniform(0.03, 0.065)))
    share = np.float32(rng.uniform(0.3, 0.9))
    return replace(scene, part=mix(scene.part, spot * share, GREASE))


def missing_print(scene: Scene, rng: np.random.Generator) -> Scene:
    """Strokes that did not take: the ink fades out over a patch."""
    radius = rng.uniform(0.08, 0.14)
    distance = blob(rng, scene.size, _on_print(scene, rng), radius)
    gone = np.clip(-distance / np.float32(0.3 * radius), 0, 1)
    return replace(scene, ink=scene.ink * (1 - gone * np.float32(rng.uniform(0.7, 1.0))))


def tear(scene: Scene, rng: np.random.Generator) -> Scene:
    """Paper torn off from the edge inwards, its brown core showing."""
    along = float(rng.uniform(-0.9, 0.9))
    side = float(rng.choice([-1, 1]))
    place = (
        scene.pose.place(side, along * ASPECT)
        if rng.random() < 0.5
        else scene.pose.place(along, side * ASPECT)
    )
    distance = blob(rng, scene.size, place, rng.uniform(0.035, 0.085))
    torn = mix(scene.part, inside(distance), CORE)
    return replace(scene, part=torn, ink=scene.ink * (1 - inside(distance)))


def smear(scene: Scene, rng: np.random.Generator) -> Scene:
    """Wet ink wiped to one side, fading."""
    across, down = _shift(scene, rng, 0.05, 0.10)
    steps = max(abs(across), abs(down), 1)
    near = inside(blob(rng, scene.size, _on_print(scene, rng), rng.uniform(0.09, 0.15)))
    wet = scene.ink * near
    trail = np.zeros_like(wet)
    for step in range(1, steps + 1):
        moved = (round(down * step / steps), round(across * step / steps))
        fading = np.float32(1 - step / (steps + 1))
        trail = np.maximum(trail, np.roll(wet, moved, axis=(0, 1)) * fading)
    share = np.clip(trail - scene.ink, 0, 1) * np.float32(rng.uniform(0.5, 0.85))
    return replace(scene, part=mix(scene.part, share, THIN_INK))


def _shift(scene: Scene, rng: np.random.Generator, low: float, high: float) -> tuple[int, int]:
    """A move in whole pixels, right and down, mostly along the label's width."""
    length = rng.uniform(low, high) * scene.size * rng.choice([-1, 1])
    angle = scene.pose.angle + rng.uniform(-0.6, 0.6)
    return round(float(length * np.cos(angle))), round(float(length * np.sin(angle)))


LABEL = Category(
    draw,
    {
        "blot": blot,
        "missing_print": missing_print,
        "smear": smear,
        "tear": tear,
    },
)
