"""A sweep from its file to its tables: the front, the choice, what the hold-out says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config import EvaluateConfig
from pipeline.evaluation.counting import SCAN, Way
from pipeline.evaluation.figures import Judged, figures_table
from pipeline.evaluation.groups import Codes, Grouping
from pipeline.evaluation.policies import KnownThresholds, known_thresholds
from pipeline.evaluation.seen import scores_read, seen_images
from pipeline.evaluation.sides import require_rows
from pipeline.evaluation.sweep.choice import (
    SIDES,
    Chosen,
    Sided,
    as_one,
    certificate,
    chosen,
    eligible,
    fronts,
    kept_budgets,
    measured_on,
    promised,
    sided,
)
from pipeline.evaluation.sweep.counting import Sweeping, Swept, expanded, swept
from pipeline.evaluation.sweep.document import SweepFile, read_sweep
from pipeline.evaluation.sweep.promising import (
    judges_with_a_say,
    require_only_budgets,
    require_unseen,
    require_without_a_say,
)
from pipeline.evaluation.sweep.sides import HOLD_OUT, TUNING, sweep_sides
from pipeline.evaluation.table import ScoredTable
from pipeline.policy.choosing.confusion import Confusion, by_category
from pipeline.policy.choosing.front import Front
from pipeline.policy.choosing.guarantee import Certificate
from pipeline.policy.choosing.limits import parse_guarantee
from pipeline.policy.sweeps.grid import Expansion
from pipeline.tables import storage

# Above so many policies defect types are only kept apart where prices or an oracle need them.
_MOST_WITH_TYPES = 20_000
# Where nothing is chosen.
_NONE = Chosen(np.zeros(0, np.int64), False, "", False)
_COUNTS = ("fn", "fp", "review_defects", "review_goods")


def run_sweep(
    config: EvaluateConfig, table: ScoredTable, way: Way = SCAN
) -> tuple[dict[str, Any], pa.Table]:
    """Counts a sweep, chooses, judges.

    Args:
        config: the settings.
        table: the rows.
        way: how rows are counted.

    Returns:
        What is told of it, and the table of its policies.

    Raises:
        InputError: something in the sweep, its thresholds or the rows that can't be used.
    """
    assert config.sweep is not None  # noqa: S101 - for the type checker
    file = read_sweep(config.sweep)
    guarantee = None if config.guarantee is None else parse_guarantee(config.guarantee, "guarantee")
    if guarantee is not None:
        require_only_budgets(guarantee, file.choosing)
    sides = sweep_sides(config, table)
    known = known_thresholds(config, file.policies, table, file.refs)
    had_a_say = judges_with_a_say(config, table, known.calibrated)
    if guarantee is not None:
        require_without_a_say(guarantee, had_a_say)
    grouping = way.grouping(table, sides, types=_keep_types(file))
    require_rows(table, int(grouping.counts.sum()))
    store, read = storage.absolute(config.store), scores_read(file.policies)
    seen = seen_images(table, store, known, read, way.alike)
    found, judging = _judges_among(way.overlaps(table, sides, seen.ids), grouping)
    if guarantee is not None:
        require_unseen(guarantee, found, judging)
    sweeping = Sweeping(file, table, grouping, known.thresholds, config.memory_mb << 20, way.count)
    counted = swept(sweeping, expanded(sweeping))
    counts = sided(counted, guarantee)
    allowed = eligible(counted, tuple(policy.oracle for policy in file.policies))
    best = fronts(counts, allowed)
    budgets, certified = file.choosing.budgets, None
    if guarantee is None:
        choice = chosen(counted, counts, file.choosing, allowed)
    else:
        certified = certificate(counts, guarantee, budgets, allowed)
        choice = promised(certified, budgets)
    report = {
        "file": file.uri,
        "policies": counted.policies,
        "dropped_duplicates": sum(one.dropped_duplicates for one in counted.expansions),
        "dropped_by_constraints": sum(one.dropped_by_constraints for one in counted.expansions),
        "split": sides.says,
        "counted": counted.plan,
        "thresholds": known.origin,
        "front": _front_records(counted, counts, best),
        "guarantee": None if certified is None else _certificate(certified),
        "chosen": None if choice is None else _choice(config, counted, counts, choice, file),
        "warnings": [
            *_warnings(known, had_a_say, guaranteed=guarantee is not None),
            *(f"rows that judge: {one}" for one in seen.says(found, judging)),
            *(choice or _NONE).warnings,
        ],
    }
    return report, _policies_table(counted, counts, best, choice)


def _warnings(known: KnownThresholds, had_a_say: Sequence[str], guaranteed: bool) -> list[str]:
    found = [f"{why}, and some judge here: the figures are too good" for why in had_a_say]
    files = ", ".join(known.origin["files"])
    if guaranteed and files:
        found.append(
            f"guarantee: whether rows that certify chose the thresholds of {files} is not known; "
            "it holds only if none of them did"
        )
    return found


def _judges_among(among: Mapping[str, Codes], grouping: Grouping) -> tuple[dict[str, int], int]:
    """By what images did, how many of the rows that judge are among them, whatever their role.

    Args:
        among: as of `overlaps`.
        grouping: of the rows that take part.

    Returns:
        And how many rows judge.
    """
    first = HOLD_OUT if len(grouping.sides) > 1 else TUNING
    sides = grouping.sides[first:]
    each = zip(grouping.groups, grouping.counts.tolist(), strict=True)
    rows = sum(count for group, count in each if group.side in sides)
    return {what: int(counts[first:].sum()) for what, counts in among.items()}, rows


def _keep_types(file: SweepFile) -> bool:
    needed = file.choosing.costs is not None or any(policy.oracle for policy in file.policies)
    return needed or file.sweep.count <= _MOST_WITH_TYPES


def _front_records(counted: Swept, counts: Sided, best: Front) -> list[dict[str, Any]]:
    tuning = counts.tuning.total()
    holdout = None if counts.holdout is None else counts.holdout.total()
    return [
        {
            "policy": int(policy),
            "variables": _variables(counted, int(policy)),
            "equals": int(equals),
            "tuning": _record(tuning, int(policy)),
            "hold_out": None if holdout is None else _record(holdout, int(policy)),
        }
        for policy, equals in zip(best.policies, best.equals, strict=True)
    ]


def _record(counts: Confusion, policy: int) -> dict[str, int]:
    one = counts.at(policy)
    names = (*_COUNTS, "defects", "goods")
    return {name: int(getattr(one, name)) for name in names}


def _variables(counted: Swept, policy: int) -> dict[str, Any]:
    template, number = counted.place(policy)
    found = dict(counted.expansions[template].policy(number))
    return found if len(counted.expansions) == 1 else {"template": template, **found}


def _certificate(one: Certificate) -> dict[str, Any]:
    return {
        "asked": one.guarantee.says,
        "says": one.says,
        "policy": one.policy,
        "certified": len(one.certified),
        "tested": one.tested,
        "method": one.method,
        "hits": one.hits,
        "of": one.of,
        "needed": one.needed,
        "needed_at_share": one.needed_at_share,
    }


def _choice(
    config: EvaluateConfig, counted: Swept, counts: Sided, choice: Chosen, file: SweepFile
) -> dict[str, Any]:
    """The choice, its figures on both sides, and the policy to use as a file."""
    decided, whole = as_one(counted, choice), {}
    for side, name in SIDES.items():
        if side == HOLD_OUT and counts.holdout is None:
            continue
        says = measured_on(counts, side, counted.policies, choice)
        judged = Judged([("chosen", "", False)], says, config.confidence)
        rows = figures_table(decided, judged, side).to_pylist()
        whole[name] = [row for row in rows if row["level"] in ("all", "category")]
    numbers = choice.policies.tolist()
    return {
        "policies": numbers,
        "per_category": choice.per_category,
        "categories": list(_categories(counted)) if choice.per_category else None,
        "says": choice.says,
        "met": choice.met,
        "budgets": kept_budgets(decided, file.choosing.budgets),
        "variables": [_variables(counted, number) for number in numbers],
        "figures": whole,
        "document": _document(counted, choice, file),
    }


def _document(counted: Swept, choice: Chosen, file: SweepFile) -> dict[str, Any] | None:
    """The chosen policy, and a table of its thresholds by variable; None for several templates."""
    places = [counted.place(policy) for policy in choice.policies.tolist()]
    templates = {template for template, _ in places}
    if len(templates) > 1:
        return None
    template = templates.pop()
    expansion = counted.expansions[template]
    categories = _categories(counted) if choice.per_category else None
    thresholds = _thresholds(expansion, [number for _, number in places], categories)
    document = dict(file.sweep.templates[template].document)
    return {"policy": _referring(document), "thresholds": thresholds}


def _categories(counted: Swept) -> tuple[str, ...]:
    """The categories in the order of a choice for each: the counts', not the variables'."""
    return by_category(counted.decided.population).category


def _thresholds(
    expansion: Expansion, numbers: list[int], categories: tuple[str, ...] | None
) -> dict[str, Any]:
    """Each variable's number, or number for each category, of its own policy."""
    values = [expansion.policy(number) for number in numbers]
    if categories is None:
        return dict(values[0])
    each = list(zip(categories, values, strict=True))
    return {
        name: {category: _of(found[name], category) for category, found in each}
        for name in expansion.names
    }


def _of(value: float | Mapping[str, float], category: str) -> float:
    return value[category] if isinstance(value, Mapping) else value


def _referring(node: Any) -> Any:
    """A document whose variables are references by the same name."""
    if isinstance(node, dict):
        # A category may be called so too: then a rule stands behind it.
        if set(node) == {"var"} and isinstance(node["var"], str):
            return {"ref": node["var"]}
        return {key: _referring(value) for key, value in node.items()}
    return [_referring(value) for value in node] if isinstance(node, list) else node


def _policies_table(counted: Swept, counts: Sided, best: Front, choice: Chosen | None) -> pa.Table:
    """A row per policy: its variables, its counts on both sides, whether it is on the front."""
    total = counted.policies
    template = np.zeros(total, np.int32)
    names = list(dict.fromkeys(n for one in counted.expansions for n in one.names))
    values = {name: np.full(total, np.nan) for name in names}
    for number, (first, one) in enumerate(zip(counted.first, counted.expansions, strict=True)):
        rows = slice(first, first + one.count)
        template[rows] = number
        for name in one.names:
            column = one.column(name)
            # Where categories differ there is no one number; the front's records have them all.
            values[name][rows] = column[0] if len(column) == 1 else np.nan
    data: dict[str, Any] = {"policy": np.arange(total), "template": template}
    data |= {f"variable_{name}": pa.array(v, from_pandas=True) for name, v in values.items()}
    for side, counted_side in (("tuning", counts.tuning), ("hold_out", counts.holdout)):
        if counted_side is not None:
            whole = counted_side.total()
            data |= {f"{side}_{name}": getattr(whole, name) for name in _COUNTS}
    for name, chosen_ones in (
        ("on_front", best.policies),
        ("chosen", np.zeros(0, np.int64) if choice is None else choice.policies),
    ):
        flags = np.zeros(total, bool)
        flags[chosen_ones] = True
        data[name] = flags
    metadata = {
        "linescore.table": "sweep",
        "linescore.schema_version": "1",
        "defects_and_goods": json.dumps(
            {
                side: _record(one.total(), 0)
                for side, one in (("tuning", counts.tuning), ("hold_out", counts.holdout))
                if one is not None
            }
        ),
    }
    return pa.table(data).replace_schema_metadata(metadata)
