"""How well the demo's scores separate for one seed: its settings, its models, no Ray."""

from __future__ import annotations

import sys

import numpy as np
from sklearn.metrics import roc_auc_score

from pipeline.models.backbone import Backbone
from pipeline.models.classifier import Classifier
from pipeline.models.specs import FeatureLayout
from pipeline.models.training import TrainingSettings, train_small_classifier
from pipeline.samples.render import render
from pipeline.samples.spec import CATEGORIES, SampleSpec, demo_archive, demo_training
from pipeline.stats.gaussian import fit_global_floor, grid_score, mahalanobis
from pipeline.stats.moments import MomentAccumulator

LAYOUT = FeatureLayout(("layer2", "layer3"), (4, 8), ("layer3",))
BATCH = 16


def sample(spec: SampleSpec, category: str) -> list[tuple[str | None, str, np.ndarray, np.ndarray]]:
    """(defect type, split, pixels, mask) of every image of a category."""
    plan = [(None, "train", spec.train_good), (None, "test", spec.test_good)]
    plan += [(kind, "test", spec.per_defect) for kind in CATEGORIES[category].defects]
    return [
        (kind, split, *render(category, kind, split, index, spec))
        for kind, split, count in plan
        for index in range(count)
    ]


def areas(seed: int) -> dict[str, tuple[float, float]]:
    """Per category: AUROC of the anomaly score and of the classifier, on the archive's test."""
    training = [row for name in CATEGORIES for row in sample(demo_training(seed), name)]
    images, masks = (np.stack([row[place] for row in training]) for place in (2, 3))
    state = train_small_classifier(images, masks, TrainingSettings(seed=seed))
    backbone, classifier = Backbone(state, LAYOUT, BATCH), Classifier(state, BATCH)
    result = {}
    for name in CATEGORIES:
        rows = sample(demo_archive(seed), name)
        pixels = np.stack([row[2] for row in rows])
        train = np.array([row[1] == "train" for row in rows])
        truth = np.array([row[0] is not None for row in rows])[~train]
        cells = backbone.features(pixels).cells
        sums = MomentAccumulator(cells[train][0].astype(np.float64))
        sums.add(cells[train])
        gaussian = fit_global_floor(sums.moments())
        anomaly = grid_score(mahalanobis(gaussian, cells[~train]), LAYOUT.grids)
        logits = classifier.defect_logits(pixels[~train])
        result[name] = (roc_auc_score(truth, anomaly), roc_auc_score(truth, logits))
    return result


if __name__ == "__main__":
    print(
        sys.argv[1],
        {k: (round(a, 3), round(c, 3)) for k, (a, c) in areas(int(sys.argv[1])).items()},
    )
