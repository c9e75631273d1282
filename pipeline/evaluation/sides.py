"""Which rows judge, which choose, and which take no part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.evaluation.groups import Codes, Columns, Sides
from pipeline.evaluation.table import ScoredTable
from pipeline.tables.roles import FIT, NORMAL_CALIBRATION, TEST, VALIDATION

NO_ROLE = "none"
# Rows of these trained a model or chose a threshold.
USED = (FIT, NORMAL_CALIBRATION, VALIDATION)


def judging(table: ScoredTable, roles: Sequence[str] | None, *, calibrated: bool) -> Sides:
    """The rows that judge policies which were written beforehand.

    Args:
        table: the rows.
        roles: whose; None: all but those that trained a model or chose a threshold.
        calibrated: thresholds come from a calibration, and so from rows of the role validation.
    """
    if "role" not in table.columns:
        says = "all rows (the table has no roles: whether they chose a threshold is not known)"
        return Sides(says=says)
    chosen = (TEST, NO_ROLE) if roles is None else tuple(roles)
    used = [role for role in chosen if role in (VALIDATION, NORMAL_CALIBRATION)]
    says = f"rows with the role {' or '.join(chosen)}"
    if used and calibrated:
        says += f"; in-sample: {' and '.join(used)} rows chose the thresholds"
    elif FIT in chosen:
        says += "; in-sample: fit rows trained the models"
    else:
        says += "; they chose nothing"
    return Sides(("",), ("role",), lambda columns: of_roles(columns, [chosen]), says)


def of_roles(columns: Columns, sides: Sequence[Sequence[str]]) -> Codes:
    """(N,) which of the sides holds a row's role; -1: none."""
    role = columns["role"]
    if pa.types.is_dictionary(role.type):
        role = role.cast(pa.string())
    if pa.types.is_null(role.type):
        role = role.cast(pa.string())
    role = pc.fill_null(role, NO_ROLE)
    found = np.full(len(role), -1, np.int64)
    for number, roles in enumerate(sides):
        inside = pc.is_in(role, pa.array(roles, pa.string()))
        found[inside.to_numpy(zero_copy_only=False)] = number
    return found


def require_rows(table: ScoredTable, rows: int) -> None:
    """Refuses an evaluation of no row.

    Raises:
        InputError: with the roles that there are.
    """
    if rows:
        return
    if not table.rows:
        raise InputError(f"{table.name}: has no rows: there is nothing to evaluate")
    there: Counter[str] = Counter()
    for columns in table.batches(["role"]):
        for entry in pc.value_counts(columns["role"]).to_pylist():
            there[str(entry["values"] or NO_ROLE)] += entry["counts"]
    listed = ", ".join(f"{role} {count}" for role, count in sorted(there.items()))
    raise InputError(
        f"{table.name}: no row is left to judge: roles are {listed}; name some with roles=[…], and "
        "figures of rows that trained or chose are marked in-sample"
    )
