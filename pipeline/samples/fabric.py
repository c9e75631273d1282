"""Category `fabric`: a plain weave of two threads, seen from above, filling the image."""

import numpy as np

from pipeline.samples.canvas import Floats, Pose, Stroke, blob, inside, smooth_noise
from pipeline.samples.scene import (
    Category,
    Colour,
    Scene,
    dusted,
    lamp,
    sensor_grain,
    tinted,
)

WARP: Colour = (0.36, 0.46, 0.58)
WEFT: Colour = (0.52, 0.60, 0.68)
# Inspection tables are lit from below: what is missing glows.
BACKLIGHT: Colour = (0.74, 0.72, 0.62)
FIBRE: Colour = (0.52, 0.42, 0.44)
LINT: tuple[Colour, ...] = ((0.85, 0.85, 0.82), (0.16, 0.18, 0.22))
STAIN: Colour = (0.42, 0.28, 0.12)
# One thread's width: seven pixels at 128, the finest that still shows the weave.
PERIOD = 0.055
TILT = np.radians(5)


def draw(rng: np.random.Generator, size: int) -> Scene:
    """A good piece of fabric: its pitch, tilt, waviness, thread strengths and lot colour vary."""
    pose = Pose(
        float(rng.uniform(0, 1)),
        float(rng.uniform(0, 1)),
        float(PERIOD * rng.uniform(0.95, 1.05)),
        float(rng.uniform(-TILT, TILT)),
    )
    u, v = pose.local(size)
    u = u + np.float32(0.18) * smooth_noise(rng, size, 4)
    v = v + np.float32(0.18) * smooth_noise(rng, size, 4)
    scene = Scene(
        background=np.zeros((size, size, 3), dtype=np.float32),
        part=_weave(rng, u, v),
        cover=np.ones((size, size), dtype=np.float32),
        ink=np.zeros((size, size), dtype=np.float32),
        light=lamp(rng, size),
        grain=sensor_grain(rng, size),
        pose=pose,
    )
    return dusted(scene, rng, LINT)


def _weave(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    """Colours (S, S, 3) of the two threads crossing over and under each other."""
    over = (0.5 + 0.5 * np.tanh(4 * np.sin(np.pi * u) * np.sin(np.pi * v)))[..., None]
    warp = _threads(rng, u, tinted(rng, WARP, 0.05))
    weft = _threads(rng, v, tinted(rng, WEFT, 0.05))
    return np.asarray(over * warp + (1 - over) * weft, dtype=np.float32)


def _threads(rng: np.random.Generator, across: Floats, colour: Colour) -> Floats:
    """Parallel round threads (S, S, 3), each of its own strength."""
    strengths = rng.normal(1, 0.06, 512).astype(np.float32)
    number = np.floor(across).astype(int) % len(strengths)
    shade = (0.55 + 0.45 * np.abs(np.sin(np.pi * across))) * strengths[number]
    return np.asarray(shade[..., None] * np.asarray(colour), dtype=np.float32)


def _spot(rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.uniform(0.12, 0.88)), float(rng.uniform(0.12, 0.88))


def hole(scene: Scene, rng: np.random.Generator) -> Scene:
    """Threads worn through: the table's light shows, with a frayed, darker rim."""
    distance = blob(rng, scene.size, _spot(rng), rng.uniform(0.014, 0.04))
    frayed = distance + np.float32(0.008) * smooth_noise(rng, scene.size, 32)
    scene = scene.painted(inside(frayed - np.float32(0.012)) * np.float32(0.35), LINT[1])
    return scene.painted(inside(frayed) * np.float32(rng.uniform(0.2, 0.55)), BACKLIGHT)


def stain(scene: Scene, rng: np.random.Generator) -> Scene:
    """A soaked-in spot, soft at its rim."""
    radius = rng.uniform(0.05, 0.12)
    distance = blob(rng, scene.size, _spot(rng), radius)
    soft = np.clip(-distance / np.float32(0.5 * radius), 0, 1)
    return scene.painted(soft * np.float32(rng.uniform(0.08, 0.3)), STAIN)


def loose_thread(scene: Scene, rng: np.random.Generator) -> Scene:
    """A foreign fibre lying on the fabric in a bow."""
    stroke = Stroke(
        _spot(rng), rng.uniform(0.2, 0.45), rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3)
    )
    line = inside(stroke.distance(scene.size) - np.float32(rng.uniform(0.004, 0.008)))
    colour = tinted(rng, FIBRE, 0.05)
    return scene.painted(line * np.float32(rng.uniform(0.35, 0.7)), colour)


def missing_thread(scene: Scene, rng: np.random.Generator) -> Scene:
    """A stretch of one thread gone: a bright line along the weave."""
    along_weft = np.pi / 2 * rng.integers(2)
    stroke = Stroke(_spot(rng), rng.uniform(0.2, 0.5), scene.pose.angle + along_weft, 0.0)
    line = inside(stroke.distance(scene.size) - np.float32(0.22 * scene.pose.scale))
    return scene.painted(line * np.float32(rng.uniform(0.15, 0.45)), BACKLIGHT)


FABRIC = Category(
    draw,
    {
        "hole": hole,
        "loose_thread": loose_thread,
        "missing_thread": missing_thread,
        "stain": stain,
    },
)
