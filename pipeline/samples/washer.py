"""Category `washer`: a blue-coated steel ring with three bores, lying anyhow on a dark belt."""

from dataclasses import replace

import numpy as np

from pipeline.samples.canvas import Floats, Point, Pose, Stroke, blob, inside, smooth_noise
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

BELT: Colour = (0.17, 0.20, 0.19)
COAT: Colour = (0.36, 0.48, 0.62)
STEEL: Colour = (0.80, 0.78, 0.74)
SHADOW: Colour = (0.04, 0.05, 0.05)
RUST: Colour = (0.50, 0.25, 0.10)
DUST: tuple[Colour, ...] = ((0.75, 0.75, 0.72), (0.10, 0.10, 0.10))
# The outer radius as a share of the image; the other measures are shares of that radius.
RADIUS = 0.36
INNER = 0.46
BORE_CIRCLE = 0.73
BORE = 0.085


def draw(rng: np.random.Generator, size: int) -> Scene:
    """A good washer: position, rotation, size, turning marks, gloss and belt vary."""
    pose = Pose(
        float(rng.uniform(0.45, 0.55)),
        float(rng.uniform(0.45, 0.55)),
        float(RADIUS * rng.uniform(0.97, 1.03)),
        float(rng.uniform(0, 2 * np.pi)),
    )
    cover = ring(pose, size, 0.0)
    shadow = ring(replace(pose, x=pose.x + 0.02, y=pose.y + 0.025), size, 0.0)
    belt = cloudy(rng, size, tinted(rng, BELT, 0.08), 0.10)
    scene = Scene(
        background=mix(belt, shadow * np.float32(0.7), SHADOW),
        part=_turned_face(rng, pose, size),
        cover=cover,
        ink=np.zeros((size, size), dtype=np.float32),
        light=lamp(rng, size),
        grain=sensor_grain(rng, size),
        pose=pose,
    )
    return dusted(scene, rng, DUST)


def ring(pose: Pose, size: int, swell: Floats | float) -> Floats:
    """Coverage (S, S) of the washer, its outer radius swollen by a share of itself."""
    u, v = pose.local(size)
    radius = np.hypot(u, v)
    distance = np.maximum(radius - 1 - swell, INNER - radius)
    for turn in range(3):
        angle = 2 * np.pi * turn / 3
        centre_u, centre_v = BORE_CIRCLE * np.cos(angle), BORE_CIRCLE * np.sin(angle)
        distance = np.maximum(distance, BORE - np.hypot(u - centre_u, v - centre_v))
    return inside(np.asarray(distance * pose.scale, dtype=np.float32))


def _turned_face(rng: np.random.Generator, pose: Pose, size: int) -> Floats:
    """Coated steel (S, S, 3) with fine concentric marks and the double gloss of a turned face."""
    u, v = pose.local(size)
    radius = np.hypot(u, v)
    marks = rng.normal(0, 1, 64).astype(np.float32)
    grooves = np.interp(radius, np.linspace(0, 1.2, 64), marks)
    gloss = np.cos(2 * (np.arctan2(v, u) - rng.uniform(0, np.pi)))
    shade = 1 + 0.035 * grooves + rng.uniform(0.06, 0.14) * gloss
    shade = shade + 0.02 * smooth_noise(rng, size, 16)
    coat = np.asarray(tinted(rng, COAT, 0.04), dtype=np.float32)
    return np.asarray(shade[..., None] * coat, dtype=np.float32)


def _on_ring(scene: Scene, rng: np.random.Generator, low: float, high: float) -> Point:
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(low, high)
    return scene.pose.place(float(radius * np.cos(angle)), float(radius * np.sin(angle)))


def scratch(scene: Scene, rng: np.random.Generator) -> Scene:
    """A thin line through the coat to the steel."""
    stroke = Stroke(
        _on_ring(scene, rng, 0.6, 0.88),
        rng.uniform(0.18, 0.36),
        rng.uniform(0, np.pi),
        rng.uniform(-0.12, 0.12),
    )
    line = inside(stroke.distance(scene.size) - np.float32(rng.uniform(0.005, 0.011)))
    share = np.float32(rng.uniform(0.6, 0.95))
    return replace(scene, part=mix(scene.part, line * share, STEEL))


def chip(scene: Scene, rng: np.random.Generator) -> Scene:
    """A bite missing from the outer or the inner edge, its rim bare steel."""
    at = 1.0 if rng.random() < 0.6 else INNER
    spot = blob(rng, scene.size, _on_ring(scene, rng, at, at), rng.uniform(0.03, 0.065))
    bare = mix(scene.part, inside(spot - np.float32(0.012)), STEEL)
    return replace(scene, part=bare, cover=scene.cover * (1 - inside(spot)))


def bent(scene: Scene, rng: np.random.Generator) -> Scene:
    """The rim pressed in or pulled out over part of the turn."""
    u, v = scene.pose.local(scene.size)
    off = np.angle(np.exp(1j * (np.arctan2(v, u) - rng.uniform(0, 2 * np.pi))))
    width = rng.uniform(0.2, 0.45)
    depth = rng.choice([-1, 1]) * rng.uniform(0.08, 0.17)
    swell = np.asarray(depth * np.exp(-0.5 * (off / width) ** 2), dtype=np.float32)
    return replace(scene, cover=ring(scene.pose, scene.size, swell))


def rust(scene: Scene, rng: np.random.Generator) -> Scene:
    """A brown patch, mottled and soft at its rim."""
    radius = rng.uniform(0.025, 0.06)
    distance = blob(rng, scene.size, _on_ring(scene, rng, 0.6, 0.9), radius)
    mottle = 0.8 + 0.3 * smooth_noise(rng, scene.size, 32)
    soft = np.clip(-distance / np.float32(0.4 * radius), 0, 1) * np.clip(mottle, 0, 1)
    share = np.asarray(soft * rng.uniform(0.35, 0.8), dtype=np.float32)
    return replace(scene, part=mix(scene.part, share, RUST))


WASHER = Category(draw, {"bent": bent, "chip": chip, "rust": rust, "scratch": scratch})
