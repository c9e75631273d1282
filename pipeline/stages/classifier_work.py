"""A training as it was asked for: its rows, its plan, its starting weights, what it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config import TrainClassifierConfig
from pipeline.errors import InputError
from pipeline.models.defect_net import DefectNet
from pipeline.models.weights import named_weights, state_to_bytes
from pipeline.scoring.weights_files import read_state
from pipeline.stages.classifier_loop import result_file
from pipeline.stages.classifier_plan import CROSS_FITTED, Fit, Plan, plan_fits
from pipeline.stages.provenance import environment, now
from pipeline.tables import storage
from pipeline.tables.manifest import open_manifest
from pipeline.tables.roles import TEST
from pipeline.tables.trained_models import ModelPlaces, require_kind
from pipeline.tables.trained_on import NONE, seen_by
from pipeline.tables.training_rows import TrainingRows, labelled_rows


@dataclass(frozen=True)
class Work:
    """An opened training.

    Attributes:
        config: its settings.
        places: its files.
        rows: the labelled rows of the roles that it touches.
        plan: the trainings that it consists of.
        weights: the starting weights, as safetensors.
        seen: (N,) ids of the images that the starting weights had seen.
        identity: what weights and figures depend on.
    """

    config: TrainClassifierConfig
    places: ModelPlaces
    rows: TrainingRows
    plan: Plan
    weights: bytes
    seen: np.ndarray
    identity: dict[str, Any]


def open_work(config: TrainClassifierConfig) -> Work:
    """Reads and checks all that is given, before anything is written.

    Raises:
        InputError: a manifest, weights or a store that can't be used, or rows that don't suffice.
    """
    store, uri = storage.absolute(config.store), storage.absolute(config.manifest)
    config = config.model_copy(update={"store": store, "manifest": uri})
    manifest = open_manifest(uri)
    require_kind(ModelPlaces(store, config.name).folder, "classifier")
    roles = (*CROSS_FITTED, TEST) if config.score_test else CROSS_FITTED
    rows = labelled_rows(uri, roles)
    plan = plan_fits(rows, config, uri)
    field = f"weights: {config.weights}"
    state = read_state(config.weights, "weights")
    net = DefectNet(state, config.trainable, field)
    weights = state_to_bytes({n: v for n, v in net.resnet_state().items() if n[:3] != "fc."})
    seen = NONE if config.weights in named_weights() else seen_by(config.weights)
    _require_unseen(plan, seen, config.weights)
    storage.require_writable(store, "store")
    free = {"store", "manifest", "name", "weights", "checkpoint_s", "ray", "limits"}
    free |= {"max_unreachable", "s3"}
    identity = {
        "kind": "classifier",
        "manifest_digest": manifest.digest,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "limits": config.limits.model_dump(exclude={"fetch_attempts"}),
        **config.model_dump(mode="json", exclude=free),
    }
    return Work(config, ModelPlaces(store, config.name), rows, plan, weights, seen, identity)


def _require_unseen(plan: Plan, seen: np.ndarray, weights: str) -> None:
    """Refuses to score rows that the starting weights have learnt.

    Raises:
        InputError: naming one of them.
    """
    known = [np.intersect1d(fit.scored, seen) for fit in plan.fits]
    both = np.unique(np.concatenate(known))
    if len(both):
        raise InputError(
            f"weights: {weights}: has seen image {both[0]}, which this training would score "
            f"({len(both)} such images); a model isn't judged on what it has seen: start from "
            "other weights, or split the images again"
        )


def facts(work: Work) -> dict[str, Any]:
    """Name, time, settings and versions, for people."""
    return {
        "name": work.places.name,
        "started_at": now(),
        "config": work.config.model_dump(mode="json"),
        "environment": environment(),
    }


def pending(work: Work) -> list[Fit]:
    """The trainings that have no result yet."""
    folder = work.places.folder
    return [fit for fit in work.plan.fits if not storage.exists(result_file(folder, fit))]
