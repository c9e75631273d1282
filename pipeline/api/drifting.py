"""Has the line changed? Rows against a reference, by the rules of jobs/monitor.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.api.sources import Placed, Source, placed
from pipeline.config import MonitorConfig, checked
from pipeline.errors import InputError
from pipeline.evaluation.monitor.comparing import compare
from pipeline.evaluation.monitor.counting import KINDS_OF, Work, scales_of, sketches
from pipeline.evaluation.monitor.deciding import InUse
from pipeline.evaluation.monitor.opening import number_columns
from pipeline.evaluation.monitor.rows import Chosen, chosen_rows
from pipeline.evaluation.monitor.sketch import RunSketch
from pipeline.evaluation.monitor.tables import drift_table, verdicts_table
from pipeline.evaluation.monitor.verdicts import worst
from pipeline.evaluation.table import ScoredTable, open_files, open_runs

_REFERENCE, _ROWS = "reference", "rows"
# Rows in memory say nothing of what scored them: they are taken to be of the other's scorer.
_UNKNOWN = ""


@dataclass(frozen=True)
class Drift:
    """What was found.

    Attributes:
        verdict: the worst: drift, watch, ok or not_comparable.
        verdicts: a row per category, with the reason in words.
        measures: a row per comparison: both means, PSI, KS, p-value, verdict.
        warnings: what a reader has to know.
    """

    verdict: str
    verdicts: pa.Table
    measures: pa.Table
    warnings: tuple[str, ...]


def compare_drift(reference: Source, rows: Source, **settings: Any) -> Drift:
    """Compares scores and looks of rows with those of a reference, category by category.

    Images without scores are not compared here, nor what policies flag: jobs/monitor.py does both.

    Args:
        reference: a run, a Parquet file, or rows in memory with `category` and `is_defect`; of what
            is compared, the columns that it has.
        rows: the same, of the same scorer, with at least the columns that are compared.
        settings: of jobs/monitor.py: `scores`, `good_only`, `roles`, `alpha`, `min_images`, …

    Raises:
        InputError: a source or setting that can't be used, runs of two scorers, or no category
            that both have.
    """
    fixed = {"store": ".", "run_id": _ROWS, "reference": _REFERENCE}
    config = checked(MonitorConfig, settings | fixed, lambda _: "settings")
    places = placed(reference), placed(rows)
    first, second = (_opened(place) for place in places)
    names = number_columns(config, (), first)
    lacking = [name for name in names if name not in second.scores]
    if lacking:
        raise InputError(f"rows: have no column {lacking[0]} of floats, which the reference has")
    kinds = [name for name in KINDS_OF if name in first.names - second.names]
    if kinds:
        raise InputError(
            f"rows: have no column {kinds[0]}, which the reference has; add it, or leave it out of "
            "both"
        )
    chosen = [chosen_rows(t, config.roles, good_only=config.good_only) for t in (first, second)]
    work = Work(scales_of(first, chosen[0], names), names, InUse())
    scorers = [str(t.origin.get("scorer_digest", _UNKNOWN)) for t in (first, second)]
    known = next((one for one in scorers if one != _UNKNOWN), _UNKNOWN)
    sketched = [
        _sketch(name, table, mine, (work, scorer or known))
        for name, table, mine, scorer in zip(
            (_REFERENCE, _ROWS), (first, second), chosen, scorers, strict=True
        )
    ]
    found = compare(config, sketched[0], sketched[1], InUse())
    verdicts = verdicts_table(found.verdicts, found.reference.categories, found.run.categories)
    verdict = worst(one.verdict for one in found.verdicts)
    return Drift(verdict, verdicts, drift_table(found.measures), found.warnings)


def _opened(place: Placed) -> ScoredTable:
    settings = place.settings
    if "table" in settings:
        return open_files(settings["table"], {})
    return open_runs(settings["store"], settings["run_id"])


def _sketch(name: str, table: ScoredTable, chosen: Chosen, how: tuple[Work, str]) -> RunSketch:
    work, scorer = how
    return RunSketch(name, scorer, chosen.says, sketches(table, chosen, work), {})
