"""Speeds compared in turns on a noisy machine: a ratio, and how far it spread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Ratio:
    """One speed as a multiple of another, both taken in the same turns.

    Attributes:
        what: what is compared, `own / other`.
        own: (T,) speed of ours in each turn, in `unit`.
        other: (T,) speed of what it is compared with.
        unit: of the speeds; more is faster.
    """

    what: str
    own: tuple[float, ...]
    other: tuple[float, ...]
    unit: str = "images/s"

    @property
    def turns(self) -> list[float]:
        """The ratio of each turn, sorted."""
        return sorted(a / b for a, b in zip(self.own, self.other, strict=True))

    def row(self) -> dict[str, object]:
        """As a row of the table."""
        turns = self.turns
        return {
            "what": self.what,
            "own": median(self.own),
            "other": median(self.other),
            "unit": self.unit,
            "ratio": median(turns),
            "lowest": turns[0],
            "highest": turns[-1],
            "turns": len(turns),
        }


def in_turns(
    what: str,
    own: Callable[[], float],
    other: Callable[[], float],
    turns: int,
    unit: str = "images/s",
) -> Ratio:
    """Runs two measurements alternately, the first one changing from turn to turn.

    Args:
        what: names the comparison.
        own: measures our speed.
        other: measures the other's.
        turns: how often each.
        unit: of the speeds.
    """
    (found,) = in_turns_with(own, {what: other}, turns, unit)
    return found


def in_turns_with(
    own: Callable[[], float],
    others: Mapping[str, Callable[[], float]],
    turns: int,
    unit: str = "images/s",
) -> list[Ratio]:
    """The same with several others, by what names the comparison: ours is taken once a turn."""
    own_speeds: list[float] = []
    speeds: dict[str, list[float]] = {what: [] for what in others}
    for turn in range(turns):
        runs = [(own, own_speeds), *((other, speeds[what]) for what, other in others.items())]
        for measure, taken in runs if turn % 2 else reversed(runs):
            taken.append(measure())
    return [Ratio(what, tuple(own_speeds), tuple(taken), unit) for what, taken in speeds.items()]


def speed(work: Callable[[], object], amount: float, repeats: int = 1) -> float:
    """`amount` of work per second, over several repeats of the call."""
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return amount * repeats / (time.perf_counter() - start)


def as_markdown(rows: list[dict[str, object]]) -> str:
    """A table of ratios."""
    lines = [
        "| what | ours | other | ratio | spread | turns |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['what']} | {_number(row['own'])} {row['unit']} | {_number(row['other'])} | "
        f"**{row['ratio']:.2f}** | {row['lowest']:.2f} to {row['highest']:.2f} | {row['turns']} |"
        for row in rows
    ]
    return "\n".join(lines)


def _number(value: object) -> str:
    number = float(str(value))
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
