"""One image large: boxes, mask, every policy's decision with its reason, neighbours, its label."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pipeline.app import markup
from pipeline.app.gallery import neighbours
from pipeline.app.images import Shown
from pipeline.app.pictures import large, pixels_of, read_mask
from pipeline.app.screen import labelling, session
from pipeline.app.screen.gallery import pictures
from pipeline.app.screen.looking import Looking
from pipeline.app.text import escaped, file_name
from pipeline.errors import InputError
from pipeline.policy.language import Resolved, explain

_NEIGHBOURS = 3


def show(look: Looking) -> None:
    """The page."""
    if look.view.image is None:
        st.info("No image is chosen: open one from the gallery.")
        return
    row = look.held.row_of(look.view.image)
    if row is None:
        raise InputError(
            f"image {look.view.image}: is not among the judged images of run {look.run_id}"
        )
    found = look.desk.shown(look.run_id, look.held, np.array([row], np.intp))
    if not found:
        raise InputError(f"image {look.view.image}: is in no file of run {look.run_id}")
    one = found[0]
    st.subheader(escaped(file_name(one.uri)), anchor=False)
    left, right = st.columns([3, 2])
    with left:
        _picture(look, one)
    with right:
        _facts(look, one, row)
        labelling.show(look, one)
    _decisions(look, row)
    st.subheader(f"Neighbours in {escaped(look.score)}", anchor=False)
    near = neighbours(look.held, row, look.score, _NEIGHBOURS)
    pictures(look, near, "near", one.image_id, 2 * _NEIGHBOURS + 1)


def _picture(look: Looking, one: Shown) -> None:
    limits = look.desk.config.limits
    boxes = look.desk.boxes(look.run_id, one)
    place = look.desk.mask(look.run_id, one)
    with st.container(horizontal=True):
        session.switch(f"boxes ({len(boxes)})", "boxes", look.view.boxes)
        session.switch(
            "outline of the mask" if place else "mask (none)",
            "mask",
            look.view.mask,
            disabled=place is None,
        )
    try:
        pixels = pixels_of(one.uri, limits)
    except InputError as error:
        st.error(escaped(error))
        return
    mask, why = read_mask(place if look.view.mask else None, lambda uri: pixels_of(uri, limits))
    if why is not None:
        st.warning(f"The mask can't be shown: {escaped(why)}")
    shown = boxes if look.view.boxes else []
    st.image(large(pixels, shown, mask), caption=escaped(one.uri))
    if shown:
        rows = [
            [str(n), box.name, f"{box.confidence:.3f}", ", ".join(f"{c:.0f}" for c in box.corners)]
            for n, box in enumerate(shown, 1)
        ]
        st.html(markup.table("Detections", ["box", "class", "confidence", "corners (px)"], rows))


def _facts(look: Looking, one: Shown, row: int) -> None:
    group = look.held.groups[int(look.held.group[row])]
    truth = {None: "not known", False: "good", True: "defect"}[group.is_defect]
    pairs: list[tuple[str, object]] = [
        ("category", one.category or "–"),
        ("label", f"{truth}" + (f", {group.defect_type}" if group.defect_type else "")),
        ("size", f"{one.facts['width']} × {one.facts['height']} px"),
        ("image_id", one.image_id),
    ]
    pairs += [
        (name, "–" if value is None else f"{value:.6g}")
        for name, value in look.held.score_of(row).items()
    ]
    st.html(markup.facts(pairs))


def _decisions(look: Looking, row: int) -> None:
    st.subheader("What the policies decide, and why", anchor=False)
    rows = []
    for name, policy in look.usable.resolved.items():
        current = look.policy if name == look.policy.policy.name else policy
        rows.append(_decision(look, current, row))
    st.html(markup.table("Decisions", ["policy", "decision", "because"], rows))


def _decision(look: Looking, policy: Resolved, row: int) -> list[str]:
    part = look.held.part(row, by_type=policy.policy.oracle)
    name = policy.policy.name + (" (oracle)" if policy.policy.oracle else "")
    try:
        found = explain(policy, part, look.held.score_of(row))
    except InputError as error:
        return [name, "refused", str(error)]
    because = [*found.reasons, *(one.says for one in found.because)]
    return [name, found.outcome, "; ".join(because) or "so for every image of this kind"]
