"""Calibrating: a published run in, a new bundle around the same scorer out; no image is read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import pyarrow as pa

from pipeline.config import CalibrateConfig
from pipeline.errors import InputError
from pipeline.scoring.build import recalibrate
from pipeline.scoring.bundle import Bundle, open_bundle
from pipeline.scoring.bundle_training import MODEL_OF
from pipeline.scoring.calibration import (
    LOGIT,
    PROBABILITY,
    ScoreThresholds,
    as_json,
    probability_map,
    score_thresholds,
    thresholds_table,
)
from pipeline.scoring.calibration_rows import (
    CalibrationRows,
    calibration_rows,
    require_unseen,
)
from pipeline.scoring.thresholds_file import sealed
from pipeline.stats.selection import Rules
from pipeline.stats.thresholds import Costs
from pipeline.tables import storage
from pipeline.tables.runs import load_published
from pipeline.tables.schemas import RELIABILITY

THRESHOLDS_TABLE = "thresholds.parquet"
RELIABILITY_TABLE = "reliability.parquet"

ASSUMPTION = (
    "Every bound assumes that the calibration images and the production images are exchangeable: "
    "the same parts, line, camera and light. Where that changes, no bound holds."
)
# What the numbers are computed with.
_PACKAGES = ("linescore", "numpy", "scikit-learn", "scipy")

log = logging.getLogger("linescore")


def run_calibrate(config: CalibrateConfig) -> dict[str, Any]:
    """Finds thresholds and a probability map and puts them into a new bundle.

    Returns:
        The calibration's report: the bundle's place, what was found, on what.

    Raises:
        InputError: something given is wrong, or nothing can be found; nothing was written.
    """
    store = storage.absolute(config.store)
    with storage.errors_for(store, "store"):
        published = load_published(store, config.run_id)
        bundle = open_bundle(config.bundle, store)
        _require_scorer(bundle, published, config.run_id)
        rows = calibration_rows(store, config.run_id)
    columns = _columns(config, rows)
    doubts = _doubts(config, bundle, rows, columns)
    found = {
        column: score_thresholds(rows, column, _rules(config), doubts[MODEL_OF[column]])
        for column in columns
    }
    _require_some(found, config.run_id)
    probability, bins = _probability(config, rows, columns)
    content = {
        "assumption": ASSUMPTION,
        "provenance": _provenance(published, rows, _seen(bundle, doubts)),
        "settings": config.model_dump(mode="json", exclude={"store", "bundle", "run_id", "s3"}),
        "thresholds": as_json(found),
        "probability": probability,
    }
    storage.require_writable(store, "store")
    return _write(store, bundle, content, {THRESHOLDS_TABLE: thresholds_table(found),
                                           RELIABILITY_TABLE: bins})  # fmt: skip


def _require_scorer(bundle: Bundle, published: Mapping[str, Any], run_id: str) -> None:
    scorer = published.get("scorer_digest")
    if scorer != bundle.scorer_digest:
        raise InputError(
            f"run_id: {run_id}: was scored with the scorer {str(scorer)[:16]}, and bundle "
            f"{bundle.uri} has the scorer {bundle.scorer_digest[:16]}: thresholds hold for the "
            f"scores they were found on. Name the run's own bundle, "
            f"bundle={str(published.get('bundle_digest'))[:16]}, or score with this one first"
        )


def _columns(config: CalibrateConfig, rows: CalibrationRows) -> tuple[str, ...]:
    if not rows.columns:
        raise InputError(f"run_id: {rows.run_id}: has no score at all; there is nothing to do")
    for name in config.scores or ():
        if name not in rows.columns:
            raise InputError(
                f"scores: {name}: is null throughout the run {rows.run_id}: the model was off, or "
                f"is not in the bundle; there are {', '.join(rows.columns)}"
            )
    return config.scores or rows.columns


def _rules(config: CalibrateConfig) -> Rules:
    return Rules(
        misses_allowed=config.misses_allowed,
        confidence=config.confidence,
        false_positive_rate=config.false_positive_rate,
        costs=Costs(**config.cost.model_dump()) if config.cost else None,
        missing=config.missing_scores,
    )


def _doubts(
    config: CalibrateConfig, bundle: Bundle, rows: CalibrationRows, columns: tuple[str, ...]
) -> dict[str, str | None]:
    """Per model why its scores carry no bound; refuses those of images that it has seen."""
    doubts: dict[str, str | None] = {}
    for model in dict.fromkeys(MODEL_OF[column] for column in columns):
        seen = bundle.trained_on(model)
        doubts[model] = None
        if seen is not None:
            spare = [column for column in columns if MODEL_OF[column] != model]
            require_unseen(rows, seen, model, spare)
            doubts[model] = rows.doubt
        elif not config.assume_unseen:
            doubts[model] = f"the bundle has no record of the images that its {model} has seen"
            log.warning(
                "%s: %s; thresholds of its scores carry no bound (assume_unseen=true says that "
                "it saw none of these)", model, doubts[model],
            )  # fmt: skip
    if rows.doubt is not None and rows.doubt in doubts.values():
        log.warning(
            "run %s: %s; thresholds carry no bound. A run without skip_scored and since_run takes "
            "earlier scores over, and can be calibrated on with bounds", rows.run_id, rows.doubt,
        )  # fmt: skip
    return doubts


def _require_some(found: Mapping[str, ScoreThresholds], run_id: str) -> None:
    answers = [
        threshold
        for by_category in found.values()
        for rules in by_category.values()
        for threshold in rules.values()
    ]
    if all(threshold.value is None for threshold in answers):
        reasons = dict.fromkeys(threshold.says for threshold in answers)
        raise InputError(
            f"run_id: {run_id}: no threshold can be found: {next(iter(reasons))}; give defects "
            "the role validation, or more good images the role normal_calibration, score again"
        )


def _probability(
    config: CalibrateConfig, rows: CalibrationRows, columns: tuple[str, ...]
) -> tuple[dict[str, Any], pa.Table]:
    if config.probability == "none" or not {LOGIT, PROBABILITY} & set(columns):
        return {}, RELIABILITY.empty_table()
    facts, bins = probability_map(rows.validation, config.probability)
    if facts["map"] is None:
        log.warning("probability: none: %s", facts["reason"])
    return {PROBABILITY: facts}, bins


def _seen(bundle: Bundle, doubts: Mapping[str, str | None]) -> dict[str, str]:
    """What is known of each model's training, in words."""
    words = {}
    for model, doubt in doubts.items():
        recorded = bundle.trained_on(model) is not None
        known = "saw none of these images" if recorded else "said to have seen none of these images"
        words[model] = doubt or known
    return words


def _provenance(
    published: Mapping[str, Any], rows: CalibrationRows, seen: Mapping[str, str]
) -> dict[str, Any]:
    names = ("run_id", "finished_at", "manifest_digest", "scorer_digest")
    run = {name: published.get(name) for name in names}
    return {"run": run, "roles": rows.facts, "models": dict(seen)}


def _write(
    store: str, bundle: Bundle, content: Mapping[str, Any], tables: Mapping[str, pa.Table]
) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    whole = sealed(content, now)
    files = {name: storage.parquet_bytes(table) for name, table in tables.items()}
    provenance = {
        "calibrated_at": now,
        "settings": content["settings"],
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }
    uri, digest = recalibrate(bundle, store, whole, files, provenance)
    return {
        "kind": "calibrate",
        "bundle": uri,
        "bundle_digest": digest,
        "scorer_digest": bundle.scorer_digest,
        "content": whole,
    }
