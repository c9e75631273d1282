"""Which policies are shown in detail, in which order, and their rows of the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.evaluation_page.contents import EvaluationReport

Row = Mapping[str, Any]
T = TypeVar("T")
# Policies in detail, of each set of rows; more than that nobody reads side by side.
DETAILED = 30
# Of those, oracles: they are for comparison only.
_ORACLES = 5
_KEY = ("policy", "digest", "measured_on")


@dataclass
class Entry:
    """One policy on one set of rows.

    Attributes:
        number: its place on the page, from 1.
        row: its figures over all.
        macro: the means over categories, if there are any.
        categories: figures by category.
        types: figures by category and defect type.
        remark: what the page says of it beside its name.
    """

    number: int
    row: Row
    macro: Row | None = None
    categories: list[Row] = field(default_factory=list)
    types: list[Row] = field(default_factory=list)
    remark: str = ""

    @property
    def name(self) -> str:
        """The policy's name."""
        return str(self.row["policy"])

    @property
    def oracle(self) -> bool:
        """Whether it reads ground truth."""
        return bool(self.row["oracle"])

    @property
    def measured_on(self) -> str:
        """Which rows."""
        return str(self.row["measured_on"] or "")


@dataclass(frozen=True)
class Shown:
    """The policies of the page.

    Attributes:
        entries: in the order of the page; those of one set of rows follow each other.
        left_out: policies that are in the tables alone.
        oracles_left_out: oracles among those.
    """

    entries: Sequence[Entry]
    left_out: int
    oracles_left_out: int

    @property
    def by_rows(self) -> dict[str, list[Entry]]:
        """Entries by the rows that they were measured on."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.measured_on, []).append(entry)
        return found


def shown(report: EvaluationReport) -> Shown:
    """The policies in detail: fewest missed defects first, then fewest false alarms.

    Oracles stand last. Champion, challengers and the chosen policy are always there.
    """
    every = _level(report.figures, "all").to_pylist()
    wanted = _named(report)
    groups: dict[str, list[Row]] = {}
    for row in every:
        groups.setdefault(row["measured_on"] or "", []).append(row)
    kept = [row for rows in groups.values() for row in _best(rows, wanted)]
    entries = {_key(row): Entry(number, row) for number, row in enumerate(kept, 1)}
    _fill(entries, report.figures)
    for entry in entries.values():
        entry.remark = wanted.get(entry.name, "")
    oracles = sum(row["oracle"] for row in every) - sum(row["oracle"] for row in kept)
    return Shown(list(entries.values()), len(every) - len(kept), oracles)


def _named(report: EvaluationReport) -> dict[str, str]:
    """Policies that other sections speak of, and what they are."""
    found: dict[str, str] = {}
    for flip in report.flips:
        found[flip.challenger] = "challenger"
    for flip in report.flips:
        found[flip.champion] = "champion"
    if report.front is not None and report.front.chosen is not None:
        found.setdefault(report.front.labels[report.front.chosen], "chosen")
    return found


def _best(rows: list[Row], wanted: Mapping[str, str]) -> list[Row]:
    ordered = sorted(rows, key=_order)
    named = [row for row in ordered if row["policy"] in wanted]
    others = [row for row in ordered if row["policy"] not in wanted]
    oracles = [row for row in others if row["oracle"]][:_ORACLES]
    usable = [row for row in others if not row["oracle"]]
    room = max(DETAILED - len(named) - len(oracles), 0)
    return sorted([*named, *usable[:room], *oracles], key=_order)


def _order(row: Row) -> tuple[bool, int, int, int]:
    looked = sum(row[f"review_{kind}"] or 0 for kind in ("good", "defects", "unlabelled"))
    return bool(row["oracle"]), row["fn"] or 0, row["fp"] or 0, looked


def _fill(entries: Mapping[tuple[Any, ...], Entry], figures: pa.Table) -> None:
    """Adds the rows of the other levels, reading those of the shown policies alone."""
    names = pa.array({entry.name for entry in entries.values()}, pa.string())
    rows = figures.filter(pc.is_in(figures["policy"], names))
    for level in ("macro", "category", "defect_type"):
        for row in _level(rows, level).to_pylist():
            entry = entries.get(_key(row))
            if entry is None:
                continue
            if level == "macro":
                entry.macro = row
            else:
                (entry.categories if level == "category" else entry.types).append(row)


def _level(figures: pa.Table, level: str) -> pa.Table:
    return figures.filter(pc.equal(figures["level"], level))


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in _KEY)


def chunks(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """Items in runs that fit side by side on a page."""
    return (items[start : start + most] for start in range(0, len(items), most))
