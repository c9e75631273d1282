"""What the models of a bundle were trained on, read without their weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.scoring.bundle import TRAINED_ON_FILES, bundle_record
from pipeline.tables import storage
from pipeline.tables.trained_on import trained_on_ids

# Which of the models a column of scores comes from.
MODEL_OF = {
    "anomaly_score": "gaussians",
    "anomaly_cells": "gaussians",
    "anomaly_pooled": "gaussians",
    "defect_logit": "classifier",
    "defect_probability": "classifier",
    "detection_max_confidence": "detector",
}


@dataclass(frozen=True)
class Training:
    """What is known of a bundle's training.

    Attributes:
        scorer_digest: of the bundle; it covers the records of training.
        ids: for each model that the bundle has the ids that it has seen, sorted int64; None: not
            recorded.
    """

    scorer_digest: str
    ids: Mapping[str, npt.NDArray[np.int64] | None]


def training_of(reference: str, store: str) -> Training:
    """What the models of a bundle have seen; of its files only these records are read.

    Args:
        reference: as for `open_bundle`.
        store: the store.

    Raises:
        InputError: no such bundle, or a record that is gone or isn't what the bundle says.
    """
    uri, record = bundle_record(reference, store)
    scorer = record["scorer"]
    there = {
        "gaussians": True,
        "classifier": scorer["classifier_batch"] is not None,
        "detector": scorer["detector"] is not None,
    }
    models = [model for model in TRAINED_ON_FILES if there[model]]
    return Training(record["scorer_digest"], {m: _ids(uri, scorer["files"], m) for m in models})


def _ids(uri: str, files: Mapping[str, Any], model: str) -> npt.NDArray[np.int64] | None:
    name = TRAINED_ON_FILES[model]
    if name not in files:
        return None
    place = storage.join(uri, name)
    with storage.errors_for(place, "bundle"):
        content = storage.read_bytes(place)
    if hashlib.sha256(content).hexdigest() != files[name]["sha256"]:
        raise InputError(f"bundle: {place}: is damaged; fit again, or restore the bundle")
    return trained_on_ids(content, place)
