"""The actors of the three pools: `__init__` loads a model, `__call__` adds its columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from pipeline.errors import RunError
from pipeline.models.memory import NoMemoryError, halved_batches, keep_freed_memory
from pipeline.scoring.bundle import GAUSSIANS, Bundle, open_bundle
from pipeline.scoring.reuse.join import BOX
from pipeline.scoring.rows import as_errors, box_rows, spread, without_value
from pipeline.stages.attempts import deaths_after_the_first
from pipeline.stages.cards import take_own_cards
from pipeline.stages.columns import unpack
from pipeline.stages.decode import LETTERBOXED, SQUARE
from pipeline.stages.timing import timed_actor
from pipeline.tables import storage
from pipeline.tables.schemas import OUT_OF_MEMORY

Result = TypeVar("Result")


@dataclass(frozen=True)
class ActorSettings:
    """What an actor is told.

    Attributes:
        bundle: the bundle's place.
        threads: threads of the arithmetic.
        drop: image columns that no later stage needs.
        keep_features: add the features themselves: none, pooled or cells.
    """

    bundle: str
    threads: int
    drop: tuple[str, ...]
    keep_features: str = "none"

    def open(self, *parts: str) -> Bundle:
        """The bundle on this node, in a process that is settled for networks.

        The driver has verified a bundle on a disk, which all nodes share; of a remote one each
        actor verifies what it takes.

        Args:
            parts: what the actor takes, as for `open_bundle`; none: everything.

        Raises:
            InputError: Ray gave this actor a GPU that PyTorch can't use.
        """
        take_own_cards()
        keep_freed_memory()
        remote = storage.is_remote(self.bundle)
        return open_bundle(self.bundle, "", verify=remote, parts=parts or None)


class DetectorActor:
    """Boxes of the letterboxed images."""

    def __init__(self, settings: ActorSettings) -> None:
        from pipeline.scoring.scorers import bundle_detector

        self._settings = settings
        self._detector = bundle_detector(settings.open("detector"), settings.threads)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Adds `boxes`; null where there is no image."""
        images, present = unpack(rows.column(LETTERBOXED))
        detected, present, rows = in_memory(
            lambda some, _: self._detector.detect(some), images, present, rows, "detector"
        )
        found: list[list[dict[str, object]] | None] = [None] * len(rows)
        sizes = zip(rows["width"].to_pylist(), rows["height"].to_pylist(), strict=True)
        size_of = dict(enumerate(sizes))
        for row, boxes in zip(present, detected, strict=True):
            width, height = size_of[row]
            names = self._detector.class_names
            found[row] = box_rows(boxes, images.shape[1], width, height, names)
        rows = rows.append_column("boxes", pa.array(found, pa.list_(BOX)))
        finite = np.array([boxes.finite for boxes in detected], bool)
        rows = without_value(rows, present[~finite], "boxes")
        return rows.drop_columns(list(self._settings.drop))


@dataclass(frozen=True)
class FusedSettings:
    """What an actor that holds several models is told.

    Attributes:
        actors: name, class and settings of each, in the order of the chain.
    """

    actors: tuple[tuple[str, type, ActorSettings], ...]


class FusedActor:
    """Several models in one process, one after the other; each notes its own time."""

    def __init__(self, settings: FusedSettings) -> None:
        self._actors = [timed_actor(actor, name)(own) for name, actor, own in settings.actors]

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Adds what each of the models adds."""
        for actor in self._actors:
            rows = actor(rows)
        return rows


class FeatureActor:
    """Anomaly scores of the square images."""

    def __init__(self, settings: ActorSettings) -> None:
        from pipeline.scoring.scorers import AnomalyScorer

        self._settings = settings
        self._scorer = AnomalyScorer(settings.open("features", GAUSSIANS), settings.threads)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Adds `anomaly_cells`, `anomaly_pooled` and, if they are kept, the features."""
        images, present = unpack(rows.column(SQUARE))
        names = np.array(rows.column("category").to_pylist(), object)[present]
        scores, present, rows = in_memory(
            lambda some, kept: self._scorer.score(some, names[kept].tolist()),
            images,
            present,
            rows,
            "features",
        )
        total = len(rows)
        for name in ("cells", "pooled"):
            column = spread(getattr(scores, name), present, total, pa.float32())
            rows = rows.append_column(f"anomaly_{name}", column)
        rows = with_features(
            rows,
            scores.features.cells,
            scores.features.pooled,
            present,
            self._settings.keep_features,
        )
        rows = without_value(rows, present[~scores.finite], "features")
        return rows.drop_columns(list(self._settings.drop))


Compute = Callable[[np.ndarray, np.ndarray], Result]


def in_memory(
    compute: Compute[Result],
    images: np.ndarray,
    present: np.ndarray,
    rows: pa.Table,
    model: str,
) -> tuple[Result, np.ndarray, pa.Table]:
    """What `compute` makes of the images that memory holds; the others become errors.

    Args:
        compute: from M images and their (M,) int64 places among the N to the result of those.
        images: (N, …) uint8.
        present: (N,) int64 numbers of the rows that have an image.
        rows: the rows.
        model: that computes; of several in a task, each has its own name.

    Returns:
        The result, the numbers of the rows that it is of, and the rows with their errors.

    Raises:
        RunError: no image finds room, not even a black one: it isn't the images.
    """
    kept = np.arange(len(present))
    # A worker that memory's end killed said nothing: its work is tried in smaller batches. Not yet
    # after one death, which may be that of a node: other batches give other last bits.
    with deaths_after_the_first(model) as deaths, halved_batches(deaths):
        while True:
            try:
                some = images if len(kept) == len(images) else images[kept]
                return compute(some, kept), present[kept], rows
            except NoMemoryError as error:
                lost, kept = kept[error.rows], np.delete(kept, error.rows)
            if not len(kept) and not _has_room(compute, images):
                raise RunError(
                    f"pools: a model finds no memory for a single one of {len(lost)} images; give "
                    "its actors a machine or a GPU with more memory, or let fewer share it; the "
                    "same command continues"
                )
            rows = as_errors(
                rows,
                present[lost],
                OUT_OF_MEMORY,
                "a model finds no memory for it, even alone; give the actor a machine or a GPU "
                "with more, or let fewer share it",
            )


def _has_room(compute: Compute[Result], images: np.ndarray) -> bool:
    """Whether memory holds a black image, so that those which found none are to blame."""
    try:
        compute(np.zeros_like(images[:1]), np.zeros(1, np.int64))
    except NoMemoryError:
        return False
    return True


def with_features(
    rows: pa.Table, cells: np.ndarray, pooled: np.ndarray, present: np.ndarray, keep: str
) -> pa.Table:
    """Adds `pooled`, and `cells` if asked for, as the feature table stores them."""
    if keep == "none":
        return rows
    values: list[np.ndarray | None] = [None] * len(rows)
    blobs: list[bytes | None] = [None] * len(rows)
    for row, vector, grid in zip(present, pooled, cells, strict=True):
        values[row] = vector
        blobs[row] = grid.astype("<f2").tobytes()
    rows = rows.append_column("pooled", pa.array(values, pa.list_(pa.float32())))
    if keep == "cells":
        rows = rows.append_column("cells", pa.array(blobs, pa.binary()))
    return rows


class ClassifierActor:
    """Good/defect of the square images."""

    def __init__(self, settings: ActorSettings) -> None:
        from pipeline.scoring.scorers import DefectClassifier

        self._settings = settings
        self._classifier = DefectClassifier(settings.open("classifier"), settings.threads)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Adds `defect_logit` and `defect_probability`."""
        images, present = unpack(rows.column(SQUARE))
        (logits, probabilities), present, rows = in_memory(
            lambda some, _: self._classifier.score(some), images, present, rows, "classifier"
        )
        for name, values in (("defect_logit", logits), ("defect_probability", probabilities)):
            rows = rows.append_column(name, spread(values, present, len(rows), pa.float32()))
        rows = without_value(rows, present[~np.isfinite(logits)], "logits")
        return rows.drop_columns(list(self._settings.drop))
