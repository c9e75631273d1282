"""What commits hold together, against sets of Python's own, however often an image came."""

from __future__ import annotations

from array import array
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tables.ledger import Commit, Part, Span, Spent, Work
from pipeline.tables.tally import _STEP, Tally

# Small ids, which meet often, and the largest that there are.
ids = st.one_of(st.integers(0, 8), st.integers(2**63 - 9, 2**63 - 2))
some_ids = st.lists(ids, max_size=6, unique=True)
PART = Part("a.scores.parquet", 3, "0" * 64, 99)
KINDS = ("decoded", "reused", "carried")


@st.composite
def many_commits(draw: st.DrawFn) -> list[Commit]:
    commits = []
    for number in range(draw(st.integers(0, 6))):
        scored, failed = draw(some_ids), draw(some_ids)
        unreachable = failed[: draw(st.integers(0, 6))]
        spent = [Spent(stage, draw(st.integers(1, 9)), len(scored)) for stage in ("decode", "net")]
        commits.append(
            Commit(
                f"{number}.json",
                {"scores": PART},
                *(array("q", some) for some in (scored, failed, unreachable)),
                [Span("a", 0, 8, 3)],
                Work(spent[: draw(st.integers(0, 2))], draw(st.integers(0, 9))),
                draw(st.sampled_from(KINDS)),
            )
        )
    return commits


@settings(deadline=None)
@given(many_commits(), st.lists(ids, unique=True))
def test_what_commits_hold_together(commits: list[Commit], own: list[int]) -> None:
    tally = Tally(np.array(sorted(own), np.int64))
    left = tally.take(commits)

    scored = {i for c in commits for i in c.scored}
    failed = {i for c in commits for i in c.failed}
    final = {i for c in commits for i in c.failed if i not in c.unreachable}
    for found, expected in (
        (tally.ids[tally.scored], scored),
        (tally.ids[tally.committed], scored | failed),
        (tally.ids[tally.settled], scored | final),
        (tally.recovered, scored & failed),
    ):
        assert found.dtype == np.int64
        assert found.tolist() == sorted(expected & set(own))
    assert tally.strange == (scored | failed) - set(own)

    seen: set[int] = set()
    earlier: set[int] = set()
    making: Counter[str] = Counter()
    repeated = {}
    for commit in commits:
        mine = {*commit.scored, *commit.failed} & set(own)
        making[commit.made] += len(mine - seen)
        seen |= mine
        if again := set(commit.scored) & earlier & set(own):
            repeated[commit.name] = tuple(sorted(again))
        earlier |= set(commit.scored)
    assert tally.making == {kind: making[kind] for kind in KINDS}
    assert tally.repeated == repeated

    assert [(c.name, c.parts, c.spans) for c in left] == [
        (c.name, c.parts, c.spans) for c in commits
    ]
    assert not any(len(c.scored) + len(c.failed) + len(c.unreachable) for c in left)


@settings(deadline=None)
@given(many_commits())
def test_the_work_of_commits_adds_up(commits: list[Commit]) -> None:
    tally = Tally(np.empty(0, np.int64))
    tally.take(commits)
    seconds: Counter[str] = Counter()
    images: Counter[str] = Counter()
    for commit in commits:
        for spent in commit.work.spent:
            seconds[spent.stage] += spent.seconds
            images[spent.stage] += spent.images
    found = {spent.stage: (spent.seconds, spent.images) for spent in tally.work.spent}
    assert found == {stage: (seconds[stage], images[stage]) for stage in seconds}
    assert tally.work.bytes == sum(commit.work.bytes for commit in commits)


@settings(deadline=None)
@given(many_commits(), st.dictionaries(ids, st.booleans()))
def test_what_is_lost_and_what_should_not_be_there(
    commits: list[Commit], own: dict[int, bool]
) -> None:
    skips = dict(sorted(own.items()))
    tally = Tally(np.array(list(skips), np.int64))
    tally.take(commits)
    committed = {i for c in commits for i in (*c.scored, *c.failed)}
    lost, strange = tally.unaccounted(np.array(list(skips.values()), bool))
    assert lost.dtype == strange.dtype == np.int64
    assert lost.tolist() == [i for i in skips if i not in committed and not skips[i]]
    assert strange.tolist() == sorted(i for i in committed if skips.get(i, True))


def test_images_beyond_one_step_are_accounted_for() -> None:
    count = 2 * _STEP + 3
    tally = Tally(np.arange(count))
    nothing = array("q")
    done = array("q", [i for i in range(count) if i not in (_STEP, count - 1)])
    failed = array("q", [5, _STEP + 1])
    tally.take([Commit("a.json", {"scores": PART}, done, failed, nothing, [])])
    skipped = np.zeros(count, bool)
    skipped[[_STEP - 1, _STEP]] = True
    lost, strange = tally.unaccounted(skipped)
    assert (lost.tolist(), strange.tolist()) == ([count - 1], [_STEP - 1])
    assert tally.recovered.tolist() == [5, _STEP + 1]
