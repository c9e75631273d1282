"""What policies, and sweeps over them, would have cost on rows with labels; nothing is written."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.api.deciding import Frame, as_arrow
from pipeline.api.stores import Run
from pipeline.config import EvaluateConfig, checked
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import Evaluated, evaluated, judged_scores, opened
from pipeline.evaluation.mistakes import mistakes
from pipeline.evaluation.quality import quality
from pipeline.evaluation.rows import decisions
from pipeline.evaluation.sweep.run import run_sweep
from pipeline.policy.language import Policy
from pipeline.scoring.bundle import Bundle
from pipeline.tables.evaluation_schemas import DECISIONS

# A run or several, a Parquet file or folder of them, or rows in memory.
Source: TypeAlias = Run | Sequence[Run] | str | Path | Frame
Own: TypeAlias = str | Path | Mapping[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """Policies, counted on the rows that judge them.

    Attributes:
        figures: rows of `figures`: per policy and level (all, macro, category, defect_type) the
            counts, and beside each rate its Wilson interval (`_low`, `_high`) and its
            Clopper–Pearson one (`_least`, `_most`).
        measured_on: which rows, in words.
    """

    figures: pa.Table
    measured_on: str
    _work: Evaluated
    _held: Any = field(repr=False)

    def quality(self, scores: Sequence[str] | None = None) -> pa.Table:
        """AUROC and average precision of scores, by category and over all, with intervals.

        Args:
            scores: columns of floats; None: those that the policies read.

        Raises:
            InputError: no such column.
        """
        wanted = None if scores is None else tuple(scores)
        config = self._work.config.model_copy(update={"scores": wanted})
        work = Evaluated(**{**vars(self._work), "config": config})
        names = judged_scores(work)
        return quality(work.table, work.grouping, names, config.confidence, config.seed)

    def mistakes(self, most: int = 200) -> pa.Table:
        """Missed defects and false alarms of each policy, those nearest to a threshold first.

        Args:
            most: of each kind and policy.
        """
        return mistakes(self._work.source, self._work.policies, most)

    def decisions(self, policy: str) -> pa.Table:
        """Decision and reason of every judged row.

        Args:
            policy: a name.

        Raises:
            InputError: no such policy.
        """
        found = {one.policy.name: one for one in self._work.policies}
        if policy not in found:
            raise InputError(f"policy: {policy}: is none of {', '.join(found)}")
        tables = decisions(self._work.source, found[policy])
        return pa.concat_tables([DECISIONS.empty_table(), *tables])


@dataclass(frozen=True)
class Sweep:
    """Policies from a template, counted, and what was chosen among them.

    Attributes:
        report: as in `evaluation.json`: `split` says which rows choose and which judge, `front`,
            `chosen`, `guarantee`, `warnings`.
        policies: one row per policy: its variables, its counts on both sides, `on_front`, `chosen`.
    """

    report: Mapping[str, Any]
    policies: pa.Table

    @property
    def chosen(self) -> Mapping[str, Any] | None:
        """What was chosen: `variables`, `figures` by side, `document`; None: nothing."""
        found: Mapping[str, Any] | None = self.report["chosen"]
        return found


def evaluate(
    source: Source,
    policies: Policy | Sequence[Policy],
    *,
    thresholds: Own | Bundle | None = None,
    **settings: Any,
) -> Evaluation:
    """Counts policies on the rows that judge them: by default those that chose and trained nothing.

    Args:
        source: a run, runs of one scorer, a Parquet file, or rows in memory with `category`,
            `is_defect` and the scores.
        policies: from `load_policy`.
        thresholds: what their references name: a JSON file, a dictionary, or a calibrated bundle.
        settings: of jobs/evaluate.py: `roles`, `confidence`, `columns`, `memory_mb`, `seed`, …

    Raises:
        InputError: a table, policy, threshold or setting that can't be used, or no row to judge.
    """
    given = [policies] if isinstance(policies, Policy) else list(policies)
    with _settled(source, thresholds, settings | {"policies": _sources(given)}) as settled:
        work = evaluated(settled.config, given, opened(settled.config))
        return Evaluation(work.figures, work.measured_on, work, settled.rows)


def evaluate_sweep(
    source: Source,
    sweep: Own,
    *,
    thresholds: Own | Bundle | None = None,
    **settings: Any,
) -> Sweep:
    """Counts every policy of a sweep, chooses on some rows, judges on others.

    Args:
        source: as for `evaluate`.
        sweep: a sweep file, or the same as a dictionary.
        thresholds: as for `evaluate`.
        settings: of jobs/evaluate.py: `holdout` (a dictionary), `guarantee`, `roles`, …

    Raises:
        InputError: as `evaluate`, or something in the sweep.
    """
    with tempfile.TemporaryDirectory(prefix="linescore-sweep-") as folder:
        file = _as_file(sweep, Path(folder) / "sweep.json")
        with _settled(source, thresholds, settings | {"sweep": file}) as settled:
            return Sweep(*run_sweep(settled.config, opened(settled.config)))


class _Folder:
    """A folder that goes with the last thing that holds it."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="linescore-rows-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True)
class _Settled:
    """Settings of an evaluation, and the folder of rows that were in memory."""

    config: EvaluateConfig
    rows: _Folder | None


@contextmanager
def _settled(
    source: Source, thresholds: Own | Bundle | None, settings: Mapping[str, Any]
) -> Iterator[_Settled]:
    """What is in memory as files: rows live as long as what was made of them, the rest shorter."""
    values: dict[str, Any] = {"store": "."} | dict(settings)
    rows = None
    if isinstance(source, Run) or _are_runs(source):
        runs = [source] if isinstance(source, Run) else list(source)
        values |= {"store": _one_store(runs), "run_id": tuple(run.run_id for run in runs)}
    elif isinstance(source, str | Path):
        values |= {"table": str(source)}
    else:
        table = as_arrow(source)
        rows = _Folder()
        values |= {"table": str(rows.path / "rows.parquet")}
        pq.write_table(table, values["table"])
    with tempfile.TemporaryDirectory(prefix="linescore-thresholds-") as folder:
        if isinstance(thresholds, Bundle):
            values |= {"bundle": thresholds.uri}
        elif thresholds is not None:
            file = _as_file(thresholds, Path(folder) / "thresholds.json")
            values |= {"thresholds": (file,)}
        config = checked(EvaluateConfig, values, lambda _: "settings")
        yield _Settled(config, rows)


def _are_runs(source: Source) -> TypeGuard[Sequence[Run]]:
    return isinstance(source, list | tuple) and all(isinstance(one, Run) for one in source)


def _one_store(runs: Sequence[Run]) -> str:
    stores = list(dict.fromkeys(run.store for run in runs))
    if len(stores) != 1:
        says = ", ".join(stores) or "there is none"
        raise InputError(f"source: give one run, or runs of one store; {says}")
    return stores[0]


def _sources(policies: Sequence[Policy]) -> tuple[str, ...]:
    """For the settings, which want to know of a policy; names tell results apart.

    Raises:
        InputError: no policy, or two of one name.
    """
    names = [policy.name for policy in policies]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        says = f"{twice[0]} is the name of two" if twice else "there is none"
        raise InputError(f"policies: {says}; give one or more, with different names")
    return tuple(policy.source for policy in policies)


def _as_file(given: Own, target: Path) -> str:
    if not isinstance(given, Mapping):
        return str(given)
    try:
        target.write_text(json.dumps(given), encoding="utf-8")
    except (TypeError, ValueError) as error:
        raise InputError(f"{target.stem}: can't be written as JSON: {error}") from None
    return str(target)
