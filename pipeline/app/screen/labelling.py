"""Labelling the image that is shown, where the app was started with allow_labels."""

from __future__ import annotations

import streamlit as st

from pipeline.app import markup
from pipeline.app.images import Shown
from pipeline.app.screen.looking import Looking
from pipeline.app.text import escaped, plain
from pipeline.errors import InputError, RunError
from pipeline.tables.labels import DEFECT, KINDS, Label, append_label, history

_SAID = "said"


def show(look: Looking, one: Shown) -> None:
    """The labels that the image has, and a form for another one."""
    st.markdown("**Label**")
    given = history(look.desk.label_rows(), one.image_id)
    if given:
        rows = [
            [
                f"{row['labelled_at']:%Y-%m-%d %H:%M}",
                row["label"],
                row["defect_type"] or "–",
                row["labelled_by"] or "–",
            ]
            for row in reversed(given)
        ]
        st.html(
            markup.table(
                "Given by people; the first row counts", ["when (UTC)", "label", "type", "by"], rows
            )
        )
    if not look.desk.config.allow_labels:
        st.markdown("This app is read-only; start it with --allow-labels to label images.")
        return
    with st.form(f"label-{one.image_id}", border=True):
        kind = st.radio("This image is", KINDS, horizontal=True, index=None)
        types = look.held.defect_types
        defect_type = st.selectbox(
            "Defect type",
            types,
            index=None,
            format_func=plain,
            accept_new_options=True,
            placeholder="choose or write one",
            key=f"type-{one.image_id}",
        )
        who = st.text_input("Your name", key="labelled-by", max_chars=80)
        if st.form_submit_button("Save label"):
            _save(look, one, kind, defect_type, who)
    if st.session_state.get(_SAID, (None, ""))[0] == one.image_id:
        st.success(escaped(st.session_state.pop(_SAID)[1]))


def _save(look: Looking, one: Shown, kind: str | None, defect_type: str | None, who: str) -> None:
    if kind is None:
        st.error("Choose good, defect or unsure.")
        return
    try:
        append_label(
            look.desk.store,
            Label(
                one.image_id,
                kind,
                defect_type if kind == DEFECT else None,
                who.strip() or None,
                look.run_id,
                one.uri,
            ),
        )
    except (InputError, RunError) as error:
        st.error(escaped(error))
        return
    st.session_state[_SAID] = (one.image_id, f"Saved: {kind}.")
    st.rerun()
