"""The predecessor's error on real images: a model judged on what it was trained on looks better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.images.geometry import resize_square
from pipeline.models.augment import Augmentation
from pipeline.models.batches import Batch, Sources, in_memory, rows_of
from pipeline.models.classifier_training import EpochSettings, defect_logits, train_classifier
from pipeline.models.defect_net import DefectNet, feature_views
from pipeline.models.weights import State, load_state
from pipeline.stats.detection_rates import f1_threshold

SIDE = 128
WEIGHTS = "weights/resnet18_imagenet_to_layer3_bnfolded.safetensors"
# Images of 32 × 32 pixels that correlate more than this are of one group.
ALIKE = 0.9


@pytest.fixture(scope="module")
def state(shared: Path) -> State:
    return load_state(str(shared / WEIGHTS), "weights")


@pytest.fixture(scope="module")
def tiles(shared: Path, state: State) -> tuple[Batch, np.ndarray]:
    """Features of every image of magnetic_tile, and a part from 0 to 9 that keeps groups whole."""
    torch.set_num_threads(1)
    files = sorted((shared / "real/magnetic_tile").glob("t*/*/*.jpg"))
    pixels = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    kinds = np.array([file.parent.name for file in files])
    small = np.stack([resize_square(p, 32).mean(2).ravel() for p in pixels])
    small -= small.mean(1, keepdims=True)
    small /= np.linalg.norm(small, axis=1, keepdims=True)
    _, groups = connected_components(small @ small.T > ALIKE)
    parts = np.zeros(len(files), int)
    splitter = StratifiedGroupKFold(10, shuffle=True, random_state=0)
    for part, (_, rows) in enumerate(splitter.split(kinds, kinds, groups)):
        parts[rows] = part
    net = DefectNet(state, "head", "weights").eval()
    squares = torch.from_numpy(np.stack([resize_square(p, SIDE) for p in pixels]))
    features = torch.cat(
        [feature_views(net, chunk, 1, Augmentation(), 0) for chunk in squares.split(16)]
    )
    truth = kinds != "good"
    return Batch(np.arange(len(files)), features, truth, np.ones(len(files), np.float32)), parts


def missed(state: State, training: Batch, choosing: Batch, judged: Batch) -> float:
    """Share of missed defects at the F1 threshold of the choosing rows."""
    torch.manual_seed(0)
    net = DefectNet(state, "head", "weights").eval()
    settings = EpochSettings(seed=0, epochs=80, patience=80, learning_rate=2e-2)
    sources = Sources(in_memory(training, 32, 0), lambda: [choosing])
    train_classifier(net, sources, settings)
    _, truth, logits = defect_logits(net, [choosing])
    threshold = f1_threshold(truth, logits.astype(float))
    assert threshold is not None
    _, truth, logits = defect_logits(net, [judged])
    return float((logits[truth] < threshold).mean())


def test_training_on_the_judged_images_hides_most_of_the_misses(
    state: State, tiles: tuple[Batch, np.ndarray]
) -> None:
    everything, parts = tiles
    fit, validation, test = (
        rows_of(everything, np.flatnonzero(chosen))
        for chosen in (parts < 5, (parts >= 5) & (parts < 8), parts >= 8)
    )
    honest = missed(state, fit, validation, test)
    leaking = missed(state, everything, test, test)
    print(f"missed defects: honest {honest:.1%}, with the test rows in training {leaking:.1%}")
    assert leaking < honest / 2
