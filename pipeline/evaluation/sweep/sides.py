"""Choosing and judging on different rows: by role, or by a hash of the group."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import EvaluateConfig, HoldoutConfig
from pipeline.errors import InputError
from pipeline.evaluation.groups import Codes, Columns, Sides
from pipeline.evaluation.sides import NO_ROLE, of_roles
from pipeline.evaluation.table import ScoredTable
from pipeline.policy.choosing.hold_out import group_words, held_out
from pipeline.stats.bounds import one_per_group
from pipeline.tables.roles import TEST

TUNING, HOLD_OUT, ALIKE = 0, 1, 2
# Images of a hold-out group beyond its first say nothing new: a certificate doesn't count them.
NAMES = ("tuning", "hold-out", "hold-out, further images of a group")


def sweep_sides(config: EvaluateConfig, table: ScoredTable) -> Sides:
    """Which rows choose and which judge.

    Raises:
        InputError: a role on both sides, or rows that can't be told apart.
    """
    plain = _plain(config, table)
    if config.guarantee is None or plain.names == NAMES[:1]:
        return plain
    return _first_apart(plain, table)


def _plain(config: EvaluateConfig, table: ScoredTable) -> Sides:
    holdout = config.holdout
    by = _settled(holdout, table)
    if by == "role":
        return _by_role(holdout)
    roles = config.roles or (TEST, NO_ROLE)
    restricted = "role" in table.columns
    whose = f"rows with the role {' or '.join(roles)}" if restricted else "all rows"
    if by == "none":
        return Sides(
            NAMES[:1],
            ("role",) if restricted else (),
            (lambda columns: of_roles(columns, [roles])) if restricted else None,
            f"chosen and judged on the same rows ({whose}): in-sample",
        )
    key = "group_id" if "group_id" in table.columns else "image_id"
    if key not in table.columns and "image_id" not in table.columns:
        raise InputError(
            f"holdout.by: group: {table.name} has neither a column group_id nor image_id to tell "
            "groups apart by; name one with columns.group_id=, or choose by role or none"
        )

    def side_of(columns: Columns) -> Codes:
        judge = held_out(groups_of(columns), 1 - holdout.share, holdout.seed)
        sides = np.where(judge, HOLD_OUT, TUNING)
        return np.where(of_roles(columns, [roles]) < 0, -1, sides) if restricted else sides

    share = f"{100 * holdout.share:g} % of the groups choose, the others judge"
    meanings = ("role", "group_id", "image_id") if restricted else ("group_id", "image_id")
    return Sides(NAMES[:2], meanings, side_of, f"{share} ({whose}, seed {holdout.seed})")


def _settled(holdout: HoldoutConfig, table: ScoredTable) -> str:
    """By role where the table has rows of both sides' roles, unless told."""
    if holdout.by != "auto":
        return holdout.by
    if "role" not in table.columns:
        return "group"
    there: set[str] = set()
    for columns in table.batches(["role"]):
        values = pc.unique(columns["role"].cast(pa.string())).to_pylist()
        there |= {value or NO_ROLE for value in values}
    both = there & set(holdout.tuning) and there & set(holdout.judging)
    return "role" if both else "group"


def _by_role(holdout: HoldoutConfig) -> Sides:
    both = set(holdout.tuning) & set(holdout.judging)
    if both:
        raise InputError(
            f"holdout.judging: {min(both)}: is in holdout.tuning too; rows that choose don't judge"
        )
    sides = [holdout.tuning, holdout.judging]
    says = f"chosen on {' or '.join(holdout.tuning)}, judged on {' or '.join(holdout.judging)}"
    return Sides(NAMES[:2], ("role",), lambda columns: of_roles(columns, sides), says)


def groups_of(columns: Columns) -> npt.NDArray[Any]:
    """(N,) a group for each row; a row without one is a group of its own, by its image id."""
    group, image = columns["group_id"], columns["image_id"]
    if pa.types.is_null(group.type):
        group = image
    elif pa.types.is_dictionary(group.type):
        group = group.cast(pa.string())
    if group.null_count and not pa.types.is_null(image.type):
        group = pc.coalesce(group, image.cast(group.type))
    if pa.types.is_dictionary(group.type):
        group = group.cast(pa.string())
    values: npt.NDArray[Any] = group.to_numpy(zero_copy_only=False)
    return values


def _image_ids(columns: Columns) -> npt.NDArray[np.int64]:
    """(N,) int64; ids that are strings by their hash."""
    image = columns["image_id"]
    if pa.types.is_dictionary(image.type):
        image = image.cast(pa.string())
    values = image.to_numpy(zero_copy_only=False)
    if np.issubdtype(values.dtype, np.integer):
        return np.asarray(values, np.int64)
    return group_words(values).view(np.int64)


def _first_apart(sides: Sides, table: ScoredTable) -> Sides:
    """The same with the hold-out's first image of each group told from further ones.

    Raises:
        InputError: there is no image_id to tell images apart by.
    """
    if "image_id" not in table.columns:
        raise InputError(
            f"guarantee: {table.name} has no column image_id, and one image of each group counts; "
            "name the column with columns.image_id="
        )
    assert sides.side_of is not None  # noqa: S101 - for the type checker
    inner = sides.side_of
    meanings = tuple(dict.fromkeys([*sides.meanings, "group_id", "image_id"]))
    groups: list[npt.NDArray[Any]] = []
    images: list[npt.NDArray[np.int64]] = []
    for columns in table.batches([*meanings, "is_defect"]):
        kept = (inner(columns) == HOLD_OUT) & columns["is_defect"].is_valid().to_numpy(
            zero_copy_only=False
        )
        groups.append(groups_of(columns)[kept])
        images.append(_image_ids(columns)[kept])
    ids = np.concatenate(images)
    _, numbers = np.unique(np.concatenate(groups), return_inverse=True)
    firsts = np.sort(ids[one_per_group(numbers.astype(np.int64), ids)])

    def side_of(columns: Columns) -> Codes:
        found = inner(columns)
        mine = np.isin(_image_ids(columns), firsts)
        return np.where((found == HOLD_OUT) & ~mine, ALIKE, found)

    # Which image of a group comes first is a matter of all rows there are.
    depends_on = hashlib.sha256(firsts.tobytes()).hexdigest()
    return Sides(NAMES, meanings, side_of, sides.says, depends_on)
