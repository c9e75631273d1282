"""Heat maps: shares of missed defects and of false alarms, by where they lie and by policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pipeline.report.evaluation_page import words
from pipeline.report.evaluation_page.policies import Entry, Row, chunks

# Columns of one map: as many as fit on a sheet of paper.
COLUMNS = 10
# Upper ends of the colours' steps, above 0; each colour has its share in the legend.
_STEPS = (0.02, 0.05, 0.1, 0.25, 1.0)


@dataclass(frozen=True)
class Kind:
    """What a map is of.

    Attributes:
        hits: column of the mistakes.
        of: column of the images.
        rate: column of their share; the ends of its intervals lie beside it.
        verb: what the mistakes are, in words.
    """

    hits: str
    of: str
    rate: str
    verb: str


MISSES = Kind("fn", "defects", "fnr", "missed")
ALARMS = Kind("fp", "good", "fpr", "false alarms")


@dataclass(frozen=True)
class Cell:
    """One number of a map; `step` is its colour, None where there are no images."""

    hits: str
    of: str
    step: int | None
    says: str


@dataclass(frozen=True)
class HeatMap:
    """A map of some policies; `rows` are category, defect type and a cell for each policy."""

    entries: Sequence[Entry]
    rows: Sequence[tuple[Any, Any, Sequence[Cell]]]


def legend() -> list[tuple[int, str]]:
    """Each colour and the shares that it stands for."""
    ends = [0.0, *_STEPS]
    said = [f"{100 * low:g} to {words.rounded(high)}" for low, high in pairwise(ends)]
    said[0] = f"up to {words.rounded(_STEPS[0])}"
    return [(0, "none"), *enumerate(said, 1)]


def misses(entries: Sequence[Entry]) -> list[HeatMap]:
    """Missed defects by category and defect type."""
    return list(_maps(entries, [entry.types for entry in entries], MISSES))


def alarms(entries: Sequence[Entry]) -> list[HeatMap]:
    """False alarms by category."""
    return list(_maps(entries, [entry.categories for entry in entries], ALARMS))


def _maps(entries: Sequence[Entry], rows: Sequence[Sequence[Row]], kind: Kind) -> Iterator[HeatMap]:
    """Maps of `COLUMNS` policies at most, all with the same places; none if there are no places."""
    found = [
        {(row["category"], row["defect_type"]): row for row in of_policy if row[kind.of]}
        for of_policy in rows
    ]
    places = sorted({place for of_policy in found for place in of_policy}, key=_by_name)
    if not places:
        return
    for part in chunks(list(range(len(entries))), COLUMNS):
        yield HeatMap(
            [entries[n] for n in part],
            [(*place, [_cell(found[n].get(place), kind) for n in part]) for place in places],
        )


def _by_name(place: tuple[str | None, str | None]) -> tuple[str, ...]:
    return tuple(name or "" for name in place)


def _cell(row: Row | None, kind: Kind) -> Cell:
    if row is None:
        return Cell(words.NOTHING, "", None, "no images")
    hits, of = row[kind.hits] or 0, row[kind.of]
    says = f"{words.count(hits)} {kind.verb} of {words.count(of)}"
    if words.exists(most := row[f"{kind.rate}_most"]):
        says += f": at most {words.upper(most)}"
    return Cell(words.count(hits), words.count(of), _step(hits / of), says)


def _step(rate: float) -> int:
    """0 for none, then the first step that holds the rate."""
    if rate <= 0:
        return 0
    return next((n for n, end in enumerate(_STEPS, 1) if rate <= end), len(_STEPS))
