"""Names from the data as the page may show them: never markup, never a control character."""

from __future__ import annotations

import re

from pipeline.report.page import printable

# Whatever Markdown, its extensions in Streamlit (:red[…], $…$) or HTML give a meaning to.
_MARKS = re.compile(r"([!-/:-@\[-`{-~])")
# Turn the direction of what follows, also outside of the name.
_DIRECTIONS = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LONGEST = 200


def plain(name: object) -> str:
    """One line of text, without what a page can't hold; a long name is shortened."""
    text = str(printable(str(name)))
    text = _DIRECTIONS.sub("\ufffd", text).replace("\n", " ").replace("\t", " ")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def escaped(name: object) -> str:
    """The same where Streamlit reads Markdown: every mark stands for itself."""
    return _MARKS.sub(r"\\\1", plain(name))


def file_name(uri: str) -> str:
    """The last two parts of a place: enough to know it by."""
    return "/".join(uri.rstrip("/").rsplit("/", 2)[-2:])
