"""Labelled archives for the detector's tests, made without indexing and without Ray."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.tables.manifest import image_id, write_manifest
from pipeline.tables.schemas import MANIFEST

WIDTH, HEIGHT = 72, 64
# The one defect of every defect image made here: x_min, y_min, x_max, y_max.
BOX = (20, 12, 44, 34)


def good_pixels(seed: int) -> np.ndarray:
    """Grey grain, (64, 72, 3)."""
    noise = np.random.default_rng(seed).normal(110, 8, (HEIGHT, WIDTH, 1))
    return np.repeat(noise, 3, axis=2).clip(0, 255).astype(np.uint8)


def defect_pixels(seed: int) -> np.ndarray:
    """The same with a bright, slightly orange rectangle in `BOX`."""
    pixels = good_pixels(seed)
    x0, y0, x1, y1 = BOX
    pixels[y0:y1, x0:x1] = (250, 240, 200)
    return pixels


def box_mask(value: int = 255) -> np.ndarray:
    """The mask of `BOX`."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    x0, y0, x1, y1 = BOX
    mask[y0:y1, x0:x1] = value
    return mask


def row(folder: Path, seed: int, role: str | None, kind: str = "good", **more: Any) -> dict:
    """Writes one image, and the mask of a defect; its manifest row."""
    pixels = good_pixels(seed) if kind == "good" else defect_pixels(seed)
    file = folder / f"{kind}-{seed}.png"
    Image.fromarray(pixels).save(file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    values: dict[str, Any] = {
        "image_id": image_id(sha256),
        "uri": str(file),
        "sha256": sha256,
        "category": "tile",
        "role": role,
        "defect_type": kind,
        "is_defect": kind != "good",
    }
    if kind != "good":
        values["mask_uri"] = str(folder / f"{kind}-{seed}_mask.png")
        Image.fromarray(box_mask()).save(values["mask_uri"])
    return values | more


def small_archive(folder: Path) -> list[dict]:
    """Rows of every role: four good images and three defects each."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for place, role in enumerate(("fit", "validation", "test")):
        seeds = range(100 * place, 100 * place + 4)
        rows += [row(folder, seed, role) for seed in seeds]
        rows += [row(folder, seed, role, "dent") for seed in seeds[:2]]
        rows += [row(folder, seed, role, "crack") for seed in seeds[2:3]]
    rows += [row(folder, seed, "normal_calibration") for seed in (900, 901)]
    return rows


def table(rows: Sequence[dict]) -> pa.Table:
    """Rows in the manifest's schema."""
    return pa.Table.from_pylist(list(rows), schema=MANIFEST)


def manifest(folder: Path, rows: Sequence[dict]) -> str:
    """A manifest of the rows; its place."""
    target = str(folder / "manifest.parquet")
    write_manifest(target, table(rows))
    return target
