"""What a person looks at, as the page's address carries it: a view can be sent to a colleague."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from pipeline.tables.labels import holds_controls

PAGES = ("counts", "gallery", "image", "compare", "upload")
FALSE_NEGATIVE, FALSE_POSITIVE, NEAR, ANOMALOUS, REVIEW, EVERY = (
    "false_negatives",
    "false_positives",
    "near_misses",
    "most_anomalous",
    "review",
    "all",
)
KINDS = (FALSE_NEGATIVE, FALSE_POSITIVE, NEAR, ANOMALOUS, REVIEW, EVERY)
# An address is somebody else's text: longer values than this are none of ours.
_LONGEST = 300
_ID_END = 2**63
_MOVED = "move"


@dataclass(frozen=True)
class View:
    """One view.

    Attributes:
        page: which page.
        run: the run; None: the last published one.
        category: its images only; None: all.
        policy: the policy; None: the first one.
        score: the score that is drawn; None: the policy's first.
        moves: thresholds that were moved: number of the slider, and where to.
        labels: labels that people gave count instead of the manifest's.
        kind: of images in the gallery.
        defect_type: only defects of this type.
        low: only scores from here on.
        high: only scores up to here.
        sheet: of the gallery, from 1.
        image: image_id of the one that is shown large.
        boxes: the detector's boxes are drawn.
        mask: the ground truth's outline is drawn.
        other_policy: that `policy` is compared with.
        other_run: that `run` is compared with.
    """

    page: str = "counts"
    run: str | None = None
    category: str | None = None
    policy: str | None = None
    score: str | None = None
    moves: tuple[tuple[int, float], ...] = ()
    labels: bool = False
    kind: str = FALSE_NEGATIVE
    defect_type: str | None = None
    low: float | None = None
    high: float | None = None
    sheet: int = 1
    image: int | None = None
    boxes: bool = True
    mask: bool = True
    other_policy: str | None = None
    other_run: str | None = None

    @property
    def moved(self) -> dict[int, float]:
        """By slider where its threshold is."""
        return dict(self.moves)


def to_query(view: View) -> dict[str, str]:
    """The view as parameters of an address; what is as usual is left out."""
    usual = View()
    found: dict[str, str] = {}
    for field in fields(View):
        value = getattr(view, field.name)
        if field.name == "moves":
            found |= {f"{_MOVED}{number}": repr(to) for number, to in value}
        elif value != getattr(usual, field.name):
            found[field.name] = str(int(value)) if isinstance(value, bool) else str(value)
    return found


def from_query(query: Mapping[str, str]) -> tuple[View, list[str]]:
    """The view of an address, and what of it couldn't be understood, in words.

    Whether a run, a policy or an image exists is for the store to say.
    """
    usual = View()
    values: dict[str, object] = {}
    problems: list[str] = []
    moves: dict[int, float] = {}
    known = {field.name for field in fields(View)} - {"moves"}
    for name, text in query.items():
        try:
            if name in known:
                values[name] = _value(name, text, getattr(usual, name))
            else:
                moves[_slider(name)] = _number(text)
        except ValueError as error:
            problems.append(f"{name[:_LONGEST]}: {text[:_LONGEST]!r}: {error}")
    values["moves"] = tuple(sorted(moves.items()))
    return View(**values), problems  # type: ignore[arg-type]


def _slider(name: str) -> int:
    if not name.startswith(_MOVED):
        raise ValueError("is no part of a view")
    return _whole(name.removeprefix(_MOVED), 0, 1000)


def _value(name: str, text: str, usual: object) -> object:
    choices = {"page": PAGES, "kind": KINDS}.get(name)
    if choices is not None:
        if text not in choices:
            raise ValueError(f"is none of {', '.join(choices)}")
        return text
    if isinstance(usual, bool):
        return bool(_whole(text, 0, 1))
    if name == "sheet":
        return _whole(text, 1, 10**9)
    if name == "image":
        return _whole(text, 0, _ID_END - 1)
    if name in ("low", "high"):
        return _number(text)
    if not text or len(text) > _LONGEST or holds_controls(text):
        raise ValueError("is no name")
    return text


def _whole(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError("is no whole number")
    found = int(text)
    if not least <= found <= most:
        raise ValueError(f"is outside {least} to {most}")
    return found


def _number(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        raise ValueError("is no number") from None
    if not math.isfinite(found):
        raise ValueError("is no finite number")
    return found
