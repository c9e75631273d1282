"""What the chosen run, policy and category are, and the bar in which they are chosen."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from pipeline.app.deciding import Outcome, outcomes
from pipeline.app.desk import Desk, RunName
from pipeline.app.held import Held
from pipeline.app.policies import Usable, moved
from pipeline.app.screen import session
from pipeline.app.state import View
from pipeline.app.text import escaped, plain
from pipeline.errors import InputError
from pipeline.policy.language import Resolved

ALL = "all"


@dataclass(frozen=True)
class Looking:
    """A view whose names were found in the store.

    Attributes:
        desk: what all sessions share.
        view: what the person chose.
        run_id: the run.
        held: its judged rows.
        usable: the policies, and those that can't be used here.
        policy: the chosen one, with its thresholds as they were moved.
        category: None: all.
        score: the score that is looked at.
    """

    desk: Desk
    view: View
    run_id: str
    held: Held
    usable: Usable
    policy: Resolved
    category: str | None
    score: str

    @property
    def own(self) -> Resolved:
        """The chosen policy as it is written."""
        return self.usable.resolved[self.policy.policy.name]

    @property
    def outcome(self) -> Outcome:
        """What the policy makes of each row, at the thresholds as they are now."""
        if self.policy is self.own:
            name = self.policy.policy.name
            return self.desk.outcome(self.run_id, name, labelled=self.view.labels)
        return outcomes(self.policy, self.held)


def looking(desk: Desk, view: View) -> Looking:
    """Draws the choices and finds what was chosen.

    Raises:
        InputError: there is no run, or no policy can be used.
    """
    runs = desk.runs()
    if not runs:
        raise InputError(f"{desk.store}: there is no published run with scores in this store")
    with st.sidebar:
        run_id = _run(view, runs)
        held = desk.held(run_id, labelled=view.labels)
        usable = desk.policies(run_id, labelled=view.labels)
        name = _policy(view, usable)
        category = _category(view, held)
        _labels(desk, view)
    own = usable.resolved[name]
    current = moved(own, view.moved, category)
    score = _score(view, own, held)
    return Looking(desk, view, run_id, held, usable, current, category, score)


def _one_of(what: str, asked: str | None, there: list[str], usual: str | None) -> str | None:
    """What was asked for, if it is there; else the usual one, and a word about it."""
    if asked is None or asked in there:
        return usual if asked is None else asked
    st.warning(f"{what} {escaped(repr(asked))} isn't here; another one is shown.")
    return usual


def _run(view: View, runs: list[RunName]) -> str:
    said = {run.run_id: f"{run.run_id} · {run.images:,} images" for run in runs}
    found = _one_of("The run", view.run, list(said), runs[0].run_id)
    session.choose("Run", "run", list(said), found, lambda one: plain(said[one]))
    return str(found)


def _policy(view: View, usable: Usable) -> str:
    names = list(usable.resolved)
    if not names:
        first = next(iter(usable.refused.values()), "there is none")
        raise InputError(f"no policy can be used on this run; the first of them: {first}")
    found = _one_of("The policy", view.policy, names, names[0])
    session.choose("Policy", "policy", names, found, plain)
    if usable.provisional:
        st.warning(
            "No policy can be used on this run; below stands why. The 5 % with the highest scores "
            "are flagged instead: drag the threshold to where it should be."
        )
    if usable.refused:
        with st.expander(f"{len(usable.refused)} more can't be used on this run"):
            for name, why in usable.refused.items():
                st.markdown(f"**{escaped(name)}**: {escaped(why)}")
    return str(found)


def _category(view: View, held: Held) -> str | None:
    found = _one_of("The category", view.category, held.categories, None)
    options = [None, *held.categories]
    session.choose(
        "Category", "category", options, found, lambda one: "all" if one is None else plain(one)
    )
    return found


def _labels(desk: Desk, view: View) -> None:
    files = len(desk.labels_now())
    if files or view.labels:
        session.switch(
            f"Count with people's labels ({files})",
            "labels",
            view.labels,
            help="The latest label of an image counts instead of the manifest's; "
            "`linescore evaluate labels=…` does the same.",
        )


def _score(view: View, policy: Resolved, held: Held) -> str:
    if view.score is not None and view.score in held.scores:
        return view.score
    return next(iter(policy.dtypes), next(iter(held.scores)))
