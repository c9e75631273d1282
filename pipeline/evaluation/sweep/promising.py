"""What a guarantee asks of a sweep before anything is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.config import EvaluateConfig
from pipeline.errors import InputError
from pipeline.evaluation.sweep.document import Choosing
from pipeline.evaluation.sweep.sides import judging_roles
from pipeline.evaluation.table import ScoredTable
from pipeline.policy.choosing.limits import Guarantee
from pipeline.tables.roles import FIT, NORMAL_CALIBRATION, VALIDATION

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


def judges_with_a_say(config: EvaluateConfig, table: ScoredTable, calibrated: bool) -> list[str]:
    """Which rows that judge had a say in what they judge, in words.

    Args:
        config: the settings.
        table: the rows.
        calibrated: templates refer to a bundle's thresholds.
    """
    judge = judging_roles(config, table)
    found = [f"{FIT} rows trained the models"] if FIT in judge else []
    chose = [role for role in (VALIDATION, NORMAL_CALIBRATION) if role in judge]
    if calibrated and chose:
        found.append(f"{' and '.join(chose)} rows chose the thresholds that templates refer to")
    return found


def require_without_a_say(guarantee: Guarantee, had_a_say: Sequence[str]) -> None:
    """Refuses a certificate by rows that had a say in what they would certify.

    Raises:
        InputError: with what they did, and the way out.
    """
    if had_a_say:
        raise InputError(
            f"guarantee: {guarantee.says}: {' and '.join(had_a_say)}, and rows that had a say "
            "can't certify; take these roles out of roles, or of holdout.judging, so that others "
            "such as test certify, or give templates variables instead of such thresholds"
        )


def require_unseen(guarantee: Guarantee, found: Mapping[str, int], rows: int) -> None:
    """Refuses a certificate by images that trained or chose, whatever role they have now.

    Args:
        guarantee: that is asked for.
        found: by what images did, how many of the rows that certify are among them.
        rows: how many certify.

    Raises:
        InputError: with what they did, and the way out.
    """
    told = [
        f"{count} of {rows} rows that would certify {what}"
        for what, count in found.items()
        if count
    ]
    if told:
        raise InputError(
            f"guarantee: {guarantee.says}: {' and '.join(told)}, whatever their role is now, and "
            "rows that had a say can't certify; score the manifest whose roles the models were "
            "trained by, or train and calibrate by these"
        )
