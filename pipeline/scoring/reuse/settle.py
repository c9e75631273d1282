"""What a run leans on: settled when it starts, and the same when it continues."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.config import ScoreConfig
from pipeline.errors import InputError
from pipeline.scoring.reuse.earlier import EarlierRun, earlier_runs, named_runs
from pipeline.scoring.reuse.images import Images, read_ids, read_images
from pipeline.scoring.reuse.plan import (
    NOBODY,
    Offers,
    ReusePlan,
    Task,
    compute_all,
    take_from,
)
from pipeline.scoring.reuse.skip import gives_all, require_all, skip_images
from pipeline.tables.lookup import DamagedTableError
from pipeline.tables.runs import load_published

log = logging.getLogger("linescore")


@dataclass(frozen=True)
class Leaning:
    """What a run takes from others.

    Attributes:
        task: what it has to give.
        plan: what becomes of each image.
        skipped_by: the runs that it leaves images to.
    """

    task: Task
    plan: ReusePlan
    skipped_by: tuple[str, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """Runs without which this one's tables are not whole, or can't be rescored cheaply."""
        return tuple(sorted({*self.skipped_by, *self.plan.feature_runs}))

    def as_facts(self) -> dict[str, list[str]]:
        """What the run's record keeps, so that it continues with the same."""
        return {"skip": list(self.skipped_by), "reuse": list(self.plan.leaned_on)}

    def lines(self) -> list[str]:
        """What is taken, for people; nothing where nothing is."""
        plan = self.plan
        own = ~plan.skipped
        still = own & (plan.compute == 0)
        numbers = {
            "are left to earlier runs": int(plan.skipped.sum()),
            "are carried over": int((still & (plan.features == NOBODY)).sum()),
            "get distances from stored features": int((still & (plan.features != NOBODY)).sum()),
            "lack only some models": int((own & (plan.carry != NOBODY) & (plan.compute > 0)).sum()),
        }
        found = [f"{count} images {what}" for what, count in numbers.items() if count]
        lines = ["reuse: " + ", ".join(found)] if found else []
        if self.lacks_cells:
            lines.append("reuse: only pooled features are kept; anomaly_cells is null where used")
        return lines

    @property
    def lacks_cells(self) -> bool:
        """Whether distances start from features of a run that keeps no cells."""
        return any(
            run.terms.kept == "pooled" and run.run_id in self.plan.used_features
            for run in self.plan.runs
        )

    def without(self, run_id: str) -> Leaning:
        """The same when nothing can be taken from one run."""
        runs = tuple(run for run in self.plan.runs if run.run_id != run_id)
        plan = take_from(self.plan, self.task, Offers(runs, _warn))
        return replace(self, plan=plan)


def settle(config: ScoreConfig, task: Task, begun: Mapping[str, Any] | None) -> Leaning:
    """Finds what a run leans on, or finds it again.

    Args:
        config: the run's settings.
        task: what it has to give.
        begun: the record that the run began with; None: it begins now.

    Raises:
        InputError: `since_run` names a run that doesn't serve; a run that this one leaves images
            to is gone or damaged.
    """
    runs: Sequence[EarlierRun] = ()
    if begun is not None:
        noted = begun.get("leans_on", {"skip": [], "reuse": []})
        skipping = named_runs(config.store, noted["skip"], f"the run {begun.get('run_id')}")
        if noted["reuse"]:
            runs = [r for r in earlier_runs(config.store) if r.run_id in noted["reuse"]]
        plan = compute_all(_images(config, [*skipping, *runs]), task)
        plan, skipped_by = _skip(plan, task, skipping, must=True)
    else:
        if config.skip_scored or config.since_run or config.reuse:
            runs = earlier_runs(config.store)
        plan = compute_all(_images(config, runs), task)
        plan, skipped_by = _fresh(config, task, plan, runs)
    if config.reuse and not plan.skipped.all():
        fit = tuple(run for run in runs if run.terms.serves(task.terms))
        plan = take_from(plan, task, Offers(fit, _warn))
    return Leaning(task, plan, skipped_by)


def _images(config: ScoreConfig, runs: Sequence[EarlierRun]) -> Images:
    """The images of the manifest, with more than their ids only where a run may give something."""
    if runs or config.since_run:
        return read_images(config.manifest)
    return read_ids(config.manifest)


def _fresh(
    config: ScoreConfig, task: Task, plan: ReusePlan, runs: Sequence[EarlierRun]
) -> tuple[ReusePlan, tuple[str, ...]]:
    if not (config.skip_scored or config.since_run or config.reuse):
        return plan, ()
    plan, named = _skip(plan, task, _since(config, task), must=True)
    if config.since_run and config.since_run not in named:
        named = (config.since_run, *named)
    others = [run for run in runs if gives_all(run, task.terms)] if config.skip_scored else []
    plan, found = _skip(plan, task, [r for r in others if r.run_id not in named], must=False)
    return plan, tuple(dict.fromkeys((*named, *found)))


def _since(config: ScoreConfig, task: Task) -> list[EarlierRun]:
    """The run named by `since_run`, and those that it left images to itself."""
    if not config.since_run:
        return []
    load_published(config.store, config.since_run)  # says how it fails
    (run,) = named_runs(config.store, [config.since_run], "since_run")
    require_all(run, task.terms)
    others = named_runs(config.store, run.skipped_by, f"the run {run.run_id}")
    for other in others:  # an older linescore left images to runs of other limits
        require_all(other, task.terms)
    return [run, *others]


def _skip(
    plan: ReusePlan, task: Task, runs: Sequence[EarlierRun], *, must: bool
) -> tuple[ReusePlan, tuple[str, ...]]:
    used: list[str] = []
    for run in runs:
        try:
            plan, own = skip_images(plan, task, [run])
        except DamagedTableError as error:
            if must:
                raise InputError(
                    f"run {error.run_id}: {error.file}: {error.reason}; its images can't be left "
                    "to it: restore the file, or score under another run_id without it"
                ) from None
            _warn(error)
            continue
        used += own
    return plan, tuple(used)


def _warn(error: DamagedTableError) -> None:
    log.warning(
        "run %s: %s: %s; nothing is taken from this run",
        error.run_id,
        error.file,
        error.reason,
    )


def left_to_do(leaning: Leaning, done: np.ndarray) -> np.ndarray:
    """(N,) bool: images that are neither skipped nor done, which is (N,) bool too."""
    rest = leaning.plan.skipped | done
    answer: np.ndarray = np.logical_not(rest, out=rest)
    return answer
