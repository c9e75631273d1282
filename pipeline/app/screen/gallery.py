"""Images of one kind: missed defects, false alarms, near misses, the most anomalous."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import streamlit as st

from pipeline.app import markup
from pipeline.app.gallery import SHEET, Choice, chosen
from pipeline.app.images import Shown
from pipeline.app.screen import session
from pipeline.app.screen.looking import Looking
from pipeline.app.state import ANOMALOUS, EVERY, FALSE_NEGATIVE, FALSE_POSITIVE, KINDS, NEAR, REVIEW
from pipeline.app.text import escaped, file_name, plain
from pipeline.policy.language import OUTCOMES

_TITLES = {
    FALSE_NEGATIVE: "missed defects (false negatives)",
    FALSE_POSITIVE: "false alarms (false positives)",
    NEAR: "near misses: right, by little",
    ANOMALOUS: "the most anomalous",
    REVIEW: "for a person to look at",
    EVERY: "all images",
}
_COLUMNS = 6


def show(look: Looking) -> None:
    """The page."""
    view = look.view
    session.choose(
        "Images",
        "kind",
        list(KINDS),
        view.kind,
        lambda kind: _TITLES[kind],
        kind=st.radio,
        horizontal=True,
    )
    with st.container(horizontal=True):
        types = [None, *look.held.defect_types]
        asked = view.defect_type if view.defect_type in types else None
        session.choose(
            "Defect type",
            "defect_type",
            types,
            asked,
            lambda one: "all" if one is None else plain(one),
        )
        session.choose("Score", "score", list(look.held.scores), look.score, plain)
        session.number("Score from", "low", view.low)
        session.number("Score to", "high", view.high)
    choice = Choice.of(view, look.score)
    rows = chosen(choice, look.policy, look.held, look.outcome)
    sheets = max(1, -(-len(rows) // SHEET))
    sheet = min(view.sheet, sheets)
    st.markdown(f"**{len(rows):,}** images; sheet {sheet} of {sheets}")
    pictures(look, rows[(sheet - 1) * SHEET : sheet * SHEET], "gallery")
    session.turn(sheet, sheets)


def pictures(
    look: Looking,
    rows: npt.NDArray[np.intp],
    key: str,
    now: int | None = None,
    side_by_side: int = _COLUMNS,
) -> None:
    """Thumbnails of some rows, each with a button that opens it.

    Args:
        look: what is looked at.
        rows: (n,) of the run.
        key: of the place on the page.
        now: image that is shown large already.
        side_by_side: so many in a row.
    """
    shown = look.desk.shown(look.run_id, look.held, rows)
    thumbnails = look.desk.thumbnails.of([one.uri for one in shown])
    outcome = look.outcome
    row_of = dict(zip(look.held.image_id[rows].tolist(), rows.tolist(), strict=True))
    for start in range(0, len(shown), side_by_side):
        columns = st.columns(side_by_side)
        for column, one in zip(columns, shown[start : start + side_by_side], strict=False):
            with column:
                row = row_of[one.image_id]
                decided = OUTCOMES[int(outcome[row])]
                st.html(_figure(look, one, row, decided, thumbnails[one.uri], now))
                st.button(
                    "shown above" if one.image_id == now else f"Open {escaped(file_name(one.uri))}",
                    key=f"{key}-{one.image_id}",
                    disabled=one.image_id == now,
                    on_click=session.change,
                    kwargs={"page": "image", "image": one.image_id},
                )


def _figure(
    look: Looking, one: Shown, row: int, decided: str, found: bytes | str, now: int | None
) -> str:
    group = look.held.groups[int(look.held.group[row])]
    truth = {None: "no label", False: "good", True: f"defect: {group.defect_type or 'no type'}"}
    score = look.held.scores[look.score][row]
    lines = [
        f"{look.score} {score!s}",
        f"truth: {truth[group.is_defect]}",
        f"decided: {decided}",
    ]
    alt = f"{one.category or 'no category'}, {truth[group.is_defect]}, decided {decided}"
    return markup.picture(one.image_id, found, alt, lines, tag_of(group.is_defect, decided))


def tag_of(is_defect: bool | None, decided: str) -> str:
    """What kind of decision it is, in two letters; none where nobody knows."""
    if decided == "review":
        return "review"
    if is_defect is None:
        return "unlabelled"
    right = is_defect == (decided == "defect")
    return ("T" if right else "F") + ("P" if decided == "defect" else "N")
