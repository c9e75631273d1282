"""The retention rule: which runs of a store are old enough to go, by what their records say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from pipeline.tables.run_catalogue import DELETING, PUBLISHED, UNFINISHED, Catalogue, RunEntry
from pipeline.tables.run_deletion import DeletionPlan, plan_deletion
from pipeline.tables.run_needs import StoreNeeds


@dataclass(frozen=True)
class Retention:
    """What is kept.

    Attributes:
        keep_last: the last so many published runs.
        keep_days: published runs that are not older.
        keep: ids or patterns that are always kept.
        unfinished_days: unfinished runs begun longer ago go; None: none goes.
        force: a lock doesn't keep a run.
    """

    keep_last: int | None = None
    keep_days: float | None = None
    keep: Sequence[str] = ()
    unfinished_days: float | None = None
    force: bool = False


def plan_retention(
    catalogue: Catalogue, needs: StoreNeeds, rule: Retention, now: datetime
) -> DeletionPlan:
    """The plan that a rule makes: what goes, and why the rest stays.

    Fits and their bundles go by name only. Where a record's times can't be believed (in the
    future, or ended before it began: a clock ran backwards), the run stays.
    """
    kept: dict[str, tuple[str, ...]] = {}
    for run in catalogue.runs:
        reason = _reason(run, rule, now)
        if reason is not None:
            kept[run.run_id] = (reason,)
    going = [run for run in catalogue.runs if run.run_id not in kept]
    if rule.keep_last:
        finished = sorted(
            (run for run in going if run.state == PUBLISHED), key=lambda r: (_ended(r), r.run_id)
        )
        for run in finished[-rule.keep_last :]:
            kept[run.run_id] = (f"one of the last {rule.keep_last}",)
    for run_id in _young(going, rule, now):
        kept.setdefault(run_id, (f"not older than {rule.keep_days:g} days",))
    wanted = [run.run_id for run in going if run.run_id not in kept]
    plan = plan_deletion(catalogue, needs, wanted, force=rule.force)
    return replace(plan, kept=kept | dict(plan.kept))


def _reason(run: RunEntry, rule: Retention, now: datetime) -> str | None:
    """Why a run stays whatever its rank and age; None: rank and age decide."""
    pattern = next((one for one in rule.keep if fnmatchcase(run.run_id, one)), None)
    if pattern is not None:
        return f"keep={pattern}"
    if run.state == DELETING:
        return None  # its deletion was cut off
    if run.state == UNFINISHED:
        return _unfinished(run, rule, now)
    if run.state != PUBLISHED:
        return f"is {run.state}; delete it by name"
    if rule.keep_last is None and rule.keep_days is None:
        return "neither keep_last nor keep_days is given"
    return _doubt(run, now)


def _unfinished(run: RunEntry, rule: Retention, now: datetime) -> str | None:
    if rule.unfinished_days is None:
        return "is unfinished, and unfinished_days isn't given"
    began = _time(run.started_at)
    if began is None:
        return "is unfinished, and its record has no time"
    if began > now:
        return f"began at {run.started_at}, which is in the future: a clock ran backwards"
    if now - began <= timedelta(days=rule.unfinished_days):
        return f"is unfinished, and not older than {rule.unfinished_days:g} days"
    return None


def _doubt(run: RunEntry, now: datetime) -> str | None:
    began, ended = _time(run.started_at), _time(run.finished_at)
    if ended is None:
        return f"its record has no time of its end ({run.finished_at!r})"
    if ended > now:
        return f"ended at {run.finished_at}, which is in the future: a clock ran backwards"
    if began is not None and ended < began:
        return f"ended at {run.finished_at}, before it began: a clock ran backwards"
    return None


def _young(runs: Sequence[RunEntry], rule: Retention, now: datetime) -> list[str]:
    if rule.keep_days is None:
        return []
    first = now - timedelta(days=rule.keep_days)
    return [run.run_id for run in runs if run.state == PUBLISHED and _ended(run) >= first]


def _ended(run: RunEntry) -> datetime:
    ended = _time(run.finished_at)
    if ended is None:
        raise ValueError(f"run {run.run_id}: has no end")  # _doubt has kept it
    return ended


def _time(text: str | None) -> datetime | None:
    """A record's time; one without a zone is UTC, as all that is written here."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def unmatched(catalogue: Catalogue, keep: Sequence[str]) -> list[str]:
    """Patterns that name no run: perhaps misspelt."""
    ids = [run.run_id for run in catalogue.runs]
    return [one for one in keep if not any(fnmatchcase(run_id, one) for run_id in ids)]


def kept_by_reason(kept: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Runs by why they stay, for a shorter answer."""
    found: dict[str, list[str]] = {}
    for run_id, reasons in kept.items():
        found.setdefault("; ".join(reasons), []).append(run_id)
    return found
