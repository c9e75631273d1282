"""Images that a person brings: scored with a bundle in this process, kept nowhere."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.app.images import Box
from pipeline.config import AppConfig, LimitsConfig
from pipeline.errors import InputError
from pipeline.policy.language import Part, Resolved, explain
from pipeline.scoring.bundle import Bundle, open_bundle

if TYPE_CHECKING:
    from pipeline.scoring.direct import ImageScorer, Scored

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Upload:
    """A file as the browser sent it.

    Attributes:
        name: what the person's machine calls it; never used as a place.
        content: its bytes.
    """

    name: str
    content: bytes


@dataclass(frozen=True)
class Answer:
    """What became of an upload.

    Attributes:
        name: of the upload.
        scores: a row of `scores`; None: it has none.
        boxes: its detections, most confident first.
        refused: why it has no scores; None: it has.
    """

    name: str
    scores: dict[str, Any] | None
    boxes: tuple[Box, ...]
    refused: str | None


def check_uploads(config: AppConfig, uploads: Sequence[Upload]) -> None:
    """Refuses more, or larger, files than the app was started for.

    Raises:
        InputError: with the limit.
    """
    if len(uploads) > config.max_uploads:
        raise InputError(
            f"upload: {len(uploads)} files; at most {config.max_uploads} are scored at once: take "
            "fewer, or start the app with a larger max_uploads="
        )
    for one in uploads:
        if len(one.content) > config.max_upload_mb * _MEGABYTE:
            raise InputError(
                f"upload: {one.name}: has {len(one.content) / _MEGABYTE:.1f} MB; at most "
                f"{config.max_upload_mb} are taken"
            )


class UploadScorer:
    """The models of a bundle, loaded when the first image comes. One upload at a time."""

    def __init__(self, reference: str, store: str, limits: LimitsConfig) -> None:
        self._reference, self._store, self._limits = reference, store, limits
        self._lock = threading.Lock()
        self._scorer: ImageScorer | None = None

    @property
    def bundle(self) -> Bundle:
        """The bundle.

        Raises:
            InputError: there is none, or it is damaged.
        """
        return self._loaded().bundle

    def _loaded(self) -> ImageScorer:
        if self._scorer is None:
            # Brings torch, which a person who only looks needn't wait for.
            from pipeline.scoring.direct import ImageScorer

            self._scorer = ImageScorer(
                open_bundle(self._reference, self._store), limits=self._limits
            )
        return self._scorer

    def score(self, uploads: Sequence[Upload], category: str | None) -> list[Answer]:
        """Scores uploads, in their order; what can't be scored is told why.

        Args:
            uploads: the files.
            category: of all of them; None: they get no anomaly score.

        Raises:
            InputError: a category that the bundle doesn't know.
            RunError: there is no memory for a single image.
        """
        with self._lock, tempfile.TemporaryDirectory(prefix="linescore-upload-") as folder:
            places = []
            for number, one in enumerate(uploads):
                # Never under the name that somebody else chose.
                place = Path(folder) / f"{number:05d}"
                place.write_bytes(one.content)
                places.append(str(place))
            found = self._loaded().files(places, [category] * len(places))
            return _answers(uploads, places, found)


def _answers(uploads: Sequence[Upload], places: Sequence[str], found: Scored) -> list[Answer]:
    scores = {row["uri"]: row for row in found.scores.to_pylist()}
    errors = {row["uri"]: row for row in found.errors.to_pylist()}
    boxes = _boxes(found.detections)
    answers = []
    for one, place in zip(uploads, places, strict=True):
        row, error = scores.get(place), errors.get(place)
        if row is None:
            message = str(error["error_message"]) if error else "no reason is known"
            says = f"{error['error_type'] if error else 'failed'}: {message}"
            answers.append(Answer(one.name, None, (), says.replace(place, one.name)))
        else:
            answers.append(Answer(one.name, row, tuple(boxes.get(row["image_id"], ())), None))
    return answers


def _boxes(table: pa.Table) -> dict[int, list[Box]]:
    found: dict[int, list[Box]] = {}
    for row in table.sort_by([("image_id", "ascending"), ("box_index", "ascending")]).to_pylist():
        corners = (row["x_min"], row["y_min"], row["x_max"], row["y_max"])
        box = Box(corners, row["confidence"], row["class_name"] or "no name")
        # The same image twice has the same boxes twice: one of each is enough.
        mine = found.setdefault(row["image_id"], [])
        if row["box_index"] == len(mine):
            mine.append(box)
    return found


def decisions(
    answer: Answer, policies: Sequence[Resolved], category: str | None
) -> list[list[str]]:
    """What policies decide of an upload, and why: name, outcome, reason."""
    if answer.scores is None:
        return []
    rows = []
    for policy in policies:
        scores = {name: answer.scores.get(name) for name in policy.dtypes}
        try:
            found = explain(policy, Part(category), scores)
        except InputError as error:
            rows.append([policy.policy.name, "refused", str(error)])
            continue
        because = "; ".join([*found.reasons, *(one.says for one in found.because)])
        rows.append([policy.policy.name, found.outcome, because or "so for every image"])
    return rows
