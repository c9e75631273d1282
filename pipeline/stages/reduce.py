"""The reduction of features to Gaussians: fixed leaves, fixed lanes, merged in a fixed order.

A category's images, sorted by id, are cut into leaves; a lane is a fixed run of leaves, and a
category's lanes are merged one after the other. Cuts and order depend on the ids alone, so the
sums are bit-equal for any number of workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from threadpoolctl import threadpool_limits

from pipeline.errors import InputError, RunError
from pipeline.models.specs import FeatureLayout
from pipeline.stages.worker_errors import result_of
from pipeline.stats.gaussian import Gaussian, fit_global_floor, fit_ledoit_wolf
from pipeline.stats.moments import MomentAccumulator, Moments
from pipeline.tables.ledger import Commit, read_part, rows_in

# Images per product: enough that the products, not the additions, take the time (with 64 a fit
# took five times as long as its products alone); their cells are 63 MB.
LEAF_IMAGES = 1024
# Images per lane: a lane's sums are about 95 MB whatever it holds, so it holds many.
LANE_IMAGES = 2048
SCORES = ("cells", "pooled")


@dataclass(frozen=True)
class FeatureSource:
    """Where a category's features lie.

    Attributes:
        run_folder: the folder of the run that computed them.
        category: the category.
        commits: the commits that may hold images of it.
        layout: shapes of the features.
    """

    run_folder: str
    category: str
    commits: tuple[Commit, ...]
    layout: FeatureLayout


def source_for(
    run_folder: str, category: str, commits: Sequence[Commit], layout: FeatureLayout
) -> FeatureSource:
    """The commits that hold images of a category."""
    holding = [c for c in commits if any(span.category == category for span in c.spans)]
    return FeatureSource(run_folder, category, tuple(holding), layout)


def load_features(source: FeatureSource, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Features of some images, in the order of their ids.

    Args:
        source: where they lie.
        ids: (N,) int64, sorted.

    Returns:
        `cells` (N, G, D) float16 and `pooled` (N, 1, P) float32.
    """
    layout = source.layout
    shape = (layout.cells, layout.cell_channels)
    found = np.zeros(len(ids), bool)
    cells = np.empty((len(ids), *shape), np.float16)
    pooled = np.empty((len(ids), 1, layout.pooled_channels), np.float32)
    for commit in source.commits:
        spans = [span for span in commit.spans if span.category == source.category]
        if not any(span.first_id <= ids[-1] and span.last_id >= ids[0] for span in spans):
            continue
        if "features" not in commit.parts:
            continue
        part = read_part(source.run_folder, commit.name, commit.parts["features"])
        rows = rows_in(part, source.category, int(ids[0]), int(ids[-1]) + 1)
        places = np.searchsorted(ids, rows.column("image_id").to_numpy())
        found[places] = True
        for place, blob, vector in zip(
            places, rows.column("cells").to_pylist(), rows.column("pooled").to_pylist(), strict=True
        ):
            cells[place] = np.frombuffer(blob, "<f2").reshape(shape)
            pooled[place, 0] = vector
    if not found.all():
        raise RunError(f"category {source.category!r}: no features of image {ids[~found][0]}")
    return {"cells": cells, "pooled": pooled}


def lane_moments(
    source: FeatureSource, ids: np.ndarray, shifts: Mapping[str, np.ndarray]
) -> dict[str, Moments]:
    """Moments of one lane, leaf after leaf.

    Args:
        source: where the features lie.
        ids: (N,) the lane's images, sorted.
        shifts: the vector that is subtracted first, (G, D) per score, one for all lanes.
    """
    sums = {score: MomentAccumulator(shifts[score]) for score in SCORES}
    with threadpool_limits(1):  # more threads may round differently
        for start in range(0, len(ids), LEAF_IMAGES):
            leaf = load_features(source, ids[start : start + LEAF_IMAGES])
            for score in SCORES:
                sums[score].add(leaf[score])
    return {score: sums[score].moments() for score in SCORES}


def first_features(source: FeatureSource, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Features of a category's first image: the shift, near the mean and known to all."""
    features = load_features(source, ids[:1])
    return {score: features[score][0].astype(np.float64) for score in SCORES}


class CategoryReducer:
    """Adds a category's lanes in order: its own sums and the lane's are all it holds."""

    def __init__(self, category: str, global_floor: float) -> None:
        self._category, self._global_floor = category, global_floor
        self._sums: dict[str, MomentAccumulator] = {}

    def add(self, lane: dict[str, Moments]) -> None:
        """Adds one lane."""
        for score, moments in lane.items():
            if score not in self._sums:
                self._sums[score] = MomentAccumulator(moments.shift)
            self._sums[score].add_moments(moments)

    def fit(self) -> dict[str, Gaussian]:
        """The category's Gaussians.

        Raises:
            InputError: too few different images.
        """
        try:
            with threadpool_limits(1):
                return {
                    "cells": fit_global_floor(self._sums["cells"].moments(), self._global_floor),
                    "pooled": fit_ledoit_wolf(self._sums["pooled"].moments()),
                }
        except ValueError as error:
            raise InputError(f"category {self._category!r}: no Gaussian: {error}") from None


def reduce_categories(
    sources: Mapping[str, FeatureSource], ids: Mapping[str, np.ndarray], global_floor: float
) -> Iterator[tuple[str, dict[str, Gaussian]]]:
    """Gaussians, category after category; lanes are computed side by side.

    At most as many lanes as the cluster has CPUs are under way, so that partial sums don't
    pile up: a worker holds its own and the one that it adds.
    """
    lane_task = ray.remote(num_cpus=1)(lane_moments)
    window = max(2, int(ray.cluster_resources().get("CPU", 2)))
    pending: deque[tuple[str, Any, Any]] = deque()
    for category, source in sources.items():
        reducer = ray.remote(num_cpus=0)(CategoryReducer).remote(category, global_floor)
        shifts = ray.remote(num_cpus=1)(first_features).remote(source, ids[category])
        lanes = _lanes(ids[category])
        for number, lane in enumerate(lanes):
            added = reducer.add.remote(lane_task.remote(source, lane, shifts))
            pending.append((category, reducer if number == len(lanes) - 1 else None, added))
            if len(pending) >= window:
                yield from _finished(pending)
    while pending:
        yield from _finished(pending)


def _lanes(ids: np.ndarray) -> list[np.ndarray]:
    return [ids[start : start + LANE_IMAGES] for start in range(0, len(ids), LANE_IMAGES)]


def _finished(
    pending: deque[tuple[str, Any, Any]],
) -> Iterator[tuple[str, dict[str, Gaussian]]]:
    category, reducer, added = pending.popleft()
    result_of(added)
    if reducer is not None:
        yield category, result_of(reducer.fit.remote())
        ray.kill(reducer)
