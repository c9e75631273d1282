"""An evaluation from its settings to its tables: what every policy would have cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config import EvaluateConfig
from pipeline.errors import InputError, NoVerdictError
from pipeline.evaluation.comparing import compared
from pipeline.evaluation.counting import SCAN, Outcomes, Way, outcomes, parts_of
from pipeline.evaluation.figures import Judged, figures_table, named, population
from pipeline.evaluation.folder import folder_of, write_decisions, write_report
from pipeline.evaluation.groups import Grouping
from pipeline.evaluation.histograms import histograms, thresholds_in_use
from pipeline.evaluation.kept import KeptCells
from pipeline.evaluation.labelling import labelled_from
from pipeline.evaluation.mistakes import mistakes
from pipeline.evaluation.policies import KnownThresholds, known_thresholds, read_policies, resolved
from pipeline.evaluation.quality import quality
from pipeline.evaluation.rows import RowSource, explained
from pipeline.evaluation.seen import scores_read, seen_images, standing
from pipeline.evaluation.sides import judging, require_rows
from pipeline.evaluation.sweep.run import run_sweep
from pipeline.evaluation.table import ScoredTable, open_files, open_runs, repeated_images
from pipeline.policy.choosing.confusion import Decided
from pipeline.policy.language import Policy, Resolved
from pipeline.tables import storage

SCHEMA_VERSION = "1"


@dataclass(frozen=True)
class Evaluated:
    """Policies counted on the rows of a table.

    Attributes:
        config: the settings.
        table: the rows.
        grouping: of the rows that judge.
        policies: resolved.
        known: where thresholds come from.
        counted: what they make of each group.
        measured_on: which rows, in words.
    """

    config: EvaluateConfig
    table: ScoredTable
    grouping: Grouping
    policies: tuple[Resolved, ...]
    known: KnownThresholds
    counted: Outcomes
    measured_on: str

    @property
    def decided(self) -> Decided:
        """For figures and choices."""
        review = self.counted.review if self.counted.review.any() else None
        people = population(self.grouping.groups, self.grouping.counts)
        return Decided(self.counted.defect, review, people)

    @property
    def figures(self) -> pa.Table:
        """What every policy makes of them, with intervals (`figures` table)."""
        judged = Judged(named(self.policies), self.measured_on, self.config.confidence)
        return figures_table(self.decided, judged)

    @property
    def source(self) -> RowSource:
        """The rows, for what is told row by row."""
        scores = tuple(sorted({name for policy in self.policies for name in policy.dtypes}))
        return RowSource(self.table, self.grouping, scores)


def opened(config: EvaluateConfig) -> ScoredTable:
    """The table that is evaluated.

    Raises:
        InputError: no such run or file, or one that can't be used.
        NoVerdictError: no image of the runs was scored.
    """
    if config.table is not None:
        table = open_files(storage.absolute(config.table), config.columns)
    elif config.columns:
        raise InputError("columns: runs have columns of their own; give table= with columns=")
    else:
        table = _scored_runs(config)
    return table if config.labels is None else labelled_from(table, storage.absolute(config.labels))


def _scored_runs(config: EvaluateConfig) -> ScoredTable:
    table = open_runs(storage.absolute(config.store), config.run_id)
    if table.rows:
        return table
    failed, left = (
        table.origin[name] for name in ("images_without_scores", "images_left_to_others")
    )
    raise NoVerdictError(
        f"run_id: {table.name}: no image was scored ({failed} are in the errors table, {left} "
        "were left to earlier runs): there is nothing to evaluate"
    )


def evaluated(
    config: EvaluateConfig,
    policies: Sequence[Policy],
    table: ScoredTable,
    way: Way = SCAN,
) -> Evaluated:
    """Counts policies on the rows that judge them.

    Raises:
        InputError: a table, policy or threshold that can't be used.
    """
    known = known_thresholds(config, policies, table)
    sides = judging(table, config.roles, calibrated=known.calibrated, files=known.origin["files"])
    grouping = way.grouping(table, sides)
    rows = int(grouping.counts.sum())
    require_rows(table, rows)
    by_type = any(policy.oracle for policy in policies)
    parts, _ = parts_of(grouping.groups, by_type=by_type)
    found = tuple(resolved(policies, parts, known, table))
    counted = outcomes(found, table, grouping, config.memory_mb << 20, way.count)
    read = scores_read(policies) | {*(config.scores or ())}
    seen = seen_images(table, storage.absolute(config.store), known, read, way.alike)
    among = way.overlaps(table, sides, seen.ids)
    done = standing(seen, among, rows, config.roles or (), calibrated=known.calibrated)
    says = "; ".join([sides.says, *done])
    return Evaluated(config, table, grouping, found, known, counted, says)


def run_evaluate(config: EvaluateConfig, way: Way | None = None) -> dict[str, Any]:
    """Evaluates policies and writes what came out to <store>/reports/<name>/.

    Args:
        config: the settings.
        way: how rows are counted; None: in this process, or from cells that were kept.

    Returns:
        The report: figures per policy, warnings, places; `explained` alone where an image was to
        be explained.

    Raises:
        InputError: something given is wrong; nothing is written.
        NoVerdictError: no image was scored; nothing is written.
        RunError: the rows were not what they were counted to be.
    """
    policies = read_policies(config.policies)
    for name, value in (("champion", config.champion), ("decide", config.decide)):
        _require_usable(policies, name, value)
    table = opened(config)
    way = way or (KeptCells(table).way if config.keep_cells else SCAN)
    if not policies:
        return write_report(config, *_sweep(config, table, way))
    work = evaluated(config, policies, table, way)
    if config.explain is not None:
        return {"explained": explained(work.source, work.policies, config.explain)}
    told, sweep_tables = _sweep(config, table, way) if config.sweep is not None else ({}, {})
    tables = {
        "figures": work.figures,
        "quality": quality(
            work.table, work.grouping, judged_scores(work), config.confidence, config.seed
        ),
        "mistakes": mistakes(work.source, work.policies, config.mistakes),
    }
    if config.html:
        tables["histograms"] = histograms(work.source)
    report = _report(work, tables) | told
    if config.champion is not None:
        report["flips"], tables["flips"] = _flips(work, config.champion)
    if config.decide is not None:
        report["decisions"] = _decided(work, config.decide)
    return write_report(config, report, tables | sweep_tables)


def _sweep(
    config: EvaluateConfig, table: ScoredTable, way: Way
) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    found, policies = run_sweep(config, table, way)
    about = {"name": config.name, "config": config.model_dump(mode="json")}
    return about | {"sweep": found}, {"sweep": policies}


def _flips(work: Evaluated, name: str) -> tuple[list[dict[str, Any]], pa.Table]:
    champion = next(one for one in work.policies if one.policy.name == name)
    others = [one for one in work.policies if one is not champion]
    return compared(work.source, champion, others)


def _decided(work: Evaluated, name: str) -> dict[str, Any]:
    number = next(n for n, one in enumerate(work.policies) if one.policy.name == name)
    flagged, review = (
        int(part[number].sum()) for part in (work.counted.defect, work.counted.review)
    )
    folder = folder_of(work.config)
    return write_decisions(work.source, work.policies[number], (flagged, review), folder)


def _require_usable(policies: Sequence[Policy], setting: str, name: str | None) -> None:
    """Refuses a name that no policy has, and an oracle, which no line can run.

    Raises:
        InputError: with the policies that there are.
    """
    if name is None:
        return
    known = {policy.name: policy for policy in policies}
    usable = ", ".join(n for n, policy in known.items() if not policy.oracle) or "none"
    if name not in known:
        raise InputError(f"{setting}: {name}: is no policy among {usable}")
    if known[name].oracle:
        raise InputError(
            f"{setting}: {name}: is an oracle: it reads the true defect type, which no line knows "
            f"before it decides; name another policy: {usable}"
        )


def judged_scores(work: Evaluated) -> list[str]:
    """The scores whose quality is told.

    Raises:
        InputError: one that the table lacks, or that isn't a number with a fraction.
    """
    wanted = work.config.scores
    if wanted is None:
        return list(work.source.scores)
    floats = [n for n, kind in work.table.scores.items() if kind in (np.float32, np.float64)]
    for name in wanted:
        if name not in floats:
            raise InputError(
                f"scores: {name}: is no score of {work.table.name}; it has {', '.join(floats)}"
            )
    return list(wanted)


def _report(work: Evaluated, tables: dict[str, pa.Table]) -> dict[str, Any]:
    config, origin = work.config, work.table.origin
    warnings = [
        f"{one.policy.name}: has overrides for {', '.join(one.unmatched)}, of which there is no row"
        for one in work.policies
        if one.unmatched
    ]
    warnings += _same_decisions(work.policies)
    if len(config.run_id) > 1 and not config.keep_cells and (again := repeated_images(work.table)):
        warnings.append(
            f"{again} rows are of images that another of these runs has too, and count again"
        )
    if labels := origin.get("labels"):
        warnings.append(
            f"labels of {labels['place']} count instead of the table's own in {labels['joined']} "
            f"rows ({labels['images']} images are labelled there)"
        )
    if unscored := origin.get("images_without_scores"):
        warnings.append(
            f"{unscored} images of these runs have no scores and are in no figure; "
            "see tables/errors"
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "name": config.name,
        "config": config.model_dump(mode="json"),
        "measured_on": work.measured_on,
        "rows": {"judged": int(work.grouping.counts.sum()), "left_out": work.grouping.excluded},
        "table": {"name": work.table.name, "rows": work.table.rows, **origin},
        "thresholds": work.known.origin,
        "policies": [
            {
                "name": one.policy.name,
                "digest": one.digest,
                "oracle": one.policy.oracle,
                "source": one.policy.source,
                "description": one.policy.description,
            }
            for one in work.policies
        ],
        "counted": work.counted.plan,
        "thresholds_in_use": thresholds_in_use(work.policies),
        "figures": [
            row for row in tables["figures"].to_pylist() if row["level"] in ("all", "macro")
        ],
        "warnings": warnings,
        "tables": {},
    }


def _same_decisions(policies: Sequence[Resolved]) -> Iterator[str]:
    first: dict[str, str] = {}
    for one in policies:
        other = first.setdefault(one.digest, one.policy.name)
        if other != one.policy.name:
            yield f"{one.policy.name}: decides every row as {other} does"
