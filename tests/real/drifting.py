"""Real tiles with a changed lamp, focus or camera, scored without a cluster."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter
from threadpoolctl import threadpool_limits

from pipeline.images.decode import DecodeLimits
from pipeline.models.backbone import Backbone
from pipeline.models.resnet import fix_arithmetic
from pipeline.models.specs import FeatureLayout
from pipeline.models.weights import load_state
from pipeline.scoring.prepare import Prepared, PrepareOptions, prepare
from pipeline.stats.gaussian import Gaussian, fit_global_floor, grid_score, mahalanobis
from pipeline.stats.moments import MomentAccumulator

WEIGHTS = "weights/resnet18_imagenet_to_layer3_bnfolded.safetensors"
# Half of the usual side and the coarser grid alone: a quarter of the time, on one thread.
SIDE, GRIDS, BATCH = 128, (4,), 16
Change = Callable[[Image.Image], Image.Image]
# What a camera sees of the tile, as shares of the file's width and height: the middle.
WINDOW = (0.08, 0.92)


def window(image: Image.Image, dx: float = 0.0, dy: float = 0.0) -> Image.Image:
    """The part of an image that a camera sees, moved by shares of its size."""
    width, height = image.size
    low, high = WINDOW
    box = ((low + dx) * width, (low + dy) * height, (high + dx) * width, (high + dy) * height)
    return image.crop(tuple(round(edge) for edge in box))


def plain(image: Image.Image) -> Image.Image:
    return window(image)


def gain(factor: float) -> Change:
    """A lamp that lost light, or whose light was turned up."""
    return lambda image: window(image).point([min(round(v * factor), 255) for v in range(256)])


def gamma(power: float) -> Change:
    """A camera with another response."""
    table = [round(255 * (v / 255) ** power) for v in range(256)]
    return lambda image: window(image).point(table)


def blur(deviation: float) -> Change:
    """A lens out of focus, by a standard deviation in px."""
    return lambda image: window(image).filter(ImageFilter.GaussianBlur(deviation))


def shift(dx: float, dy: float) -> Change:
    """A camera that was pushed, by shares of the image's size."""
    return lambda image: window(image, dx, dy)


@dataclass(frozen=True)
class Camera:
    """Scores what it is shown; its Gaussian knows the tiles it was fitted on."""

    backbone: Backbone
    gaussian: Gaussian | None = None

    def features(self, images: list[Prepared]) -> np.ndarray:
        squares = [image.square for image in images]
        return self.backbone.features(np.stack([s for s in squares if s is not None])).cells

    def fitted(self, images: list[Prepared]) -> Camera:
        """On the features of these images."""
        features = self.features(images)
        with threadpool_limits(1):
            sums = MomentAccumulator(features[0].astype(np.float64))
            sums.add(features)
            return Camera(self.backbone, fit_global_floor(sums.moments()))

    def rows(self, files: list[Path], folder: Path, change: Change = plain) -> pd.DataFrame:
        """Rows of `scores`: images that are changed, written, read and measured as a run does."""
        assert self.gaussian is not None
        images = shown(files, folder, change)
        features = self.features(images)
        with threadpool_limits(1):
            scores = grid_score(mahalanobis(self.gaussian, features), GRIDS)
        facts = [image.facts for image in images]
        return pd.DataFrame(
            {
                "image_id": [1000 + int(file.stem.rsplit("_", 1)[-1]) for file in files],
                "uri": [str(file) for file in files],
                "category": "magnetic_tile",
                "width": [image.width for image in images],
                "height": [image.height for image in images],
                "format": [image.format for image in images],
                "bytes": [(folder / file.name).stat().st_size for file in files],
                **{
                    name: [getattr(found, name, math.nan) for found in facts]
                    for name in ("brightness", "contrast", "sharpness")
                },
                "anomaly_score": scores,
            }
        )


def shown(files: list[Path], folder: Path, change: Change = plain) -> list[Prepared]:
    """Images as a run prepares them, after a change; the files lie in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    options = PrepareOptions(DecodeLimits(), square=SIDE, facts=True)
    images = []
    for file in files:
        with Image.open(file) as image:
            change(image.convert("L")).save(folder / file.name, quality=95)
        found = prepare(str(folder / file.name), None, options)
        assert isinstance(found, Prepared)
        images.append(found)
    return images


def camera(shared: Path) -> Camera:
    """With ImageNet's weights."""
    fix_arithmetic(1)
    layout = FeatureLayout(("layer2", "layer3"), GRIDS, ("layer3",))
    return Camera(Backbone(load_state(str(shared / WEIGHTS), "backbone.weights"), layout, BATCH))


def good_tiles(shared: Path) -> list[Path]:
    """All good tiles, mixed, in an order that the names alone decide."""
    files = sorted((shared / "real/magnetic_tile").glob("t*/good/*.jpg"))
    order = np.random.default_rng(0).permutation(len(files))
    return [files[place] for place in order]
