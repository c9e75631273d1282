"""Scoring images with a bundle in this process, without Ray: the job's rows, a block at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.config import LimitsConfig
from pipeline.errors import InputError, RunError
from pipeline.images.decode import DecodedImage
from pipeline.models.memory import NoMemoryError
from pipeline.scoring.bundle import Bundle
from pipeline.scoring.prepare import (
    Failure,
    Prepared,
    PrepareOptions,
    fetch,
    options_for,
    prepare_content,
    prepare_pixels,
)
from pipeline.scoring.reuse.join import BOX
from pipeline.scoring.rows import (
    box_rows,
    detection_rows,
    failed_rows,
    fill_columns,
    image_columns,
    score_rows,
    spread,
    usable_rows,
    without_value,
)
from pipeline.scoring.scorers import AnomalyScorer, DefectClassifier, bundle_detector
from pipeline.tables.manifest import image_id, uri_id
from pipeline.tables.schemas import DETECTIONS, ERRORS, SCORES

# Images that are in memory at once, as in the job's blocks.
BLOCK_ROWS = 32
MODELS = ("detector", "features", "classifier")
_GREY_AXES = 2
_CHANNELS = 3


@dataclass(frozen=True)
class Scored:
    """What became of N images: N = scores + errors, in the order in which they were given.

    Attributes:
        scores: rows of the table `scores`.
        detections: rows of `detections`.
        errors: rows of `errors`: images that have no scores, with the reason.
    """

    scores: pa.Table
    detections: pa.Table
    errors: pa.Table


class ImageScorer:
    """The models of a bundle, loaded, and what makes rows of images with them."""

    def __init__(
        self,
        bundle: Bundle,
        models: Sequence[str] | None = None,
        threads: int = 1,
        limits: LimitsConfig | None = None,
    ) -> None:
        """Loads the models.

        Args:
            bundle: opened.
            models: of `MODELS`; None: all that the bundle has.
            threads: of the arithmetic, of the whole process from now on; 1 is the job's default,
                and another number can change the last bits.
            limits: what is refused; None: the job's defaults.

        Raises:
            InputError: a model that the bundle hasn't or nobody knows, or a precision that this
                machine lacks.
        """
        self.bundle = bundle
        self.models = _models(bundle, models)
        self._features = AnomalyScorer(bundle, threads) if "features" in self.models else None
        self._classifier = (
            DefectClassifier(bundle, threads) if "classifier" in self.models else None
        )
        self._detector = bundle_detector(bundle, threads) if "detector" in self.models else None
        squares = self._features is not None or self._classifier is not None
        detector = bundle.spec.detector if self._detector is not None else None
        options = options_for(
            limits or LimitsConfig(),
            square=bundle.spec.image_size if squares else None,
            letterboxed=detector.image_size if detector is not None else None,
        )
        self._options = PrepareOptions(**{**vars(options), "facts": True})

    def rows(self, rows: pa.Table) -> Scored:
        """Scores rows of a manifest; a file that isn't what was indexed is an error's row.

        Args:
            rows: columns of `manifest`; `image_id`, `uri`, `sha256` and `category` are needed.
        """
        names = zip(rows["uri"].to_pylist(), rows["sha256"].to_pylist(), strict=True)
        images = (self._prepared(self._fetched(uri), uri, sha256) for uri, sha256 in names)
        return self._scored(rows, images)

    def files(self, uris: Sequence[str], categories: Sequence[str | None]) -> Scored:
        """Scores N files, whose `image_id` follows from their content, as in a manifest."""
        _check_lengths(len(uris), categories)
        contents = (self._fetched(uri) for uri in uris)
        ids: list[int] = []

        def images() -> Iterator[Prepared | Failure]:
            for uri, content in zip(uris, contents, strict=True):
                failed = isinstance(content, Failure)
                ids.append(uri_id(uri) if failed else image_id(_sha256(content)))
                yield self._prepared(content, uri, None)

        rows = pa.table({"uri": pa.array(uris, pa.string()), "category": _texts(categories)})
        return self._scored(rows, images(), ids)

    def arrays(self, images: Sequence[np.ndarray], categories: Sequence[str | None]) -> Scored:
        """Scores N images (H, W, 3) or (H, W) uint8; `image_id` and `uri` are their numbers."""
        _check_lengths(len(images), categories)
        for number, image in enumerate(images):
            _check_pixels(number, image)
        numbers = list(range(len(images)))
        uris = pa.array([f"array {number}" for number in numbers], pa.string())
        rows = pa.table({"image_id": numbers, "uri": uris, "category": _texts(categories)})
        prepared = (prepare_pixels(_as_image(image), self._options) for image in images)
        return self._scored(rows, prepared)

    def _fetched(self, uri: str) -> bytes | Failure:
        return fetch(uri, self._options.attempts, self._options.max_bytes)

    def _prepared(
        self, content: bytes | Failure, uri: str, sha256: str | None
    ) -> Prepared | Failure:
        return prepare_content(uri, content, sha256, self._options)

    def _scored(
        self, rows: pa.Table, images: Iterator[Prepared | Failure], ids: list[int] | None = None
    ) -> Scored:
        """Blocks of rows with their images, which are made as they are needed; ids where new."""
        self._check_categories(rows["category"].to_pylist())
        parts = [Scored(SCORES.empty_table(), DETECTIONS.empty_table(), ERRORS.empty_table())]
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows.slice(start, BLOCK_ROWS)
            results = [next(images) for _ in range(len(block))]
            if ids is not None:
                block = block.append_column("image_id", pa.array(ids[start:], pa.int64()))
            parts.append(self._block(block, results))
        scores, detections, errors = (
            pa.concat_tables([getattr(part, name) for part in parts])
            for name in ("scores", "detections", "errors")
        )
        return Scored(scores, detections, errors)

    def _block(self, rows: pa.Table, results: Sequence[Prepared | Failure]) -> Scored:
        for name, column in image_columns(results, facts=True).items():
            rows = rows.append_column(name, column)
        there = np.array([i for i, one in enumerate(results) if isinstance(one, Prepared)], int)
        images = [one for one in results if isinstance(one, Prepared)]
        try:
            rows = self._detected(rows, there, images)
            rows = self._measured(rows, there, images)
        except NoMemoryError:
            raise RunError(
                "score: a model finds no memory for a single image; free some, or leave a model out"
            ) from None
        scored, failed = usable_rows(rows), fill_columns(failed_rows(rows), ERRORS)
        boxes = detection_rows(scored) if "boxes" in rows.column_names else DETECTIONS.empty_table()
        return Scored(score_rows(scored, self.bundle.spec.anomaly_score), boxes, failed)

    def _detected(self, rows: pa.Table, there: np.ndarray, images: list[Prepared]) -> pa.Table:
        if self._detector is None:
            return rows
        found: list[list[dict[str, object]] | None] = [None] * len(rows)
        squares = [image.letterboxed for image in images if image.letterboxed is not None]
        detected = self._detector.detect(np.stack(squares)) if squares else []
        for row, image, boxes in zip(there, images, detected, strict=True):
            side, names = self._detector.settings.image_size, self._detector.class_names
            found[row] = box_rows(boxes, side, image.width, image.height, names)
        rows = rows.append_column("boxes", pa.array(found, pa.list_(BOX)))
        finite = np.array([boxes.finite for boxes in detected], bool)
        return without_value(rows, there[~finite], "boxes")

    def _measured(self, rows: pa.Table, there: np.ndarray, images: list[Prepared]) -> pa.Table:
        squares = [image.square for image in images if image.square is not None]
        stacked = np.stack(squares) if squares else None
        columns: dict[str, np.ndarray] = {}
        if self._features is not None and stacked is not None:
            names = rows["category"].to_pylist()
            found = self._features.score(stacked, [names[row] for row in there])
            columns |= {"anomaly_cells": found.cells, "anomaly_pooled": found.pooled}
            rows = without_value(rows, there[~found.finite], "features")
        if self._classifier is not None and stacked is not None:
            logits, probabilities = self._classifier.score(stacked)
            columns |= {"defect_logit": logits, "defect_probability": probabilities}
            rows = without_value(rows, there[~np.isfinite(logits)], "logits")
        for name, values in columns.items():
            rows = rows.append_column(name, spread(values, there, len(rows), pa.float32()))
        return rows

    def _check_categories(self, given: Sequence[str | None]) -> None:
        known = self.bundle.categories
        for number, category in enumerate(given):
            if category is not None and category not in known:
                raise InputError(
                    f"category: {category!r} of image {number}: the bundle has no Gaussians of it; "
                    f"it has those of {', '.join(sorted(known))}. Name one of them, or None for "
                    "an image that gets no anomaly score"
                )


def _models(bundle: Bundle, wanted: Sequence[str] | None) -> tuple[str, ...]:
    there = {
        "detector": bundle.spec.detector is not None,
        "features": True,
        "classifier": bundle.spec.classifier_batch is not None,
    }
    has = tuple(name for name in MODELS if there[name])
    if wanted is None:
        return has
    strange = [name for name in wanted if name not in has]
    if strange or not wanted:
        raise InputError(
            f"models: {strange[0] if strange else 'none'}: the bundle has {', '.join(has)}; "
            "name some of these"
        )
    return tuple(name for name in has if name in wanted)


def _texts(values: Sequence[str | None]) -> pa.Array:
    return pa.array(values, pa.string())


def _sha256(content: bytes | Failure) -> str:
    return hashlib.sha256(content if isinstance(content, bytes) else b"").hexdigest()


def _check_lengths(images: int, categories: Sequence[str | None]) -> None:
    # A single name would pass as a sequence of letters.
    given = 1 if isinstance(categories, str) else len(categories)
    if isinstance(categories, str) or given != images:
        raise InputError(
            f"categories: {given} categories for {images} images; give a list with one for each"
        )


def _check_pixels(number: int, image: np.ndarray) -> None:
    shape, kind = np.shape(image), getattr(image, "dtype", type(image).__name__)
    flat = len(shape) == _GREY_AXES
    if kind != np.uint8 or not (flat or (len(shape) == _CHANNELS and shape[2] == _CHANNELS)):
        raise InputError(
            f"images: image {number} has shape {shape} and type {kind}; (H, W, 3) RGB or (H, W) "
            "grey of uint8, 0 to 255, belongs there: convert it"
        )


def _as_image(pixels: np.ndarray) -> DecodedImage:
    if pixels.ndim == _GREY_AXES:
        pixels = np.repeat(pixels[:, :, None], _CHANNELS, axis=2)
    height, width, _ = pixels.shape
    # A copy of what is read-only, as PIL's arrays are: PyTorch warns of it otherwise.
    plain = np.require(pixels, requirements=("C", "W"))
    return DecodedImage(plain, width, height, "array", "RGB")
