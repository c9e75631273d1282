"""What near-duplicates give away: the same scores on folders, on random and on grouped splits.

From the checkout's root, with the real images and weights beside it:

    PYTHONPATH=. .venv/bin/python tests/real/split_quality.py ../shared

Splits come from linescore, every score from the plain script that the tests compare linescore
with (tests/real/reference.py), so that ten seeds cost one backbone pass.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import roc_auc_score

from pipeline.config import IndexConfig, RayConfig, SplitConfig
from pipeline.stages.cluster import connected
from pipeline.stages.index import run_index
from pipeline.stages.split import run_split
from tests.real.reference import Layers, cell_scores, features, load_backbone, pooled_scores

WEIGHTS = "weights/resnet18_imagenet_to_layer3_bnfolded.safetensors"
CATEGORY = "magnetic_tile"
SEEDS = range(10)
PIXELS = 32


def pixels(files: list[str]) -> np.ndarray:
    """(N, 1024) grey thumbnails less their mean, of length 1: a product is a correlation."""
    small = [
        np.asarray(Image.open(f).convert("L").resize((PIXELS, PIXELS), Image.Resampling.BILINEAR))
        for f in files
    ]
    flat = np.array(small, np.float64).reshape(len(files), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def nearest_pixels(train: np.ndarray, every: np.ndarray) -> np.ndarray:
    """The baseline: distance to the nearest fit image, nothing learned at all."""
    return np.linalg.norm(every[:, None] - train[None], axis=2).min(axis=1)


def areas(table: pa.Table, fit: np.ndarray, scores: dict[str, tuple[np.ndarray, Callable]]) -> dict:
    """AUROC of each score on all labelled rows outside `fit` (N,) bool, the Gaussians' rows."""
    defect = np.array(table["is_defect"].to_pylist())
    role = np.array([r or "" for r in table["role"].to_pylist()])
    judged = ~fit & (role != "fit")
    result = {"good": int((judged & ~defect).sum()), "defects": int((judged & defect).sum())}
    for name, (values, score) in scores.items():
        result[name] = roc_auc_score(defect[judged], score(values[fit], values)[judged])
    return result


def split(source: str, folder: Path, seed: int, grouped: bool) -> pa.Table:
    """One split of the manifest, in the order of image ids."""
    config = SplitConfig.model_validate(
        {
            "manifest": source,
            "store": str(folder),
            "name": f"split-{seed}-{grouped}",
            "seed": seed,
            "near_duplicates": {"find": grouped, "contact_sheet": False},
        }
    )
    return pq.read_table(run_split(config)["manifest"]).sort_by("image_id")


def leaking(table: pa.Table, groups: np.ndarray) -> tuple[int, int]:
    """Good images outside fit that share a group with a good fit image, and how many there are."""
    good = ~np.array(table["is_defect"].to_pylist())
    fit = np.array(table["role"].to_pylist()) == "fit"
    known = set(groups[fit & good].tolist())
    outside = groups[~fit & good].tolist()
    return sum(group in known for group in outside), len(outside)


def main(shared: Path) -> None:
    torch.set_num_threads(2)
    with connected(RayConfig()), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = IndexConfig(source=str(shared / "real"), store=name, name="real")
        source = run_index(config)["manifest"]
        rows = pq.read_table(source)
        rows = rows.filter(pa.array([c == CATEGORY for c in rows["category"].to_pylist()]))
        pq.write_table(rows, folder / "tile.parquet")
        report(str(folder / "tile.parquet"), folder, shared)


def report(source: str, folder: Path, shared: Path) -> None:
    table = split(source, folder, 0, grouped=True)
    files = [Path(uri) for uri in table["uri"].to_pylist()]
    layers = Layers(load_backbone(shared / WEIGHTS))
    cells, pooled = zip(*(features(layers(file)) for file in files), strict=True)
    grey = pixels([str(file) for file in files])
    scores = {
        "cells": (np.array(cells), cell_scores),
        "pooled": (np.array(pooled), pooled_scores),
        "pixels": (grey, nearest_pixels),
    }
    groups = table["group_id"].to_numpy()
    plain_correlation(table, grey)
    good = ~np.array(table["is_defect"].to_pylist())
    train = np.array(table["split"].to_pylist()) == "train"
    lies = table.set_column(
        table.schema.get_field_index("role"), "role",
        pa.array(["fit" if t else "test" for t in train]),
    )  # fmt: skip
    print("as it lies", areas(lies, train & good, scores), "leaking", leaking(lies, groups))
    for grouped in (False, True):
        found = []
        for seed in SEEDS:
            table = split(source, folder, seed, grouped)
            fit = np.array(table["role"].to_pylist()) == "fit"
            found.append(areas(table, fit & good, scores))
            print("grouped" if grouped else "random", seed, found[-1], leaking(table, groups))
        for name in scores:
            values = [area[name] for area in found]
            print(f"  {name}: mean {np.mean(values):.3f} sd {np.std(values, ddof=1):.3f}", end="")
            print(f" from {min(values):.3f} to {max(values):.3f}")


def plain_correlation(table: pa.Table, grey: np.ndarray) -> None:
    """What grouping by the correlation of plain pixels would give, beside the groups there are."""
    correlation = grey @ grey.T
    groups = table["group_id"].to_numpy()
    good = ~np.array(table["is_defect"].to_pylist())
    train = np.array(table["split"].to_pylist()) == "train"
    known = set(groups[train & good].tolist())
    twins = sum(group in known for group in groups[~train & good].tolist())
    print("groups", len(set(groups.tolist())), "good test images with a twin", twins)
    for least in (0.9, 0.95, 0.98):
        near = correlation[np.ix_(~train & good, train & good)].max(axis=1) > least
        _, labels = connected_components(coo_matrix(np.triu(correlation > least, 1)))
        print(f"correlation > {least}: {near.sum()} of {len(near)} good test images;", end=" ")
        print("largest group", np.bincount(labels).max())


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
