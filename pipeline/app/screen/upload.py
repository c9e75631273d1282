"""Scoring images of one's own with the run's bundle; nothing of them is kept."""

from __future__ import annotations

import streamlit as st

from pipeline.app import markup
from pipeline.app.pictures import large
from pipeline.app.screen.looking import Looking
from pipeline.app.text import escaped, plain
from pipeline.app.uploads import Answer, Upload, check_uploads, decisions
from pipeline.errors import InputError
from pipeline.images.decode import DecodeLimits, ImageError, decode

_KINDS = ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp"]
_SCORES = (
    "anomaly_score",
    "anomaly_cells",
    "anomaly_pooled",
    "defect_logit",
    "defect_probability",
    "detection_count",
    "detection_max_confidence",
)


def show(look: Looking) -> None:
    """The page."""
    scorer = look.desk.scorer(look.run_id)
    try:
        bundle = scorer.bundle
    except InputError as error:
        st.error(f"Nothing can be scored: {escaped(error)}")
        return
    st.markdown(
        f"Scored with the bundle {bundle.bundle_digest[:12]}…, one image after the other, in this "
        "process. Nothing that is uploaded is kept."
    )
    folder = st.radio("Upload", ["images", "a folder"], horizontal=True) == "a folder"
    categories = [None, *sorted(bundle.categories)]
    known = categories.index(look.category) if look.category in categories else 0
    with st.form("upload"):
        category = st.selectbox(
            "Category of the images",
            categories,
            index=known or None,
            format_func=plain,
            placeholder="none: no anomaly score",
        )
        files = st.file_uploader(
            f"At most {look.desk.config.max_uploads} files of {look.desk.config.max_upload_mb} MB",
            type=_KINDS,
            accept_multiple_files="directory" if folder else True,
        )
        wanted = st.form_submit_button("Score")
    if not wanted or not files:
        return
    uploads = [Upload(file.name, file.getvalue()) for file in files]
    check_uploads(look.desk.config, uploads)
    with st.spinner(f"scoring {len(uploads)} images"):
        answers = scorer.score(uploads, category)
    # Numbered, for a folder may hold the same name twice.
    many = len(answers) > 1
    names = [f"{n} · {a.name}" if many else a.name for n, a in enumerate(answers, start=1)]
    _table(names, answers)
    for name, upload, answer in zip(names, uploads, answers, strict=True):
        if answer.refused is None:
            with st.expander(escaped(name), expanded=not many):
                _one(look, name, upload, answer, category)


def _table(names: list[str], answers: list[Answer]) -> None:
    """The scores that there are, and below them what was refused and why."""
    pairs = list(zip(names, answers, strict=True))
    scored = [(name, answer.scores) for name, answer in pairs if answer.scores is not None]
    there = [n for n in _SCORES if any(scores.get(n) is not None for _, scores in scored)]
    rows = [[name, *(_shown(scores.get(n)) for n in there)] for name, scores in scored]
    if rows:
        st.html(markup.table("Scores", ["file", *there], rows))
    refused = [[name, answer.refused] for name, answer in pairs if answer.refused is not None]
    if refused:
        st.html(markup.table("Not scored", ["file", "why"], refused))


def _shown(value: object) -> str:
    return "–" if value is None else f"{value:.6g}"


def _one(look: Looking, name: str, upload: Upload, answer: Answer, category: str | None) -> None:
    limits = look.desk.config.limits
    try:
        found = decode(upload.content, DecodeLimits(limits.max_pixels, limits.min_side))
    except ImageError as error:
        st.error(escaped(error))
        return
    st.image(large(found.pixels, answer.boxes), caption=escaped(name))
    # An oracle needs the truth, which nobody knows of an upload.
    policies = [one for one in look.usable.resolved.values() if not one.policy.oracle]
    rows = decisions(answer, policies, category)
    st.html(
        markup.table("What the policies decide, and why", ["policy", "decision", "because"], rows)
    )
