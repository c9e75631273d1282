"""What bfloat16 and a faster resize change in the scores of real images.

`python -m tests.real.precision [SHARED]` prints it.

Three scores of each image, in float32 and in bfloat16: the distance of its cells to a Gaussian
fitted in the same precision, a linear classifier on the backbone's last layer, trained on half of
the images and judged on the others, and the detector's highest confidence.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from pipeline.images.decode import decode
from pipeline.images.geometry import letterbox, resize_square
from pipeline.models.backbone import Backbone
from pipeline.models.classifier import Classifier
from pipeline.models.detector import Detector
from pipeline.models.precision import BFLOAT16, FLOAT32
from pipeline.models.resnet import fix_arithmetic
from pipeline.models.specs import DetectorSettings, FeatureLayout
from pipeline.models.weights import load_state
from pipeline.stats.gaussian import fit_global_floor, fit_ledoit_wolf, grid_score, mahalanobis
from pipeline.stats.moments import MomentAccumulator

RESNET = "weights/resnet18_imagenet_to_layer3_bnfolded.safetensors"
YOLO = "weights/yolov8n_coco.pt"
LAYOUT = FeatureLayout(("layer2", "layer3"), (4, 8), ("layer3",))
SIDE, BATCH = 256, 16
DETECTOR = DetectorSettings(640, 0.01, 0.7, 100, 8)
Resize = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Pictures:
    """Decoded images of one category.

    Attributes:
        pixels: (N,) arrays (H, W, 3).
        fit: (N,) bool: good images for fitting.
        defect: (N,) bool.
    """

    pixels: list[np.ndarray]
    fit: np.ndarray
    defect: np.ndarray


def pictures(shared: Path, category: str, most: int = 10_000) -> Pictures:
    """The images of a category, each n-th where there are more than `most`."""
    files = sorted((shared / "real" / category).rglob("*.*"))
    files = [f for f in files if f.parts[-3] in ("train", "test")]
    files = files[:: max(1, -(-len(files) // most))]
    pixels = [decode(file.read_bytes()).pixels for file in files]
    fit = np.array([file.parts[-3] == "train" for file in files])
    defect = np.array([file.parts[-2] != "good" for file in files])
    return Pictures(pixels, fit, defect)


def pillow_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """The reference."""
    return np.array(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def distances(
    shared: Path, found: Pictures, precision: str, resize: Resize = resize_square
) -> dict[str, np.ndarray]:
    """Both anomaly scores of all images, (N,), and the pooled features, (N, 256)."""
    state = load_state(str(shared / RESNET), "backbone.weights")
    squares = np.stack([resize(pixels, SIDE) for pixels in found.pixels])
    features = Backbone(state, LAYOUT, BATCH, precision=precision).features(squares)
    scores = {"features": features.pooled}
    for name, x in (("cells", features.cells), ("pooled", features.pooled[:, None, :])):
        sums = MomentAccumulator(x[found.fit][0].astype(np.float64))
        sums.add(x[found.fit])
        moments = sums.moments()
        gaussian = fit_global_floor(moments) if name == "cells" else fit_ledoit_wolf(moments)
        away = mahalanobis(gaussian, x)
        scores[name] = grid_score(away, LAYOUT.grids if name == "cells" else (1,))
    return scores


def trained_head(features: np.ndarray, found: Pictures) -> dict[str, torch.Tensor]:
    """Weights of a linear classifier on every second image."""
    half = np.arange(len(features)) % 2 == 0
    model = LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced")
    model.fit(features[half], found.defect[half])
    weight = torch.tensor(model.coef_, dtype=torch.float32)
    return {"fc.weight": weight, "fc.bias": torch.tensor(model.intercept_, dtype=torch.float32)}


def logits(
    shared: Path, found: Pictures, head: dict[str, torch.Tensor], precision: str
) -> np.ndarray:
    """(N,) logits of the classifier."""
    state = load_state(str(shared / RESNET), "classifier.weights") | head
    squares = np.stack([resize_square(pixels, SIDE) for pixels in found.pixels])
    return Classifier(state, BATCH, precision=precision).defect_logits(squares)


def confidences(shared: Path, found: Pictures, precision: str) -> np.ndarray:
    """(N,) the highest confidence of each image; 0 without a box."""
    detector = Detector(shared / YOLO, DETECTOR, "detector", precision)
    boxed = np.stack([letterbox(pixels, DETECTOR.image_size) for pixels in found.pixels])
    boxes = detector.detect(boxed)
    return np.array([one.confidence.max(initial=0.0) for one in boxes])


@dataclass(frozen=True)
class Effect:
    """What a change does to a score.

    Attributes:
        auroc: before and after.
        rank: Spearman's correlation of before and after.
        relative: the largest |after - before| / |before|.
    """

    auroc: tuple[float, float]
    rank: float
    relative: float

    @property
    def kept(self) -> bool:
        """Within the limits that `auto` asks for."""
        return abs(self.auroc[0] - self.auroc[1]) <= 0.002 and self.rank >= 0.999

    def __str__(self) -> str:
        before, after = self.auroc
        return (
            f"AUROC {before:.4f} -> {after:.4f}, rank correlation {self.rank:.5f}, "
            f"largest relative change {self.relative:.2e}"
        )


def effect(before: np.ndarray, after: np.ndarray, defect: np.ndarray, rows: np.ndarray) -> Effect:
    """The effect on the rows that are judged."""
    before, after, defect = (np.asarray(x, np.float64)[rows] for x in (before, after, defect))
    areas = roc_auc_score(defect, before), roc_auc_score(defect, after)
    change = np.abs(after - before) / np.maximum(np.abs(before), 1e-9)
    return Effect(areas, float(spearmanr(before, after).statistic), float(change.max()))


def effects(shared: Path, category: str, most: int = 10_000) -> dict[str, Effect]:
    """Effects of bfloat16 on the scores of a category, and of the resize on the distances."""
    found = pictures(shared, category, most)
    judged, half = ~found.fit, np.arange(len(found.fit)) % 2 == 1
    exact = distances(shared, found, FLOAT32)
    coarse = distances(shared, found, BFLOAT16)
    reference = distances(shared, found, FLOAT32, pillow_square)
    head = trained_head(exact["features"], found)
    pairs = {
        "classifier": (*(logits(shared, found, head, p) for p in (FLOAT32, BFLOAT16)), half),
        "detector": (*(confidences(shared, found, p) for p in (FLOAT32, BFLOAT16)), judged),
    }
    for name in ("cells", "pooled"):
        pairs[name] = (exact[name], coarse[name], judged)
        pairs[f"{name}, resize"] = (reference[name], exact[name], judged)
    return {name: effect(a, b, found.defect, rows) for name, (a, b, rows) in pairs.items()}


def main() -> None:
    """Prints the effects on every category."""
    fix_arithmetic(2)
    shared = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared")
    for category in ("magnetic_tile", "hazelnut", "grid"):
        for name, one in effects(shared, category).items():
            print(f"{category}: {name}: {one}{'' if one.kept else ' (beyond the limits)'}")


if __name__ == "__main__":
    main()
