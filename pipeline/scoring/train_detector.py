"""Training a detector from a manifest's rows into the store, in the process that calls it."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import DetectorAugmentationConfig, DetectorConfig, TrainDetectorConfig
from pipeline.errors import InputError, RunError
from pipeline.models.detector import Detector, load_network
from pipeline.models.detector_training import fine_tune
from pipeline.models.resnet import fix_arithmetic
from pipeline.models.specs import DetectorSettings, Epoch, FineTuning
from pipeline.scoring.bundle import DETECTOR_FILE
from pipeline.scoring.dataset import FOLDERS, DatasetPlan, write_dataset
from pipeline.scoring.detector_quality import detector_quality
from pipeline.scoring.labelled import class_names, label_options, require_labels, rows_by_role
from pipeline.scoring.outage import OutageGuard
from pipeline.scoring.weights_files import local_weights, read_weights
from pipeline.tables import storage
from pipeline.tables.manifest import open_manifest
from pipeline.tables.roles import FIT
from pipeline.tables.schemas import UNREACHABLE_ERRORS
from pipeline.tables.trained_on import (
    NONE,
    seen_by,
    trained_on_bytes,
    trained_on_file,
    trained_on_ids,
)

# Boxes that the precision counts go far below any threshold in use.
_JUDGED_FLOOR = 0.001
# Settings that don't change the weights.
_NOT_IDENTITY = {
    "manifest",
    "store",
    "name",
    "trusted",
    "evaluate_role",
    "confidences",
    "state_s",
    "max_unreachable",
    "s3",
    "ray",
}


@dataclass(frozen=True)
class ModelPlaces:
    """Where the pieces of one trained detector lie."""

    folder: str

    @property
    def weights(self) -> str:
        """The finished detector."""
        return storage.join(self.folder, DETECTOR_FILE)

    @property
    def trained_on(self) -> str:
        """Which images it has seen."""
        return trained_on_file(self.weights)

    @property
    def record(self) -> str:
        """Settings and metrics; written last."""
        return storage.join(self.folder, "training.json")

    @property
    def work(self) -> str:
        """What an unfinished training leaves."""
        return storage.join(self.folder, "work")

    @property
    def started(self) -> str:
        """What the unfinished training is."""
        return storage.join(self.work, "started.json")

    @property
    def state(self) -> str:
        """What it continues from."""
        return storage.join(self.work, "state.pt")

    @property
    def progress(self) -> str:
        """How far it is."""
        return storage.join(self.work, "progress.json")


def model_places(store: str, name: str) -> ModelPlaces:
    """The places of a model in a store."""
    return ModelPlaces(storage.join(store, "models", name))


def check_training(config: TrainDetectorConfig) -> dict[str, Any]:
    """Checks everything that can be known before any work; what the weights will depend on.

    Raises:
        InputError: the manifest has no roles or no defect to train on, or weights that are
            missing, damaged or not trusted.
    """
    manifest = open_manifest(config.manifest)
    rows = rows_by_role(config.manifest, {FIT, config.evaluate_role}, "training")
    class_names(rows[FIT], label_options(config.boxes, config.limits))
    if not rows[config.evaluate_role].num_rows:
        raise InputError(
            f"evaluate_role: no image of {config.manifest} has the role {config.evaluate_role!r}; "
            "a model that nothing judges is not trained"
        )
    _check_groups(rows, config)
    if config.weights:
        _require_unseen(rows[config.evaluate_role], seen_by(config.weights), config.weights)
    return {
        "kind": "train_detector",
        "manifest_digest": manifest.digest,
        "weights_sha256": _weights_digest(config),
        "settings": config.model_dump(mode="json", exclude=_NOT_IDENTITY | {"weights"}),
    }


def _check_groups(rows: Mapping[str, pa.Table], config: TrainDetectorConfig) -> None:
    """Refuses a group that is learnt and judged; a row without a group is one of its own.

    Raises:
        InputError: naming the group.
    """
    fit, judged = (
        pc.coalesce(known.column("group_id"), known.column("image_id")).to_numpy()
        for known in (_labelled(rows[role]) for role in (FIT, config.evaluate_role))
    )
    both = np.intersect1d(fit, judged)
    if len(both):
        raise InputError(
            f"manifest: {config.manifest}: group_id {both[0]}: lies in {FIT} and in "
            f"{config.evaluate_role} ({len(both)} such groups), so that the figures would be of "
            "rows that were learnt; split again with groups kept together"
        )


def _labelled(rows: pa.Table) -> pa.Table:
    """The rows that are known to be good or defective."""
    return rows.filter(pc.is_valid(rows.column("is_defect")))


def _weights_digest(config: TrainDetectorConfig) -> str | None:
    if config.weights is None:
        return None
    field = f"weights: {config.weights}"
    if not config.trusted:
        raise InputError(
            f"{field}: an ultralytics .pt is a pickle, which can run code when it is loaded; "
            "if you know where it comes from, say so with trusted=true"
        )
    content = read_weights(config.weights, "weights")
    with local_weights(config.weights, "weights") as file:
        load_network(file, field)
    return hashlib.sha256(content).hexdigest()


def train_detector(config: TrainDetectorConfig, places: ModelPlaces) -> dict[str, Any]:
    """Trains, from where an earlier attempt was cut off; weights and record of images are kept.

    Returns:
        What was trained on, for the record.

    Raises:
        InputError: a mask that can't be used, of a row that trains or of one that judges.
        RunError: the loss became infinite, no image could be read, or the archive is out of reach.
    """
    options = label_options(config.boxes, config.limits)
    of_roles = rows_by_role(config.manifest, {FIT, config.evaluate_role}, "training")
    rows = of_roles[FIT]
    names = class_names(rows, options)
    chosen = chosen_rows(rows, config.good_per_defect)
    before = storage.read_bytes(places.state) if storage.exists(places.state) else None
    if before is None:
        require_labels(of_roles[config.evaluate_role], options)
    seen_before = seen_by(config.weights) if config.weights else NONE
    with tempfile.TemporaryDirectory(prefix="linescore-detector-") as folder:
        plan = DatasetPlan(Path(folder), names, options, max_side=config.image_size)
        written = write_dataset({FIT: chosen}, plan)[FIT]
        _require_reachable(len(chosen), written.left_out, config.max_unreachable)
        if not written.defects:
            raise RunError(f"training: none of the defect images could be used: {written.examples}")
        images = Path(folder) / "images" / FOLDERS[FIT]
        keep = _Keeper(places, config.state_s)
        with _starting_weights(config) as file:
            weights = fine_tune(images, names, _fine_tuning(config, file), keep, before)
    # All that were chosen: what can't be read now, an earlier attempt may have learnt from.
    ids = chosen.column("image_id").to_numpy()
    storage.write_bytes(places.trained_on, trained_on_bytes(ids, NONE, seen_before, weights))
    storage.write_bytes(places.weights, weights)
    return {
        "classes": list(names),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "trained_on": written.counts(),
        "progress": keep.facts,
    }


def _require_reachable(images: int, left_out: Mapping[str, int], share: float) -> None:
    """Stops where the archive must be gone, given the number of images left out per reason.

    Raises:
        RunError: more files can't be had than `max_unreachable` allows.
    """
    OutageGuard(images, share).add(sum(left_out.get(kind, 0) for kind in UNREACHABLE_ERRORS))


def chosen_rows(rows: pa.Table, good_per_defect: float) -> pa.Table:
    """All defects, and the first good images by id, which is a hash: as good as drawn.

    A row whose label nobody knows is neither.
    """
    defect = rows.column("is_defect")
    defects, others = rows.filter(defect), rows.filter(pc.invert(defect))  # null is in neither
    good = others.slice(0, round(good_per_defect * defects.num_rows))
    return pa.concat_tables([defects, good]).sort_by("image_id")


class _Keeper:
    """Writes an epoch's state, not too often, and what people want to know of it."""

    def __init__(self, places: ModelPlaces, state_s: float) -> None:
        self._places, self._state_s = places, state_s
        self._written = time.monotonic()
        # An earlier attempt's, which stand where it died after its last epoch.
        known = storage.exists(places.progress)
        self.facts: dict[str, Any] = storage.read_json(places.progress) if known else {}

    def __call__(self, epoch: Epoch) -> None:
        self.facts = {
            "epoch": epoch.number,
            "epochs": epoch.epochs,
            "seconds": round(epoch.seconds, 1),
            "loss": {name: round(value, 4) for name, value in epoch.loss.items()},
        }
        # Before the state: an attempt that continues from the last epoch's tells no other facts.
        storage.write_json(self._places.progress, self.facts)
        if time.monotonic() - self._written >= self._state_s:
            storage.write_bytes(self._places.state, epoch.state())
            self._written = time.monotonic()


def _starting_weights(config: TrainDetectorConfig) -> AbstractContextManager[Path | None]:
    return local_weights(config.weights, "weights") if config.weights else nullcontext()


def _fine_tuning(config: TrainDetectorConfig, weights: Path | None) -> FineTuning:
    return FineTuning(
        weights=weights,
        image_size=config.image_size,
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        freeze=config.freeze,
        seconds=config.minutes * 60 if config.minutes else None,
        seed=config.seed,
        threads=config.threads,
        augment=_augment(config.augment),
    )


def _augment(config: DetectorAugmentationConfig) -> Mapping[str, float]:
    """By ultralytics' names; hue and saturation stay, since grey has none and colour tells."""
    return {
        "fliplr": config.flip_horizontal,
        "flipud": config.flip_vertical,
        "hsv_h": 0.0,
        "hsv_s": 0.0,
        "hsv_v": config.brightness,
        "translate": config.shift,
        "scale": config.scale,
        "mosaic": config.mosaic,
    }


def _require_unseen(rows: pa.Table, seen: np.ndarray, weights: str) -> None:
    both = np.intersect1d(rows.column("image_id").to_numpy(), seen)
    if len(both):
        raise InputError(
            f"evaluate_role: image {both[0]} is among the {len(seen)} that {weights} was "
            "trained on; a model isn't judged on what it has seen"
        )


def judge_detector(config: TrainDetectorConfig, places: ModelPlaces) -> dict[str, Any]:
    """The metrics of the finished detector on the configured role.

    Raises:
        InputError: the detector has seen one of the rows.
        RunError: the archive is out of reach.
    """
    options = label_options(config.boxes, config.limits)
    rows = rows_by_role(config.manifest, {config.evaluate_role}, "judging")[config.evaluate_role]
    seen = trained_on_ids(storage.read_bytes(places.trained_on), places.trained_on)
    _require_unseen(rows, seen, places.weights)
    defaults = DetectorConfig(weights="")
    settings = DetectorSettings(
        config.image_size,
        _JUDGED_FLOOR,
        defaults.iou,
        defaults.max_detections,
        batch_size=1,  # images come one by one, and a batch is always padded to its size
    )
    fix_arithmetic(config.threads)
    with tempfile.TemporaryDirectory(prefix="linescore-detector-") as folder:
        file = Path(folder) / DETECTOR_FILE
        file.write_bytes(storage.read_bytes(places.weights))
        detector = Detector(file, settings, f"detector: {places.weights}")
        found = detector_quality(detector, rows, config.evaluate_role, options, config.confidences)
    _require_reachable(len(rows), found["left_out"], config.max_unreachable)
    return found
