"""Counts of a policy, and its thresholds to be moved over the scores of good images and defects."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from pipeline.app import markup
from pipeline.app.deciding import figures
from pipeline.app.histogram import drawn, lines, slider_data
from pipeline.app.policies import moved, sliders
from pipeline.app.screen import session
from pipeline.app.screen.looking import Looking
from pipeline.app.text import escaped, plain
from pipeline.errors import InputError
from pipeline.report.evaluation_page import words

_HERE = Path(__file__).parent
_KEY = "thresholds"

_draw_thresholds = st.components.v2.component(
    "linescore_thresholds",
    html='<div class="thresholds"></div>',
    css=(_HERE / "thresholds.css").read_text(encoding="utf-8"),
    js=(_HERE / "thresholds.js").read_text(encoding="utf-8"),
)


def show(look: Looking) -> None:
    """The page."""
    description = look.own.policy.description
    if description:
        st.markdown(escaped(description))
    st.markdown(f"Counted on {escaped(look.held.says)}: {len(look.held.group):,} images.")
    scores = list(look.policy.dtypes) or list(look.held.scores)
    shown = list(dict.fromkeys([*scores, *look.held.scores]))
    session.choose("Score", "score", shown, look.score, plain)
    _thresholds(look)


@st.fragment
def _thresholds(look: Looking) -> None:
    """What follows a threshold that moves: nothing else of the page is drawn again."""
    try:
        _follow(replace(look, view=session.view()))
    except InputError as error:
        st.error(escaped(error))
    session.write_address()


def _follow(look: Looking) -> None:
    began = time.perf_counter()
    look = replace(look, policy=moved(look.own, look.view.moved, look.category))
    found = figures(look.policy, look.held, look.outcome)
    _draw_thresholds(
        key=_KEY,
        data=_data(look, found, began),
        default={"moves": {}},
        on_moves_change=_moved,
    )
    _tables(look, found)


def _moved() -> None:
    told = st.session_state[_KEY].get("moves") or {}
    moves = told.get("moves", {}) if isinstance(told, dict) else {}
    if isinstance(moves, dict) and told.get("token") == st.session_state.get("token"):
        session.change(moves=tuple(sorted((int(n), float(to)) for n, to in moves.items())))


def _data(look: Looking, found: list[dict[str, Any]], began: float) -> dict[str, Any]:
    about = look.desk.distribution(look.held, look.score, look.category)
    token = repr((look.held.serial, look.own.digest, look.category, look.score))
    st.session_state["token"] = token
    row = _row(look, found)
    took = (time.perf_counter() - began) * 1000
    return drawn(about) | {
        "token": token,
        "moves": {str(n): to for n, to in look.view.moves},
        "lines": lines(look.policy, look.score, look.category),
        "sliders": [
            slider_data(one, look.view.moved.get(one.number, one.value))
            for one in sliders(look.own, look.held, look.category)
        ],
        "figures": _cards(row),
        "status": f"{len(look.held.group):,} images decided in {took:.0f} ms"
        + (", thresholds moved" if look.view.moves else ""),
    }


def _row(look: Looking, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of what was chosen: a category, or all."""
    level = "all" if look.category is None else "category"
    return next(row for row in found if row["level"] == level and row["category"] == look.category)


def _cards(row: dict[str, Any]) -> list[dict[str, str]]:
    def card(key: str, label: str, hits: str, of: str, rate: str) -> dict[str, str]:
        ends = words.interval(row[f"{rate}_low"], row[f"{rate}_high"])
        detail = f"of {words.count(row[of])}: {words.percent(row[rate])} [{ends}]"
        return {"key": key, "label": label, "value": words.count(row[hits]), "detail": detail}

    return [
        card("fn", "missed defects (FN)", "fn", "defects", "fnr"),
        card("fp", "false alarms (FP)", "fp", "good", "fpr"),
        {
            "key": "review",
            "label": "for a person to look at",
            "value": words.count(
                sum(row[f"review_{n}"] or 0 for n in ("good", "defects", "unlabelled"))
            ),
            "detail": words.percent(row["review_rate"]) + " of all images",
        },
    ]


def _tables(look: Looking, found: list[dict[str, Any]]) -> None:
    levels = [("all categories", r) for r in found if r["level"] == "all"]
    by_category = [(r["category"] or "(no category)", r) for r in found if r["level"] == "category"]
    rows = [((name,), r) for name, r in levels + by_category]
    st.html(
        markup.figures_table("By category; rates with Wilson intervals (95 %)", ["category"], rows)
    )
    kinds = [
        ((r["category"] or "(no category)", r["defect_type"] or "–"), r)
        for r in found
        if r["level"] == "defect_type" and look.category in (None, r["category"])
    ]
    with st.expander("By category and defect type", expanded=len(kinds) <= 16):
        st.html(markup.figures_table("By category and defect type", ["category", "type"], kinds))
