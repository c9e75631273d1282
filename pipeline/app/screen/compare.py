"""What changes sides, between two policies or two runs; and the images that do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import streamlit as st

from pipeline.app import markup
from pipeline.app.comparing import Changed, changed_policies, changed_runs
from pipeline.app.gallery import SHEET
from pipeline.app.screen import session
from pipeline.app.screen.gallery import pictures
from pipeline.app.screen.looking import Looking
from pipeline.app.text import escaped, plain
from pipeline.policy.choosing.champion import Flips
from pipeline.policy.language import OUTCOMES
from pipeline.report.evaluation_page import words

_TITLES = (
    *("truth", "mended", "made", "both wrong", "to review", "from review", "images"),
    "p (McNemar)",
)
_TRUTHS = ("no label", "good", "defects")


def show(look: Looking) -> None:
    """The page."""
    name = look.policy.policy.name
    others = [None, *(n for n in look.usable.resolved if n != name)]
    runs = [None, *(run.run_id for run in look.desk.runs() if run.run_id != look.run_id)]
    with st.container(horizontal=True):
        _choose("with the policy", "other_policy", others, look.view.other_policy)
        _choose("with the run", "other_run", runs, look.view.other_run)
    if look.view.other_policy in others[1:]:
        found = changed_policies(look.held, look.outcome, _of_policy(look))
        _tell(look, found, (name, str(look.view.other_policy)))
    elif look.view.other_run in runs[1:]:
        found = _of_run(look)
        _tell(look, found, (look.run_id, str(look.view.other_run)))
    else:
        st.info(f"Choose what {escaped(name)} on {escaped(look.run_id)} is compared with.")


def _choose(label: str, name: str, options: list[str | None], value: str | None) -> None:
    now = value if value in options else None
    session.choose(label, name, options, now, lambda one: "–" if one is None else plain(one))


def _of_policy(look: Looking) -> Any:
    return look.desk.outcome(look.run_id, str(look.view.other_policy), labelled=look.view.labels)


def _of_run(look: Looking) -> Changed:
    other = str(look.view.other_run)
    held = look.desk.held(other, labelled=look.view.labels)
    usable = look.desk.policies(other, labelled=look.view.labels)
    name = look.policy.policy.name
    if name in usable.refused:
        st.warning(f"On {escaped(other)}: {escaped(usable.refused[name])}")
    after = look.desk.outcome(other, name, labelled=look.view.labels)
    before = look.desk.outcome(look.run_id, name, labelled=look.view.labels)
    if look.view.moves:
        st.markdown("Runs are compared at the policy's own thresholds, not at moved ones.")
    return changed_runs(look.held, held, before, after)


def _tell(look: Looking, found: Changed, names: tuple[str, str]) -> None:
    st.markdown(
        f"**{len(found.rows):,}** of {found.common:,} images change sides from "
        f"{escaped(names[0])} to {escaped(names[1])}."
    )
    if found.only_first or found.only_second:
        st.markdown(
            f"Only in {escaped(names[0])}: {found.only_first:,} images; only in "
            f"{escaped(names[1])}: {found.only_second:,}. They are in no count here."
        )
    flips = [
        ["defects", *_flips(found.comparison.defects)],
        ["good images", *_flips(found.comparison.goods)],
    ]
    titles = [
        "",
        "mended",
        "made",
        "both wrong",
        "to review",
        "from review",
        "images",
        "p (McNemar)",
    ]
    st.html(markup.table("Mistakes that the second mends and makes", titles, flips))
    st.html(markup.table("Every change of sides", ["truth", "from", "to", "images"], _sides(found)))
    _gallery(look, found)


def _flips(flips: Flips) -> list[str]:
    values = {name: np.asarray(value).item() for name, value in asdict(flips).items()}
    order = ("fixed", "broken", "both", "to_review", "from_review", "images")
    return [*(words.count(values[name]) for name in order), words.p_value(values["p_value"])]


def _sides(found: Changed) -> list[list[object]]:
    return [
        [_TRUTHS[truth], OUTCOMES[before], OUTCOMES[after], words.count(int(count))]
        for (truth, before, after), count in np.ndenumerate(found.crossed)
        if count and before != after
    ]


def _gallery(look: Looking, found: Changed) -> None:
    fits = np.array([look.category in (None, group.category) for group in look.held.groups], bool)
    rows = found.rows[fits[look.held.group[found.rows]]]
    sheets = max(1, -(-len(rows) // SHEET))
    sheet = min(look.view.sheet, sheets)
    st.markdown(f"The images, sheet {sheet} of {sheets}; decided: by the first.")
    pictures(look, rows[(sheet - 1) * SHEET : sheet * SHEET], "changed")
    session.turn(sheet, sheets)
