"""The scores of an archive by a plain script that shares no code with linescore.

One process, one image after the other, with torchvision, numpy, scikit-learn, scipy and
ultralytics' own `predict`. Written from the formulas in the docs.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf
from torchvision.models import resnet18
from torchvision.transforms import functional as vision

GRIDS = (4, 8)


def image_files(root: Path) -> dict[str, list[Path]]:
    """Images per category, masks and texts left out."""
    files: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root).parts
        if len(relative) == 4 and relative[1] in ("train", "test"):
            files.setdefault(relative[0], []).append(path)
    return files


def load_backbone(weights: Path) -> torch.nn.Module:
    """ResNet-18; of the used layers nothing may be missing."""
    model = resnet18(weights=None)
    state = {name: value.float() for name, value in load_file(weights).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    needed = [n for n in missing if not n.startswith(("layer4.", "fc."))]
    assert not [n for n in needed if not n.endswith("num_batches_tracked")]
    assert not unexpected
    return model.eval()


def read_rgb(path: Path) -> Image.Image:
    """One image as RGB."""
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def network_input(path: Path, side: int = 256) -> torch.Tensor:
    """(1, 3, S, S), normalised with ImageNet's mean and deviation."""
    small = vision.resize(read_rgb(path), [side, side])
    tensor = vision.to_tensor(small)
    return vision.normalize(tensor, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])[None]


class Layers:
    """Outputs of layer2 and layer3 for one image."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model, self.outputs = model, {}
        for name in ("layer2", "layer3"):
            getattr(model, name).register_forward_hook(
                lambda _m, _i, output, name=name: self.outputs.__setitem__(name, output)
            )

    def __call__(self, path: Path) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            x = network_input(path)
            m = self.model
            x = m.maxpool(m.relu(m.bn1(m.conv1(x))))
            m.layer3(m.layer2(m.layer1(x)))
        return dict(self.outputs)


def features(outputs: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Cells (80, 384) rounded to float16, and the mean of layer3 (256,), both as float64."""
    rows = []
    for side in GRIDS:
        pooled = [
            torch.nn.functional.adaptive_avg_pool2d(outputs[name], side)[0]
            for name in ("layer2", "layer3")
        ]
        grid = torch.cat(pooled).numpy()  # (384, side, side)
        rows += [grid[:, y, x] for y in range(side) for x in range(side)]
    cells = np.array(rows, np.float16).astype(np.float64)
    mean = outputs["layer3"][0].mean(dim=(1, 2)).numpy().astype(np.float64)
    return cells, mean


def cell_scores(train: np.ndarray, every: np.ndarray) -> np.ndarray:
    """Largest distance of each grid, added; (N, 80, 384) to (M,)."""
    count = train.shape[1]
    covariances = [np.cov(train[:, g].T, bias=True) for g in range(count)]
    t = np.mean([np.diag(c).mean() for c in covariances])
    distances = np.empty((len(every), count))
    for g, covariance in enumerate(covariances):
        regularised = 0.9 * covariance + 0.1 * t * np.eye(len(covariance))
        centred = every[:, g] - train[:, g].mean(axis=0)
        solved = np.linalg.solve(regularised, centred.T)
        distances[:, g] = np.sqrt(np.einsum("nd,dn->n", centred, solved))
    first = GRIDS[0] ** 2
    return distances[:, :first].max(axis=1) + distances[:, first:].max(axis=1)


def pooled_scores(train: np.ndarray, every: np.ndarray) -> np.ndarray:
    """scikit-learn's Ledoit-Wolf, scipy's Mahalanobis distance."""
    model = LedoitWolf().fit(train)
    inverse = np.linalg.inv(model.covariance_)
    return np.array([mahalanobis(x, model.location_, inverse) for x in every])


def reference_scores(
    root: Path, weights: Path, head: dict[str, torch.Tensor]
) -> dict[str, dict[str, float]]:
    """Per file: `cells`, `pooled`, `logit`."""
    layers = Layers(load_backbone(weights))
    result: dict[str, dict[str, float]] = {}
    for files in image_files(root).values():
        cells, pooled = [], []
        for path in files:
            c, p = features(layers(path))
            cells.append(c)
            pooled.append(p)
        every_cell, every_pooled = np.array(cells), np.array(pooled)
        train = np.array([path.parts[-3] == "train" for path in files])
        both = zip(
            cell_scores(every_cell[train], every_cell),
            pooled_scores(every_pooled[train], every_pooled),
            strict=True,
        )
        for path, mean, (by_cell, by_mean) in zip(files, pooled, both, strict=True):
            out = head["fc.weight"].double() @ torch.from_numpy(mean) + head["fc.bias"].double()
            logit = float(out[1] - out[0])
            result[str(path)] = {"cells": by_cell, "pooled": by_mean, "logit": logit}
    return result


def reference_boxes(
    files: list[Path], weights: Path, side: int, floor: float, iou: float, most: int
) -> dict[str, np.ndarray]:
    """Per file (M, 6): x_min, y_min, x_max, y_max, confidence, class, by ultralytics' predict."""
    from ultralytics import YOLO

    model = YOLO(str(weights))
    boxes = {}
    for path in files:
        bgr = np.asarray(read_rgb(path))[..., ::-1]
        found = model.predict(
            np.ascontiguousarray(bgr), imgsz=side, conf=floor, iou=iou, max_det=most,
            rect=False, verbose=False, device="cpu",
        )  # fmt: skip
        boxes[str(path)] = found[0].boxes.data.numpy()
    return boxes
