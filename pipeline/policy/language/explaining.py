"""Why a row was decided as it was: which comparisons, with which value and whose threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.policy.language.compiling import slot_key, undecided_scores
from pipeline.policy.language.deciding import Columns, Rows, each_part
from pipeline.policy.language.document import (
    COMPARISONS,
    OUTCOMES,
    Atom,
    Comparison,
    Leaf,
    Outcome,
)
from pipeline.policy.language.folding import Part
from pipeline.policy.language.resolving import Resolved, ResolvedRuling
from pipeline.policy.language.weighing import Verdict, weigh_rule

_ON_MISSING = "on_missing"


@dataclass(frozen=True)
class Because:
    """One comparison, or one missing score, that decided.

    Attributes:
        path: where it stands in the document.
        score: the column.
        comparison: as it was written, or `missing`.
        held: whether it holds.
        value: the row's; None: missing, or not of one row.
        threshold: in the column's own type; None: it compares with none.
        origin: where the threshold comes from.
        reason: in the author's words.
        says: all this in words.
    """

    path: str
    score: str
    comparison: Comparison | Literal["missing"]
    held: bool
    value: float | None
    threshold: float | None
    origin: str | None
    reason: str | None
    says: str


@dataclass(frozen=True)
class Explanation:
    """A decision and what it rests on.

    Attributes:
        policy: its name.
        part: the row's category, and its true type where an oracle decided.
        outcome: good, review or defect.
        because: what settles it, most telling first; empty: the rule reads no score here.
        reasons: of the cascade's steps that decided, in the author's words.
    """

    policy: str
    part: Part
    outcome: Outcome
    because: tuple[Because, ...]
    reasons: tuple[str, ...]

    @property
    def says(self) -> str:
        """The explanation in one line."""
        rests_on = "; ".join(one.says for one in self.because) or "so for every row of this kind"
        return ": ".join([f"{self.part} → {self.outcome}", *self.reasons, rests_on])


@dataclass(frozen=True)
class Reasons:
    """The decisions of N rows and why, without the rows' own values.

    Attributes:
        outcome: (N,) int8, 0 for good, 1 for review, 2 for defect.
        reason: (N,) int32, which of `explanations`.
        explanations: the different ones there are.
    """

    outcome: npt.NDArray[np.int8]
    reason: npt.NDArray[np.int32]
    explanations: tuple[Explanation, ...]


def explain(resolved: Resolved, part: Part, scores: Mapping[str, float | None]) -> Explanation:
    """Why one row is decided as it is.

    Args:
        resolved: for the row's part, among others.
        part: of the row; with its true type for an oracle.
        scores: every score that the policy reads, rounded to the columns' types; None or NaN:
            missing.

    Raises:
        InputError: a score is missing and the policy says `on_missing: error`.
        ValueError: a score isn't given at all.
    """
    columns = {
        name: np.array([np.nan if scores[name] is None else scores[name]], dtype)
        for name, dtype in resolved.dtypes.items()
        if name in scores
    }
    rows = Rows(columns, (part,), np.zeros(1, np.int64))
    ruling, found, _ = next(each_part(resolved, rows))
    values = {name: column[0] for name, column in found.items()}
    return _Explainer(resolved, part, ruling).explanation(_marks(ruling, found)[0], values)


def reasons(resolved: Resolved, rows: Rows) -> Reasons:
    """What each of many rows rests on; rows whose comparisons come out alike share a reason.

    Raises:
        InputError, ValueError: as `decide`.
    """
    outcome = np.zeros(len(rows.part), np.int8)
    reason = np.zeros(len(rows.part), np.int32)
    explanations: list[Explanation] = []
    for ruling, scores, chosen in each_part(resolved, rows):
        part = rows.parts[int(rows.part[chosen[0]])]
        explainer = _Explainer(resolved, part, ruling)
        marks = _marks(ruling, scores)
        packed = np.packbits(marks, axis=1)
        _, first, kind = np.unique(packed, axis=0, return_index=True, return_inverse=True)
        found = [explainer.explanation(marks[at], None) for at in first]
        outcomes = np.array([OUTCOMES.index(one.outcome) for one in found], np.int8)
        outcome[chosen] = outcomes[kind]
        reason[chosen] = kind + len(explanations)
        explanations += found
    return Reasons(outcome, reason, tuple(explanations))


def _marks(ruling: ResolvedRuling, scores: Columns) -> npt.NDArray[np.bool_]:
    """(n, leaves + scores): which leaves hold, then which scores are missing."""
    read = sorted({leaf.score for leaf in ruling.rule.leaves()})
    columns = [_holds(leaf, ruling, scores) for leaf in ruling.rule.leaves()]
    columns += [np.isnan(scores[name]) for name in read]
    rows = len(next(iter(scores.values())))
    # A column that says nothing, so that a rule without any has one kind of row.
    return np.stack([*columns, np.zeros(rows, bool)], axis=1)


def _holds(leaf: Leaf, ruling: ResolvedRuling, scores: Columns) -> npt.NDArray[np.bool_]:
    column = scores[leaf.score]
    if not isinstance(leaf, Atom):
        return np.isnan(column)
    reached = np.asarray(column >= ruling.number_of(slot_key(leaf)).value)
    upper = leaf.comparison in ("ge", "gt")
    return reached if upper else ~reached & ~np.isnan(column)


@dataclass(frozen=True)
class _Explainer:
    """Explains rows of one part."""

    resolved: Resolved
    part: Part
    ruling: ResolvedRuling

    def explanation(
        self, marks: npt.NDArray[np.bool_], values: Mapping[str, np.floating] | None
    ) -> Explanation:
        """The explanation of marks (leaves + scores) as of `_marks`; values of the row's scores."""
        leaves = self.ruling.rule.leaves()
        held = dict(zip((leaf.path for leaf in leaves), marks.tolist(), strict=False))
        read = sorted({leaf.score for leaf in leaves})
        missing = {name for name, mark in zip(read, marks[len(leaves) :], strict=False) if mark}
        lacking = missing.intersection(undecided_scores(self.ruling.rule))
        if lacking:
            because = tuple(self._lacking(name) for name in sorted(lacking))
            verdict = Verdict(self._on_missing(), ())
        else:
            verdict = weigh_rule(self.ruling.rule, lambda leaf: held[leaf.path])
            because = tuple(
                self._because(leaf, held[leaf.path], missing, values) for leaf in verdict.leaves
            )
        policy = self.resolved.policy
        own = self.part if policy.oracle else Part(self.part.category)
        return Explanation(policy.name, own, verdict.outcome, because, verdict.reasons)

    def _on_missing(self) -> Outcome:
        found = self.resolved.policy.on_missing
        if found == "error":
            raise ValueError("rows that miss a required score are refused before")
        return found

    def _lacking(self, score: str) -> Because:
        says = f"{score} is missing (on_missing: {self._on_missing()})"
        return Because(_ON_MISSING, score, "missing", True, None, None, None, None, says)

    def _because(
        self,
        leaf: Leaf,
        held: bool,
        missing: set[str],
        values: Mapping[str, np.floating] | None,
    ) -> Because:
        lacks = leaf.score in missing
        given = None if values is None or lacks else values[leaf.score]
        value = None if given is None else float(given)
        if not isinstance(leaf, Atom):
            says = f"{leaf.score} is {'missing' if held else 'there'}"
            return Because(leaf.path, leaf.score, "missing", held, value, None, None, None, says)
        number = self.ruling.number_of(slot_key(leaf))
        # In the column's type: 0.6 in float32 is shown as 0.6.
        shown = self.resolved.dtypes[leaf.score].type(number.shown)
        right = f"{COMPARISONS[leaf.comparison]} {shown!s}"
        score = leaf.score if given is None else f"{leaf.score} {given!s}"
        if lacks:
            says = f"{score} is missing, so not {right}"
        else:
            says = f"{score} {'' if held else 'is not '}{right}"
        # The author's reason is why it decides where it holds.
        says += f" ({number.origin}{': ' + leaf.reason if leaf.reason and held else ''})"
        return Because(
            leaf.path,
            leaf.score,
            leaf.comparison,
            held,
            value,
            number.shown,
            number.origin,
            leaf.reason,
            says,
        )
