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
from pipeline.tables.roles import FIT, NORMAL_CALIBRATION, ROLES, TEST, VALIDATION

NO_ROLE = "none"
# Where no row has a role, Gaussians are fitted on the folder of this name.
TRAINED_SPLIT = "train"
# Rows of these trained a model or chose a threshold.
USED = (FIT, NORMAL_CALIBRATION, VALIDATION)


def judging(
    table: ScoredTable,
    roles: Sequence[str] | None,
    *,
    calibrated: bool,
    files: Sequence[str] = (),
) -> Sides:
    """The rows that judge policies which were written beforehand.

    Args:
        table: the rows.
        roles: whose; None: all but those that trained a model or chose a threshold.
        calibrated: thresholds come from a calibration, and so from rows of the role validation.
        files: of other thresholds, of which nobody knows which rows chose them.

    Raises:
        InputError: a role that no row has.
    """
    if "role" not in table.columns:
        if roles is not None:
            raise InputError(
                f"roles: {', '.join(roles)}: {table.name} has no column role; name the one that "
                "tells rows apart with columns.role=, or leave roles out"
            )
        says = "all rows (the table has no roles: whether they chose a threshold is not known)"
        return Sides(says=says)
    if roles is None and _fitted_on_split(table):
        says = (
            f"rows outside the split {TRAINED_SPLIT}, on which Gaussians are fitted where no row "
            f"has a role{_chosen_by(files)}"
        )
        return Sides(("",), ("split",), _outside_training, says)
    chosen = (TEST, NO_ROLE) if roles is None else tuple(roles)
    _require_known(table, chosen)
    says = "; ".join([f"rows with the role {' or '.join(chosen)}", *_standing(chosen, calibrated)])
    says += _chosen_by(files)
    return Sides(("",), ("role",), lambda columns: of_roles(columns, [chosen]), says)


def _chosen_by(files: Sequence[str]) -> str:
    if not files:
        return ""
    listed = ", ".join(file.rsplit("/", 1)[-1] for file in files)
    return f"; whether they chose the thresholds of {listed} is not known"


def _standing(chosen: Sequence[str], calibrated: bool) -> list[str]:
    """What rows did, by their role, before they judge; `seen` looks at the rows themselves."""
    says = ["in-sample: fit rows trained the models"] if FIT in chosen else []
    used = [role for role in chosen if role in (VALIDATION, NORMAL_CALIBRATION)]
    if used and calibrated:
        says.append(f"in-sample: {' and '.join(used)} rows chose the thresholds")
    elif used:
        says.append(f"whether {' and '.join(used)} rows chose a threshold is not known")
    return says


def _require_known(table: ScoredTable, roles: Sequence[str]) -> None:
    """Refuses a role that neither linescore nor the table knows: it would judge nothing, silently.

    Raises:
        InputError: with the roles that there are.
    """
    strange = sorted(set(roles) - {*ROLES, NO_ROLE})
    if not strange:
        return
    there = role_counts(table)
    lost = [role for role in strange if role not in there]
    if lost:
        raise InputError(
            f"roles: {lost[0]}: no row of {table.name} has this role; there are {_told(there)}"
        )


def _fitted_on_split(table: ScoredTable) -> bool:
    return "split" in table.columns and bool(table.rows) and set(role_counts(table)) == {NO_ROLE}


def _outside_training(columns: Columns) -> Codes:
    split = _strings(columns["split"])
    trained = pc.fill_null(pc.equal(split, TRAINED_SPLIT), False)
    return np.where(trained.to_numpy(zero_copy_only=False), -1, 0).astype(np.int64)


def role_counts(table: ScoredTable) -> dict[str, int]:
    """How many rows have each role, sorted by name; of those without one under `none`."""
    there: Counter[str] = Counter()
    for columns in table.batches(["role"]):
        for entry in pc.value_counts(_strings(columns["role"])).to_pylist():
            there[NO_ROLE if entry["values"] is None else entry["values"]] += entry["counts"]
    return dict(sorted(there.items()))


def _told(there: dict[str, int]) -> str:
    return ", ".join(f"{role} {count}" for role, count in there.items())


def _strings(column: pa.Array) -> pa.Array:
    return column.cast(pa.string())


def of_roles(columns: Columns, sides: Sequence[Sequence[str]]) -> Codes:
    """(N,) which of the sides holds a row's role; -1: none."""
    role = pc.fill_null(_strings(columns["role"]), NO_ROLE)
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
    raise InputError(
        f"{table.name}: no row is left to judge: roles are {_told(role_counts(table))}; name some "
        "with roles=[…], and figures of rows that trained or chose are marked in-sample"
    )
