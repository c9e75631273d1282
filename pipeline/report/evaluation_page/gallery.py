"""The mistakes of each policy, missed defects first, with their images where they can be read."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.evaluation_page.contents import EvaluationReport
from pipeline.report.evaluation_page.policies import Entry

# Mistakes shown of each kind and policy; the others are in mistakes.parquet.
MOST = 12
_KINDS = (("false_negative", "missed defects"), ("false_positive", "false alarms"))


@dataclass(frozen=True)
class Card:
    """One mistake; `picture` is the number of its image, `lacking` says why there is none."""

    row: Mapping[str, Any]
    picture: int | None
    lacking: str


@dataclass(frozen=True)
class Wall:
    """The mistakes of one kind: those shown, and how many there are in the table and in all."""

    kind: str
    title: str
    cards: Sequence[Card]
    listed: int
    made: int


@dataclass(frozen=True)
class Gallery:
    """Walls by the number of their entry, and each image once, as a data URI."""

    walls: Mapping[int, Sequence[Wall]]
    pictures: Sequence[str]


def shown_images(report: EvaluationReport, entries: Iterable[Entry]) -> list[str]:
    """The uris of the images that the gallery shows: those that thumbnails are wanted of."""
    rows = _rows(report.mistakes, {entry.name for entry in entries})
    near = [row for kinds in rows.values() for found in kinds.values() for row in found[:MOST]]
    return list(dict.fromkeys(row["uri"] for row in near if row["uri"] is not None))


def gallery(report: EvaluationReport, entries: Sequence[Entry]) -> Gallery:
    """Of every shown policy the mistakes nearest to a threshold.

    Mistakes stand beside a policy's first entry: the table doesn't tell rows that chose from rows
    that judge.
    """
    rows = _rows(report.mistakes, {entry.name for entry in entries})
    pictures = _Pictures(report.thumbnails)
    walls: dict[int, list[Wall]] = {}
    told: set[tuple[str, str]] = set()
    for entry in entries:
        whose = entry.name, str(entry.row["digest"])
        if whose not in told:
            told.add(whose)
            walls[entry.number] = list(_walls(entry, rows.get(whose, {}), pictures))
    return Gallery(walls, pictures.uris)


def _rows(
    mistakes: pa.Table, names: set[str]
) -> dict[tuple[str, str], dict[str, list[dict[str, Any]]]]:
    """Rows by policy and kind, in the order of their ranks."""
    wanted = mistakes.filter(pc.is_in(mistakes["policy"], pa.array(names, pa.string())))
    found: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for row in sorted(wanted.to_pylist(), key=lambda row: row["rank"]):
        kinds = found.setdefault((row["policy"], row["digest"]), {})
        kinds.setdefault(row["kind"], []).append(row)
    return found


def _walls(
    entry: Entry, rows: Mapping[str, list[dict[str, Any]]], pictures: _Pictures
) -> Iterable[Wall]:
    for (kind, title), made in zip(_KINDS, ("fn", "fp"), strict=True):
        found = rows.get(kind, [])
        cards = [Card(row, *pictures.of(row["uri"])) for row in found[:MOST]]
        yield Wall(kind, title, cards, len(found), max(entry.row[made] or 0, len(found)))


class _Pictures:
    """Numbers images and keeps each once."""

    def __init__(self, thumbnails: Mapping[str, bytes] | None) -> None:
        self.uris: list[str] = []
        self._thumbnails = thumbnails
        self._numbers: dict[str, int] = {}

    def of(self, uri: str | None) -> tuple[int | None, str]:
        """The number of an image, or None and why there is none."""
        if self._thumbnails is None:
            return None, ""
        if uri is None:
            return None, "the table doesn't say where this image lies"
        if uri not in self._numbers:
            data = data_uri(self._thumbnails.get(uri, b""))
            if data is None:
                return None, "the image could not be read"
            self._numbers[uri] = len(self.uris)
            self.uris.append(data)
        return self._numbers[uri], ""


def data_uri(image: bytes) -> str | None:
    """A PNG, JPEG or WebP as a data URI; None for anything else, which a page must not hold."""
    kinds = {
        "png": image.startswith(b"\x89PNG\r\n\x1a\n"),
        "jpeg": image.startswith(b"\xff\xd8\xff"),
        "webp": image.startswith(b"RIFF") and image[8:12] == b"WEBP",
    }
    kind = next((name for name, is_it in kinds.items() if is_it), None)
    if kind is None:
        return None
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
