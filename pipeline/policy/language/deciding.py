"""What a resolved policy decides, row by row: the meaning that every count must equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.policy.formula import holds
from pipeline.policy.language.document import DEFECT, GOOD, REVIEW, Policy
from pipeline.policy.language.folding import Part
from pipeline.policy.language.resolving import Resolved, ResolvedRuling
from pipeline.policy.language.where import Where

Columns = Mapping[str, npt.NDArray[np.floating]]


@dataclass(frozen=True)
class Rows:
    """N rows of a table.

    Attributes:
        scores: (N,) each, of the types the policy was resolved for; NaN where missing.
        parts: the different (category, defect type) there are.
        part: (N,) int, which of `parts` each row is of.
    """

    scores: Columns
    parts: tuple[Part, ...]
    part: npt.NDArray[np.integer]

    def __post_init__(self) -> None:
        shapes = {name: column.shape for name, column in self.scores.items()}
        wrong = {name: shape for name, shape in shapes.items() if shape != self.part.shape}
        if wrong or self.part.ndim != 1:
            raise ValueError(f"part has shape {self.part.shape} and scores {wrong}, need all (N,)")
        if self.part.size and not 0 <= self.part.min() <= self.part.max() < len(self.parts):
            raise ValueError(
                f"part goes from {self.part.min()} to {self.part.max()}; there are "
                f"{len(self.parts)} parts"
            )


def decide(resolved: Resolved, rows: Rows) -> npt.NDArray[np.int8]:
    """The outcome of each row.

    Args:
        resolved: for the parts of the rows.
        rows: with every score that it reads.

    Returns:
        (N,) 0 for good, 1 for review, 2 for defect.

    Raises:
        InputError: a score is missing in a row and the policy says `on_missing: error`.
        ValueError: a column isn't there, or not of the type the policy was resolved for.
    """
    outcome = np.full(len(rows.part), GOOD, np.int8)
    for ruling, scores, chosen in each_part(resolved, rows):
        at = ruling.thresholds
        if ruling.ruling.review is not None:
            outcome[chosen[holds(ruling.ruling.review, scores, at)]] = REVIEW
        outcome[chosen[holds(ruling.ruling.defect, scores, at)]] = DEFECT
    return outcome


def each_part(
    resolved: Resolved, rows: Rows
) -> Iterator[tuple[ResolvedRuling, Columns, npt.NDArray[np.intp]]]:
    """Of each part that has rows its ruling, their scores and their places.

    Raises:
        InputError, ValueError: as `decide`.
    """
    _check_types(resolved, rows)
    order = np.argsort(rows.part, kind="stable")
    edges = np.searchsorted(rows.part[order], np.arange(len(rows.parts) + 1))
    for number, part in enumerate(rows.parts):
        chosen = order[edges[number] : edges[number + 1]]
        if not len(chosen):
            continue
        ruling = resolved.ruling_of(part)
        scores: Columns = {name: rows.scores[name][chosen] for name in resolved.dtypes}
        _check_required(resolved, ruling, scores, (part, chosen))
        # A rule that reads no score still decides as many rows.
        yield ruling, scores or {"": np.zeros(len(chosen))}, chosen


def _check_types(resolved: Resolved, rows: Rows) -> None:
    for name, dtype in resolved.dtypes.items():
        has = rows.scores[name].dtype if name in rows.scores else None
        if has != dtype:
            raise ValueError(f"score {name} is {has}; the policy was resolved for {dtype}")


def _check_required(
    resolved: Resolved,
    ruling: ResolvedRuling,
    scores: Columns,
    place: tuple[Part, npt.NDArray[np.intp]],
) -> None:
    part, chosen = place
    for name in ruling.ruling.required:
        missing = np.isnan(scores[name])
        if missing.any():
            raise missing_error(
                resolved.policy,
                name,
                f"{int(missing.sum())} of {len(chosen)} rows of {part}, the first of them row "
                f"{int(chosen[missing.argmax()])}",
            )


def missing_error(policy: Policy, score: str, rows: str) -> Exception:
    """The error of a policy that doesn't say what a row without a score is."""
    return Where(policy.source, "on_missing").error(
        f"{policy.name} doesn't say what a row without {score} is, and there are: {rows}; "
        f'say "on_missing": "good", "defect" or "review", or test it with {{"missing": "{score}"}}'
    )
