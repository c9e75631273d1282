"""The retention rule: against its plain reading, and with clocks that can't be believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tables.run_catalogue import Catalogue, RunEntry
from pipeline.tables.run_needs import Need, StoreNeeds
from pipeline.tables.run_retention import Retention, plan_retention, unmatched

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NO_NEEDS = StoreNeeds((), {}, {})


def entry(run_id: str, days: float | None, **changes: Any) -> RunEntry:
    """A published run that ended so many days ago, after an hour."""
    ended = None if days is None else NOW - timedelta(days=days)
    values: dict[str, Any] = {
        "run_id": run_id,
        "state": "published",
        "kind": "score",
        "images": 1,
        "errors": 0,
        "started_at": ended and (ended - timedelta(hours=1)).isoformat(),
        "finished_at": ended and ended.isoformat(),
        "manifest": None,
        "bundle": None,
        "scorer_digest": None,
        "needs": {},
        "files": {f"runs/{run_id}/run.json": 10},
        "problems": (),
    }
    return RunEntry(**(values | changes))


def gone(runs: list[RunEntry], needs: StoreNeeds = NO_NEEDS, **rule: Any) -> set[str]:
    plan = plan_retention(Catalogue("store", tuple(runs), {}), needs, Retention(**rule), NOW)
    deleted = {one.run_id for one in plan.deletions}
    # Each run either goes or is kept with a reason.
    assert deleted | set(plan.kept) == {run.run_id for run in runs}
    assert not deleted & set(plan.kept)
    assert all(plan.kept.values())
    return deleted


ages = st.lists(st.integers(0, 40), max_size=12)


@given(ages=ages, last=st.none() | st.integers(1, 6), days=st.none() | st.integers(0, 40))
def test_a_run_goes_exactly_when_no_rule_keeps_it(
    ages: list[int], last: int | None, days: int | None
) -> None:
    runs = [entry(f"r{number:02}", age) for number, age in enumerate(ages)]
    newest = sorted(range(len(ages)), key=lambda n: (ages[n], -n))[: last or 0]
    expected = {
        f"r{number:02}"
        for number, age in enumerate(ages)
        if (last is not None or days is not None)
        and number not in newest
        and not (days is not None and age <= days)
    }
    assert gone(runs, keep_last=last, keep_days=days) == expected


def test_ids_and_patterns_are_kept() -> None:
    runs = [entry(name, 100) for name in ("release-1", "release-2", "golden", "night-1")]
    assert gone(runs, keep_days=1, keep=["release-*", "golden"]) == {"night-1"}
    catalogue = Catalogue("store", tuple(runs), {})
    assert unmatched(catalogue, ["release-?", "gold", "night-*"]) == ["gold"]


BACKWARDS = "a clock ran backwards"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"finished_at": (NOW + timedelta(minutes=1)).isoformat()}, BACKWARDS),
        ({"finished_at": "2020-01-01T00:00:00+00:00"}, BACKWARDS),
        ({"finished_at": None}, "has no time of its end"),
        ({"finished_at": "yesterday"}, "has no time of its end"),
    ],
)
def test_a_run_whose_clock_can_not_be_believed_is_never_old(
    changes: dict[str, Any], says: str
) -> None:
    doubtful = entry("doubtful", 300, **changes)
    runs = [doubtful, entry("old", 300), entry("new", 1)]
    assert gone(runs, keep_days=10) == {"old"}
    # It takes no place among the last ones.
    assert gone(runs, keep_last=1) == {"old"}
    plan = plan_retention(Catalogue("s", tuple(runs), {}), NO_NEEDS, Retention(keep_days=1), NOW)
    assert says in plan.kept["doubtful"][0]


def test_a_time_without_a_zone_is_utc() -> None:
    naive = entry("naive", 5, finished_at="2026-05-27T00:00:00", started_at="2026-05-26T23:00:00")
    assert gone([naive], keep_days=4) == {"naive"}
    assert gone([naive], keep_days=6) == set()


def test_unfinished_runs_go_only_when_asked_and_by_the_time_they_began() -> None:
    def unfinished(run_id: str, days: float, **changes: Any) -> RunEntry:
        return entry(run_id, days, state="unfinished", finished_at=None, **changes)

    runs = [
        unfinished("old", 20),
        unfinished("new", 1),
        unfinished("future", 1, started_at=(NOW + timedelta(days=1)).isoformat()),
        unfinished("unknown", 30, started_at=None),
        entry("done", 400),
    ]
    assert gone(runs, unfinished_days=10) == {"old"}
    assert gone(runs, keep_days=1000) == set()


def test_only_published_runs_and_cut_off_deletions_are_judged() -> None:
    states = ("fitted", "damaged", "leftover", "in use", "being deleted", "published")
    runs = [entry(state.replace(" ", "-"), 500, state=state) for state in states]
    assert gone(runs, keep_days=1, unfinished_days=1) == {"being-deleted", "published"}


def test_what_a_kept_run_needs_is_kept_through_the_whole_chain() -> None:
    runs = [
        entry("a", 300),
        entry("b", 200, needs={"a": "x"}),
        entry("c", 1, needs={"b": "x"}),
        entry("d", 250),
        entry("e", 240, needs={"d": "x"}),
    ]
    needs = StoreNeeds(
        (Need("a", "b", "b needs it"), Need("b", "c", "c needs it"), Need("d", "e", "e needs it")),
        {},
        {},
    )
    assert gone(runs, needs, keep_days=10) == {"d", "e"}
