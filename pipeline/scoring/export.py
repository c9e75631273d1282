"""Exporting the labelled images for a training elsewhere."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.config import ExportDetectionConfig
from pipeline.errors import InputError
from pipeline.scoring.dataset import FOLDERS, DatasetPlan, write_dataset
from pipeline.scoring.labelled import class_names, label_options, rows_by_role
from pipeline.tables import storage
from pipeline.tables.roles import FIT


def run_export(config: ExportDetectionConfig) -> dict[str, Any]:
    """Writes a manifest's `fit` and `validation` images as a dataset; all of it, or nothing.

    Returns:
        What was written: the folder, the classes, counts per role.

    Raises:
        InputError: the manifest, a mask or the target can't be used.
    """
    manifest = storage.absolute(config.manifest)
    rows = rows_by_role(manifest, tuple(FOLDERS), "exporting")
    options = label_options(config.boxes, config.limits)
    class_names(rows[FIT], options)  # a dataset that teaches nothing is refused
    names = class_names(pa.concat_tables(rows.values()), options)
    target = _free_target(config.target)
    # Beside its place, so that the last step is a rename.
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    except OSError as error:
        raise InputError(f"target: {target}: can't be written: {error.strerror}") from None
    try:
        plan = DatasetPlan(partial, names, options, config.max_side, config.threads)
        written = write_dataset(rows, plan)
        partial.chmod(0o755)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    counts = {role: part.counts() for role, part in written.items()}
    return {"target": str(target), "classes": list(names), "roles": counts}


def _free_target(target: str) -> Path:
    if storage.is_remote(target):
        raise InputError(f"target: {target}: ultralytics reads local files; give a local folder")
    path = Path(storage.absolute(target))
    if path.exists():
        raise InputError(f"target: {path}: is there already; remove it, or give another folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"target: {path}: can't be written: {error.strerror}") from None
    return path
