"""What a worker does in a fit: features of the training images, and their commit."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import ray

from pipeline.errors import InputError
from pipeline.models.specs import FeatureLayout
from pipeline.scoring.rows import failed_rows, fill_columns, usable_rows, without_value
from pipeline.stages.cards import take_own_cards
from pipeline.stages.columns import unpack
from pipeline.stages.decode import SQUARE
from pipeline.stages.pools import in_memory, with_features
from pipeline.stages.sink import summary
from pipeline.stages.timing import bytes_read, spent_on
from pipeline.tables.ledger import Work, commit_tables
from pipeline.tables.schemas import ERRORS, FEATURES


class FitActor:
    """The backbone alone: features of the square images."""

    def __init__(self, settings: tuple[Any, FeatureLayout, int, int, str]) -> None:
        from pipeline.models.backbone import Backbone
        from pipeline.models.memory import keep_freed_memory
        from pipeline.models.precision import lacking
        from pipeline.models.resnet import fix_arithmetic
        from pipeline.models.weights import state_from_bytes

        weights, layout, batch, threads, precision = settings
        take_own_cards()
        keep_freed_memory()
        fix_arithmetic(threads)
        if missing := lacking({"features": precision}):
            raise InputError(
                f"precision: {', '.join(missing)}: a worker's machine has no hardware for it; give "
                "the pool machines that have, or fit with precision=float32"
            )
        state = state_from_bytes(ray.get(weights), "backbone")
        self._backbone = Backbone(state, layout, batch, precision=precision)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Adds `pooled` and `cells`, drops the image."""
        images, present = unpack(rows.column(SQUARE))
        features, present, rows = in_memory(
            lambda some, _: self._backbone.features(some), images, present, rows, "features"
        )
        rows = with_features(rows, features.cells, features.pooled, present, "cells")
        rows = without_value(rows, present[~features.finite()], "features")
        return rows.drop_columns([SQUARE])


def commit_features(rows: pa.Table, run_folder: str) -> pa.Table:
    """Writes and commits the features of one block."""
    good, failed = usable_rows(rows), failed_rows(rows)
    tables = {"features": fill_columns(good, FEATURES), "errors": fill_columns(failed, ERRORS)}
    work = Work(spent_on(rows), bytes_read(rows))
    return summary(commit_tables(run_folder, tables, "features", work), rows)
