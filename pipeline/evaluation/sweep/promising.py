"""What a guarantee asks of a sweep before anything is counted."""

from __future__ import annotations

from pipeline.errors import InputError
from pipeline.evaluation.sweep.document import Choosing
from pipeline.policy.choosing.limits import Guarantee

_SOUGHT = {"fnr": "fewest false alarms", "fpr": "fewest missed defects"}


def require_only_budgets(guarantee: Guarantee, choosing: Choosing) -> None:
    """Refuses what a sweep seeks and a certificate would silently pass over.

    Raises:
        InputError: costs, or a policy for each category.
    """
    for name, given in (
        ("costs", choosing.costs is not None),
        ("per_category", choosing.per_category),
    ):
        if given:
            raise InputError(
                f"choose.{name}: stands beside guarantee={guarantee.says}, which takes one policy "
                f"for all categories, of the certified ones that with the "
                f"{_SOUGHT[guarantee.limit.rate]}; leave choose.{name} out (budgets may stay), or "
                "leave guarantee out"
            )
