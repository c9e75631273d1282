"""Images that earlier runs of the same scorer have already, and that a run therefore leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.scoring.reuse.earlier import KEPT, EarlierRun, Terms
from pipeline.scoring.reuse.images import Images, number_names
from pipeline.scoring.reuse.plan import ReusePlan, Task
from pipeline.tables.lookup import columns_of
from pipeline.tables.schemas import OUT_OF_MEMORY, UNREACHABLE_ERRORS, WORKER_CRASH

# Errors that the next night may not have: memory that others used too, and a worker that the
# system killed for want of it.
_PASSING_ERRORS = (*UNREACHABLE_ERRORS, "content_changed", OUT_OF_MEMORY, WORKER_CRASH)


def skip_images(
    plan: ReusePlan, task: Task, runs: Sequence[EarlierRun]
) -> tuple[ReusePlan, tuple[str, ...]]:
    """Leaves out the images that some runs have.

    Returns:
        The plan, and the runs that had at least one of the images.

    Raises:
        DamagedTableError: a table of theirs.
    """
    skipped, used = plan.skipped.copy(), []
    for run in runs:
        before = int(skipped.sum())
        for ids in _settled(run, plan, task):
            skipped |= plan.images.among(ids) & plan.images.known
        if int(skipped.sum()) > before:
            used.append(run.run_id)
    return replace(plan, skipped=skipped), tuple(used)


def _same_images(images: Images, ids: np.ndarray, categories: pa.ChunkedArray) -> np.ndarray:
    """(M,) of the ids that are images here, under the same category.

    An image that was moved to another category has a distance to the wrong Gaussian.
    """
    numbers = {name: code for code, name in enumerate(images.categories)}
    codes = number_names(categories, numbers)  # names that are new here get numbers beyond
    places, there = images.find(ids)
    same: np.ndarray = there & (codes == images.category[places])
    mine: np.ndarray = ids[same]
    return mine


def _settled(run: EarlierRun, plan: ReusePlan, task: Task) -> Iterator[np.ndarray]:
    """Ids of a run's scores, and of its errors that the next night would have again."""
    for file in run.tables["scores"]:
        for rows in columns_of(file, ["image_id", "category"]):
            ids = rows.column("image_id").to_numpy()
            yield _same_images(plan.images, ids, rows.column("category"))
    if run.terms.limits != task.terms.limits:
        return
    for file in run.tables["errors"]:
        for rows in columns_of(file, ["image_id", "error_type"]):
            kinds = np.array(rows.column("error_type").to_pylist(), str)
            yield rows.column("image_id").to_numpy()[~np.isin(kinds, _PASSING_ERRORS)]


def gives_all(run: EarlierRun, terms: Terms) -> bool:
    """Whether a run gave all that the terms ask for, with the same scorer."""
    return not _lacks(run, terms)


def _lacks(run: EarlierRun, terms: Terms) -> str:
    own = run.terms
    if own.scorer_digest != terms.scorer_digest:
        return (
            f"was scored with the scorer {own.scorer_digest[:16]}, and this bundle has the scorer "
            f"{terms.scorer_digest[:16]}: its scores don't stand for this one's"
        )
    if own.components.get("arithmetic") != terms.components.get("arithmetic"):
        return "was scored by a linescore that decodes, resizes or computes in another way"
    if missing := [name for name in terms.models if name not in own.models]:
        return f"ran without {', '.join(missing)}, which this run asks for"
    if terms.verified and not own.verified:
        return "didn't compare the images with the manifest (verify_content=false)"
    if looser := own.looser_than(terms):
        listed = ", ".join(f"limits.{n}={own.limits[n]} (now {terms.limits[n]})" for n in looser)
        return f"was scored under looser limits, {listed}: it has images that are refused now"
    if KEPT.index(own.kept) < KEPT.index(terms.kept):
        return (
            f"ran with keep_features={own.kept}, and this run is to keep {terms.kept}: its images' "
            "features would lie nowhere"
        )
    return ""


def require_all(run: EarlierRun, terms: Terms) -> None:
    """Stops where a run that `since_run` leads to doesn't give all that the terms ask for.

    Raises:
        InputError: its tables don't stand for what this run would give.
    """
    if lack := _lacks(run, terms):
        raise InputError(
            f"since_run: {run.run_id}: {lack}. Without since_run all images are scored, and what "
            "stayed the same is taken over"
        )
