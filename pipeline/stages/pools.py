"""The actors of the three pools: `__init__` loads a model, `__call__` adds its columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.images.geometry import letterbox_to_image
from pipeline.scoring.bundle import Bundle, open_bundle
from pipeline.scoring.reuse.join import BOX
from pipeline.stages.columns import spread, unpack
from pipeline.stages.decode import LETTERBOXED, SQUARE
from pipeline.tables import storage
from pipeline.tables.schemas import NOT_FINITE

_REASON = ("error_type", "error_message")


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

    def open(self) -> Bundle:
        """The bundle on this node; the driver has verified it where the disk is shared."""
        return open_bundle(self.bundle, "", verify=storage.is_remote(self.bundle))


class DetectorActor:
    """Boxes of the letterboxed images."""

    def __init__(self, settings: ActorSettings) -> None:
        from pipeline.scoring.scorers import bundle_detector

        self._settings = settings
        self._detector = bundle_detector(settings.open(), settings.threads)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Adds `boxes`; null where there is no image."""
        images, present = unpack(rows.column(LETTERBOXED))
        found: list[list[dict[str, object]] | None] = [None] * len(rows)
        sizes = zip(rows["width"].to_pylist(), rows["height"].to_pylist(), strict=True)
        size_of = dict(enumerate(sizes))
        for row, boxes in zip(present, self._detector.detect(images), strict=True):
            width, height = size_of[row]
            corners = letterbox_to_image(boxes.corners, images.shape[1], width, height)
            found[row] = [
                dict(
                    zip(
                        BOX.names,
                        (*map(float, xyxy), float(confidence), int(kind), self._name(kind)),
                        strict=True,
                    )
                )
                for xyxy, confidence, kind in zip(
                    corners, boxes.confidence, boxes.class_id, strict=True
                )
            ]
        rows = rows.append_column("boxes", pa.array(found, pa.list_(BOX)))
        return rows.drop_columns(list(self._settings.drop))

    def _name(self, kind: int) -> str | None:
        return self._detector.class_names.get(int(kind))


class FeatureActor:
    """Anomaly scores of the square images."""

    def __init__(self, settings: ActorSettings) -> None:
        from pipeline.scoring.scorers import AnomalyScorer

        self._settings = settings
        self._scorer = AnomalyScorer(settings.open(), settings.threads)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Adds `anomaly_cells`, `anomaly_pooled` and, if they are kept, the features."""
        images, present = unpack(rows.column(SQUARE))
        names = rows.column("category").to_pylist()
        scores = self._scorer.score(images, [names[row] for row in present])
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


def without_value(rows: pa.Table, strange: np.ndarray, what: str) -> pa.Table:
    """Makes rows of which a network gave no number to errors, instead of nulls or a lost run."""
    if not len(strange):
        return rows
    types, messages = (rows.column(name).to_pylist() for name in _REASON)
    for row in strange:
        types[row] = types[row] or NOT_FINITE
        messages[row] = messages[row] or (
            f"{rows.column('uri')[int(row)]}: its {what} are not finite (NaN or infinity); "
            "do the weights fit this kind of image?"
        )
    for name, values in zip(_REASON, (types, messages), strict=True):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, name, pa.array(values, pa.string()))
    return rows


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
        self._classifier = DefectClassifier(settings.open(), settings.threads)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Adds `defect_logit` and `defect_probability`."""
        images, present = unpack(rows.column(SQUARE))
        logits, probabilities = self._classifier.score(images)
        for name, values in (("defect_logit", logits), ("defect_probability", probabilities)):
            rows = rows.append_column(name, spread(values, present, len(rows), pa.float32()))
        rows = without_value(rows, present[~np.isfinite(logits)], "logits")
        return rows.drop_columns(list(self._settings.drop))
