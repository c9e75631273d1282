"""The page: its bar, the view that was chosen, and errors as sentences."""

from __future__ import annotations

import streamlit as st

from pipeline.app import markup
from pipeline.app.desk import desk_of
from pipeline.app.screen import compare, counts, gallery, image, session, upload
from pipeline.app.screen.looking import looking
from pipeline.app.text import escaped, plain
from pipeline.errors import InputError, RunError

_PAGES = {
    "counts": ("Counts and thresholds", counts.show),
    "gallery": ("Gallery", gallery.show),
    "image": ("One image", image.show),
    "compare": ("Compare", compare.show),
    "upload": ("Score an upload", upload.show),
}


def page(settings: str) -> None:
    """Draws the page for the view of this session."""
    st.set_page_config(page_title="linescore", layout="wide")
    st.html(markup.STYLE)
    shared = desk_of(settings)
    view = session.view()
    for problem in session.problems():
        st.warning(f"A part of this address was left out: {escaped(problem)}")
    st.title("linescore", anchor=False)
    pages = [name for name in _PAGES if name != "upload" or shared.config.allow_uploads]
    session.choose(
        "View",
        "page",
        pages,
        view.page if view.page in pages else pages[0],
        lambda name: _PAGES[name][0],
        kind=st.radio,
        horizontal=True,
    )
    try:
        found = looking(shared, view)
        _PAGES[view.page if view.page in pages else pages[0]][1](found)
    except (InputError, RunError) as error:
        st.error(escaped(plain(error)))
    session.write_address()
