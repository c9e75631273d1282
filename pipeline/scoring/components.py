"""Digests of a bundle's parts: which numbers of an earlier run this bundle would give again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import InputError
from pipeline.scoring.bundle import CLASSIFIER_FILE, DETECTOR_FILE, RECORD, digests, precision_of
from pipeline.scoring.thresholds_file import canonical_digest
from pipeline.tables import storage

# How images are decoded and resized and networks computed, as a number that is raised with every
# change of a score, however small: rows of two versions are not mixed by reuse, nor in a run.
# 2: JPEG by OpenCV, halved squares by PyTorch, batch norms folded.
# 3: detectors take pixels from 0 to 255 and decode only what may be confident enough.
# 4: on GPUs boxes are decoded on the processor, and cuDNN adds in a fixed order.
ARITHMETIC = 4
# The same of what is computed from a network's features: networks' numbers stay what they are.
# 2: distances solved by blocks of 64 features, which changes their last bits.
DISTANCES = 2


def version() -> str:
    """Both numbers, as runs record them: a run of others is neither continued nor skipped by."""
    return f"{ARITHMETIC}.{DISTANCES}"


def component_digests(scorer: Mapping[str, Any]) -> dict[str, Any]:
    """What the columns of each model depend on.

    Args:
        scorer: the part of a bundle's record that scores depend on.

    Returns:
        `arithmetic`: `version()`; `features`: the backbone and what it is given; `gaussians`: per
        category the features and both of its Gaussians; `classifier` and `detector`: the weights
        and their settings, None where the bundle has none.
    """
    features = canonical_digest([digests(scorer, {})["feature_digest"], ARITHMETIC])
    files = scorer["files"]
    return {
        "arithmetic": version(),
        "features": features,
        "gaussians": {
            category: canonical_digest(
                {
                    "features": features,
                    "distances": DISTANCES,
                    "files": {
                        name.removeprefix(f"{folder}/"): entry["sha256"]
                        for name, entry in files.items()
                        if name.startswith(f"{folder}/")
                    },
                }
            )
            for category, folder in scorer["categories"].items()
        },
        "classifier": _network(
            scorer,
            "classifier",
            CLASSIFIER_FILE,
            batch=scorer["classifier_batch"],
            side=scorer["image_size"],
        ),
        "detector": _network(scorer, "detector", DETECTOR_FILE, settings=scorer["detector"]),
    }


def _network(scorer: Mapping[str, Any], model: str, file: str, **settings: Any) -> str | None:
    if file not in scorer["files"]:
        return None
    weights = scorer["files"][file]["sha256"]
    precision = precision_of(scorer["precision"], model)
    known = {"weights": weights, "precision": precision, "settings": settings}
    return canonical_digest(known | {"arithmetic": ARITHMETIC})


def components_at(uri: str, scorer_digest: str) -> dict[str, Any]:
    """The component digests of the bundle in a folder or under a prefix.

    Raises:
        OSError, InputError, KeyError: there is no bundle any more, it is another, or damaged.
    """
    scorer = storage.read_json(storage.join(uri, RECORD))["scorer"]
    if digests(scorer, {})["scorer_digest"] != scorer_digest:
        raise InputError(f"{uri} is another bundle now")
    return component_digests(scorer)
