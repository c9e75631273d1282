"""The rows of a run that may be calibrated on, and none else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.scoring.bundle_training import MODEL_OF
from pipeline.stats.selection import Sample
from pipeline.tables.left_groups import groups_where_images_were_left
from pipeline.tables.roles import NORMAL_CALIBRATION, VALIDATION, require_roles
from pipeline.tables.runs import load_table

STEP = "calibrate"
_FACTS = ["image_id", "category", "role", "group_id", "is_defect"]


@dataclass(frozen=True)
class CalibrationRows:
    """Labelled rows of a run.

    Attributes:
        run_id: the run.
        validation: rows with the role validation.
        normals: rows with the role normal_calibration, all good.
        everything: image_id, group_id and category of all rows of the run.
        columns: the score columns that the run has.
        facts: counts per role, for people.
        manifest: image_id and group_id of all images of its manifest, where it left some of them
            to earlier runs; None: all are among its rows, or nobody knows.
        doubt: why nobody knows which rows are near-duplicates of images that it left.
    """

    run_id: str
    validation: pa.Table
    normals: pa.Table
    everything: pa.Table
    columns: tuple[str, ...]
    facts: dict[str, dict[str, int]]
    manifest: pa.Table | None = None
    doubt: str | None = None


def calibration_rows(store: str, run_id: str) -> CalibrationRows:
    """Reads a published run; images without scores stand among its rows, their scores null.

    Raises:
        InputError: no such run, no row of either role, a defect among the held-out normals.
    """
    scores = load_table(store, run_id, "scores", [*_FACTS, *MODEL_OF])
    errors = load_table(store, run_id, "errors", _FACTS)
    rows = pa.concat_tables([scores, errors], promote_options="default")
    facts: dict[str, dict[str, int]] = {}
    parts = {}
    for role in (VALIDATION, NORMAL_CALIBRATION):
        mine = _of_role(rows, role)
        failed = _of_role(errors, role).num_rows
        parts[role], facts[role] = _labelled(mine, failed)
    if not any(part.num_rows for part in parts.values()):
        there = Counter(str(role) for role in rows.column("role").to_pylist())
        listed = ", ".join(f"{role} {count}" for role, count in there.items()) or "no rows"
        raise InputError(
            f"run_id: {run_id}: has no labelled row with the role {VALIDATION} or "
            f"{NORMAL_CALIBRATION} (there: {listed}); give roles with jobs/split.py, then "
            "score again"
        )
    normals = parts[NORMAL_CALIBRATION]
    _require_good(normals, run_id)
    columns = tuple(name for name in MODEL_OF if scores.column(name).null_count < len(scores))
    everything = rows.select(["image_id", "group_id", "category"])
    manifest, doubt = groups_where_images_were_left(store, run_id)
    return CalibrationRows(
        run_id, parts[VALIDATION], normals, everything, columns, facts, manifest, doubt
    )


def _of_role(rows: pa.Table, role: str) -> pa.Table:
    return rows.filter(pc.fill_null(pc.equal(rows.column("role"), role), False))


def _labelled(rows: pa.Table, failed: int) -> tuple[pa.Table, dict[str, int]]:
    known = rows.filter(pc.is_valid(rows.column("is_defect")))
    defects = int(pc.sum(known.column("is_defect")).as_py() or 0)
    facts = {
        "images": rows.num_rows,
        "good": known.num_rows - defects,
        "defects": defects,
        "unlabelled": rows.num_rows - known.num_rows,
        "errors": failed,
    }
    return known, facts


def _require_good(normals: pa.Table, run_id: str) -> None:
    defects = normals.filter(normals.column("is_defect"))
    if defects.num_rows:
        raise InputError(
            f"run_id: {run_id}: image {defects.column('image_id')[0].as_py()} has the role "
            f"{NORMAL_CALIBRATION} and is a defect, as {defects.num_rows} of {normals.num_rows} "
            "rows are; false alarms are measured on good images: mend roles or labels, score again"
        )


def require_unseen(
    rows: CalibrationRows, seen: np.ndarray, model: str, spare: Sequence[str]
) -> None:
    """Refuses to calibrate a model on images, or near-duplicates of images, that it has seen.

    Args:
        rows: what is calibrated on.
        seen: sorted int64 ids that the model has seen.
        model: its name.
        spare: the columns that would be left without it.

    Raises:
        InputError: it has seen some; names one, and the way out.
    """
    everything = rows.everything if rows.manifest is None else rows.manifest
    known = pc.is_in(everything.column("image_id"), pa.array(seen, pa.int64()))
    groups = everything.filter(known).column("group_id").drop_null()
    used = pa.concat_tables([rows.validation, rows.normals]).select(["image_id", "group_id"])
    itself = pc.is_in(used.column("image_id"), pa.array(seen, pa.int64()))
    alike = pc.and_(pc.is_valid(used.column("group_id")), pc.is_in(used.column("group_id"), groups))
    strange = used.filter(pc.or_(itself, alike))
    if strange.num_rows:
        left = f"scores=[{','.join(spare)}]" if spare else "a run of another bundle"
        raise InputError(
            f"bundle: its {model} has seen image {strange.column('image_id')[0].as_py()} or one of "
            f"its group, as {strange.num_rows} of the {used.num_rows} rows to calibrate on: such "
            f"scores are too good, and so would be their thresholds. Leave them out with {left}, "
            "or train without validation and normal_calibration and score again"
        )


def sample_of(rows: pa.Table, role: str, column: str, doubt: str | None) -> Sample:
    """One score of labelled rows.

    Args:
        rows: of one role.
        role: which.
        column: the score; its type is kept.
        doubt: why no bound may be stated.

    Raises:
        InputError: rows of another role.
    """
    require_roles(rows, {role}, STEP)
    groups = rows.column("group_id")
    unknown = groups.null_count
    if unknown and doubt is None:
        doubt = f"group_id is null in {unknown} of {len(rows)} rows, which may be alike"
    return Sample(
        _numbers(rows.column(column)),
        rows.column("is_defect").to_numpy().astype(bool),
        rows.column("image_id").to_numpy(),
        None if unknown else groups.to_numpy(),
        doubt,
    )


def _numbers(column: pa.ChunkedArray) -> Any:
    return column.to_numpy(zero_copy_only=False)
