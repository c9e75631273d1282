"""Roles: which rows of a manifest, or of a table made from it, a step may use."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError

FIT, NORMAL_CALIBRATION, VALIDATION, TEST = "fit", "normal_calibration", "validation", "test"
ROLES = (FIT, NORMAL_CALIBRATION, VALIDATION, TEST)


def require_roles(rows: pa.Table, allowed: Collection[str], step: str) -> None:
    """Refuses rows that a step may not see.

    Args:
        rows: with the columns `image_id` and `role`.
        allowed: the step's own roles.
        step: what is done with the rows, for the message.

    Raises:
        InputError: a row has another role, or none; names the first and how many there are.
    """
    column = rows.column("role").cast(pa.string())
    inside = pc.fill_null(pc.is_in(column, pa.array(sorted(allowed), pa.string())), False)
    strange = rows.filter(pc.invert(inside))
    if strange.num_rows:
        role = strange.column("role")[0].as_py()
        raise InputError(
            f"{step}: image {strange.column('image_id')[0].as_py()} has the role {role!r}, and "
            f"{strange.num_rows} of {rows.num_rows} rows are outside {', '.join(sorted(allowed))}: "
            "these rows belong to another step, and using them here would make its figures false"
        )
