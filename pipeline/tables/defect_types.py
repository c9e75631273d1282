"""Types of defects as sources name them: which one is none, and which may be meant as none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pandas as pd

from pipeline.errors import InputError

GOOD = "good"
# What other systems call a good part, as `_word` has it.
_MAY_MEAN_GOOD = frozenset(
    (
        "",
        "-",
        "0",
        "false",
        "no defect",
        "no_defect",
        "none",
        "normal",
        "ok",
        "okay",
        "pass",
        "passed",
    )
)


def require_plain_good(kind: Any, place: str) -> None:
    """Refuses `good` in other letters or with spaces: a good part would be taken for a defect.

    Args:
        kind: a type as the source has it.
        place: where it stands, for the error.

    Raises:
        InputError: it differs from `good` in nothing else.
    """
    if _word(kind) == GOOD and kind != GOOD:
        raise InputError(
            f"source: {place}: defect_type {kind!r}: a good image's type is {GOOD!r}, in these "
            "letters and without spaces; anything else is a kind of defect: write it so, or give "
            "the defect another name"
        )


def may_mean_good(kinds: Iterable[Any]) -> dict[str, int]:
    """Of types that make their images defects those that people have to look at, with counts.

    They stay defects, the side on which a mistake costs less.
    """
    counts = Counter(map(str, kinds))
    return {kind: counts[kind] for kind in sorted(counts) if _word(kind) in _MAY_MEAN_GOOD}


def doubtful_in_list(frame: pd.DataFrame, source: str) -> dict[str, int]:
    """`may_mean_good` of a list's types, in rows whose `is_defect` doesn't say it.

    Raises:
        InputError: as `require_plain_good`, naming the row.
    """
    if "defect_type" not in frame.columns:
        return {}
    kinds = frame["defect_type"]
    for row, kind in enumerate(kinds):
        require_plain_good(kind, f"{source}: row {row}")
    unsaid = kinds.notna()
    if "is_defect" in frame.columns:
        unsaid &= frame["is_defect"].isna()
    return may_mean_good(kinds[unsaid])


def _word(kind: Any) -> str:
    return str(kind).strip().casefold()
