"""Choosing and judging on different rows: by role, or by a hash of the group."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import EvaluateConfig
from pipeline.errors import InputError
from pipeline.evaluation.groups import Codes, Columns, Sides
from pipeline.evaluation.sides import NO_ROLE, judging, of_roles
from pipeline.evaluation.table import ScoredTable
from pipeline.policy.choosing.hold_out import group_words, held_out
from pipeline.stats.bounds import one_per_group

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
    by = _settled(config, table)
    if by == "role":
        return _by_role(config, table)
    # The same rows as judge policies that were written beforehand.
    rows = judging(table, config.roles, calibrated=False)
    parameters = repr((by, holdout.share, holdout.seed, config.roles))
    if by == "none":
        says = f"chosen and judged on the same rows ({rows.says}): in-sample"
        return Sides(NAMES[:1], rows.meanings, rows.side_of, says, parameters)
    if not {"group_id", "image_id"} & table.columns.keys():
        raise InputError(
            f"holdout.by: group: {table.name} has neither a column group_id nor image_id to tell "
            "groups apart by; name one with columns.group_id=, or choose by role or none"
        )
    part = rows.side_of

    def side_of(columns: Columns) -> Codes:
        judge = held_out(groups_of(columns), 1 - holdout.share, holdout.seed)
        sides = np.where(judge, HOLD_OUT, TUNING)
        return sides if part is None else np.where(part(columns) < 0, -1, sides)

    share = f"{100 * holdout.share:g} % of the groups choose, the others judge"
    meanings = tuple(dict.fromkeys([*rows.meanings, "group_id", "image_id"]))
    says = f"{share} ({rows.says}, seed {holdout.seed})"
    return Sides(NAMES[:2], meanings, side_of, says, parameters)


def judging_roles(config: EvaluateConfig, table: ScoredTable) -> tuple[str, ...]:
    """Roles whose rows judge, as far as settings name them; without that only untouched rows do."""
    if config.roles is not None:
        return config.roles
    return config.holdout.judging if _settled(config, table) == "role" else ()


def _settled(config: EvaluateConfig, table: ScoredTable) -> str:
    """By role where the table has rows of both sides' roles, unless told."""
    holdout = config.holdout
    if holdout.by != "auto":
        return holdout.by
    if "role" not in table.columns or config.roles is not None:
        return "group"
    there: set[str] = set()
    for columns in table.batches(["role"]):
        values = pc.unique(columns["role"].cast(pa.string())).to_pylist()
        there |= {value or NO_ROLE for value in values}
    both = there & set(holdout.tuning) and there & set(holdout.judging)
    return "role" if both else "group"


def _by_role(config: EvaluateConfig, table: ScoredTable) -> Sides:
    holdout = config.holdout
    if config.roles is not None:
        raise InputError(
            "roles: with holdout.by=role, holdout.tuning and holdout.judging say whose rows take "
            "part; leave roles out, or hold out by group"
        )
    both = set(holdout.tuning) & set(holdout.judging)
    if both:
        raise InputError(
            f"holdout.judging: {min(both)}: is in holdout.tuning too; rows that choose don't judge"
        )
    sides = [holdout.tuning, holdout.judging]
    says = f"chosen on {' or '.join(holdout.tuning)}, judged on {' or '.join(holdout.judging)}"
    found = Sides(NAMES[:2], ("role",), lambda columns: of_roles(columns, sides), says)
    _refuse_shared_groups(found, table)
    return found


def _refuse_shared_groups(sides: Sides, table: ScoredTable) -> None:
    """Refuses roles that share a group: what is alike would choose and judge.

    Raises:
        InputError: with one of the groups.
    """
    if not {"group_id", "image_id"} & table.columns.keys() or sides.side_of is None:
        return
    seen: dict[int, set[Any]] = {TUNING: set(), HOLD_OUT: set()}
    for columns in table.batches(["role", "group_id", "image_id"]):
        side, groups = sides.side_of(columns), groups_of(columns)
        for number, mine in seen.items():
            mine.update(np.unique(groups[side == number]).tolist())
    both = seen[TUNING] & seen[HOLD_OUT]
    if both:
        raise InputError(
            f"holdout.by: role: {len(both)} groups have rows on both sides, such as "
            f"{min(map(str, both))}: images that are alike would choose and judge; hold out with "
            "holdout.by=group, or split the images again"
        )


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
    if group.null_count:
        raise InputError(
            f"group_id: {group.null_count} rows have neither a group_id nor an image_id, so that "
            "nobody can tell on which side they belong; fill one of them, or use holdout.by=none"
        )
    values: npt.NDArray[Any] = group.to_numpy(zero_copy_only=False)
    return values


def _image_ids(columns: Columns) -> npt.NDArray[np.int64]:
    """(N,) int64; ids that are strings by their hash."""
    image = columns["image_id"]
    if image.null_count:
        raise InputError(f"guarantee: {image.null_count} rows have no image_id; fill it")
    if pa.types.is_dictionary(image.type):
        image = image.cast(pa.string())
    values = image.to_numpy(zero_copy_only=False)
    if np.issubdtype(values.dtype, np.integer):
        return np.asarray(values, np.int64)
    return group_words(values).view(np.int64)


def _require_groups(sides: Sides, table: ScoredTable) -> None:
    """Refuses rows that may be alike unknown to anyone: they are no independent trials.

    Rows of the hold-out without a label certify nothing, and aren't looked at.

    Raises:
        InputError: with how many, and how to give them groups.
    """
    assert sides.side_of is not None  # noqa: S101 - for the type checker
    rows = unknown = 0
    for columns in table.batches([*sides.meanings, "group_id", "is_defect"]):
        side = sides.side_of(columns)
        labelled = columns["is_defect"].is_valid().to_numpy(zero_copy_only=False)
        counts = (side == TUNING) | ((side == HOLD_OUT) & labelled)
        without = columns["group_id"].is_null().to_numpy(zero_copy_only=False)
        rows, unknown = rows + int(counts.sum()), unknown + int((counts & without).sum())
    if unknown:
        raise InputError(
            f"guarantee: {unknown:,} of {rows:,} rows of {table.name} have no group_id: photos of "
            "one part would choose and certify, and count as independent; name the column with "
            "columns.group_id=, or run jobs/split.py, which makes groups of near-duplicates, and "
            "score its manifest; where every image is known to show a part of its own, its "
            "image_id is its group"
        )


def _first_apart(sides: Sides, table: ScoredTable) -> Sides:
    """The same with the hold-out's first image of each group told from further ones.

    Raises:
        InputError: there is no image_id to tell images apart by, or a row without a group.
    """
    _require_groups(sides, table)
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
    again = len(ids) - len(np.unique(ids))
    if again:
        raise InputError(
            f"guarantee: {again} rows of the hold-out are of images that stand there before, and "
            "an image proves nothing twice; name runs of different images"
        )
    _, numbers = np.unique(np.concatenate(groups), return_inverse=True)
    firsts = np.sort(ids[one_per_group(numbers.astype(np.int64), ids)])

    def side_of(columns: Columns) -> Codes:
        found = inner(columns)
        mine = np.isin(_image_ids(columns), firsts)
        return np.where((found == HOLD_OUT) & ~mine, ALIKE, found)

    # Which image of a group comes first is a matter of all rows there are.
    depends_on = sides.depends_on + hashlib.sha256(firsts.tobytes()).hexdigest()
    return Sides(NAMES, meanings, side_of, sides.says, depends_on)
