"""The view of a session: in Streamlit's state while it lasts, and in the page's address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from pipeline.app.state import View, from_query, to_query

_VIEW, _WRITTEN, _PROBLEMS, _CHANGED = "view", "address", "problems", "changed"
# What a threshold was moved to means something for the policy and the images it was moved for.
_DEFINES_MOVES = ("run", "policy", "category")


def view() -> View:
    """What this session looks at; an address that was opened, or gone back to, decides.

    Not so where a person has just changed something: the browser may have sent that before it had
    the last address.
    """
    query = {name: st.query_params[name] for name in st.query_params}
    gone_to = query != st.session_state.get(_WRITTEN) and not st.session_state.get(_CHANGED)
    if _VIEW not in st.session_state or gone_to:
        st.session_state[_VIEW], st.session_state[_PROBLEMS] = from_query(query)
        st.session_state[_WRITTEN] = query
    found: View = st.session_state[_VIEW]
    return found


def problems() -> list[str]:
    """What of the address couldn't be understood."""
    found: list[str] = st.session_state.get(_PROBLEMS, [])
    return found


def write_address() -> None:
    """Puts the view into the page's address."""
    query = to_query(st.session_state[_VIEW])
    if query != {name: st.query_params[name] for name in st.query_params}:
        st.query_params.from_dict(query)
    st.session_state[_WRITTEN] = query
    st.session_state[_CHANGED] = False


def change(**changes: Any) -> None:
    """Another view, from the next run of the page on; for callbacks."""
    if any(name in changes for name in _DEFINES_MOVES):
        changes.setdefault("moves", ())
    if not changes.keys() <= {"sheet", "image", "page", "boxes", "mask"}:
        changes.setdefault("sheet", 1)
    st.session_state[_VIEW] = replace(st.session_state[_VIEW], **changes)
    st.session_state[_PROBLEMS] = []
    st.session_state[_CHANGED] = True


def choose(
    label: str,
    name: str,
    options: Sequence[Any],
    value: Any,
    said: Callable[[Any], str],
    **more: Any,
) -> None:
    """A choice of one of a few values of the view, drawn with its value now.

    Args:
        label: what is chosen.
        name: of the view's value.
        options: None among them stands for all.
        value: now.
        said: an option in words.
        more: `kind`, the widget, and what it takes.
    """
    key = f"choose-{name}"
    # A widget takes None for no choice at all: places stand for the values.
    places = list(range(len(options)))
    st.session_state[key] = list(options).index(value)

    def changed() -> None:
        change(**{name: options[st.session_state[key]]})

    kind = more.pop("kind", st.selectbox)
    kind(label, places, key=key, format_func=lambda n: said(options[n]), on_change=changed, **more)


def switch(label: str, name: str, value: bool, **more: Any) -> None:
    """A value of the view that is on or off."""
    key = f"switch-{name}"
    st.session_state[key] = value

    def changed() -> None:
        change(**{name: bool(st.session_state[key])})

    st.checkbox(label, key=key, on_change=changed, **more)


def number(label: str, name: str, value: float | None, **more: Any) -> None:
    """A number of the view, or none."""
    key = f"number-{name}"
    st.session_state[key] = value

    def changed() -> None:
        change(**{name: st.session_state[key]})

    st.number_input(label, key=key, value=None, on_change=changed, **more)


def turn(sheet: int, sheets: int) -> None:
    """Buttons to the sheets before and behind one."""
    with st.container(horizontal=True):
        for label, to in (("← earlier", sheet - 1), ("further →", sheet + 1)):
            there = 1 <= to <= sheets
            st.button(label, disabled=not there, on_click=change, kwargs={"sheet": to})
