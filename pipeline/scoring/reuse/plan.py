"""Which images of a manifest need which models, and what earlier runs give instead.

An image is left out (skipped), or taken over from one earlier run (carried), or its distances
start from the stored features of one (reused); what is left is computed from the image itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.scoring.reuse.earlier import KEPT, EarlierRun, Terms
from pipeline.scoring.reuse.images import Images, number_names
from pipeline.tables.lookup import DamagedTableError, columns_of, listed_ids

# The models, in the order of the chain; a set of them is a byte.
MODELS = ("detector", "features", "classifier")
BITS = {name: 1 << place for place, name in enumerate(MODELS)}
NOBODY = -1
# Of a run that spares something for images without a Gaussian only: less than one equal Gaussian.
_LEAST_WORTH = 1e-9


@dataclass(frozen=True)
class Task:
    """What a run has to give.

    Attributes:
        terms: under what it scores.
        anomaly_score: which distance is `anomaly_score`.
    """

    terms: Terms
    anomaly_score: str

    @property
    def wanted(self) -> int:
        """The models that run, as a set in a byte."""
        return sum(BITS[name] for name in self.terms.models)


@dataclass(frozen=True)
class Offers:
    """What earlier runs may give.

    Attributes:
        runs: those whose images would be scored under the task's terms too, the latest first.
        damaged: is told of a table that can't be used; its run is left out.
    """

    runs: tuple[EarlierRun, ...]
    damaged: Callable[[DamagedTableError], None]


@dataclass(frozen=True)
class ReusePlan:
    """What becomes of each of N images, in the order of their ids.

    Attributes:
        images: the images.
        runs: the earlier runs, by number.
        skipped: (N,) bool: another run's tables have it.
        carry: (N,) int16 number of the run whose columns are taken over; NOBODY: of none.
        features: (N,) int16 number of the run from whose features distances are computed.
        compute: (N,) uint8 set of the models that see the image itself.
        kept_in: runs that hold features which this run was asked to keep.
    """

    images: Images
    runs: tuple[EarlierRun, ...]
    skipped: np.ndarray
    carry: np.ndarray
    features: np.ndarray
    compute: np.ndarray
    kept_in: tuple[str, ...] = ()

    @property
    def leaned_on(self) -> tuple[str, ...]:
        """The runs that something is taken from, or left to."""
        return tuple(sorted({*self._names(self.carry), *self.feature_runs}))

    @property
    def used_features(self) -> set[str]:
        """The runs whose features distances start from."""
        return self._names(self.features)

    @property
    def feature_runs(self) -> tuple[str, ...]:
        """The runs whose features it uses, or leaves to them to keep."""
        return tuple(sorted({*self.used_features, *self.kept_in}))

    def skipped_by_category(self) -> dict[str | None, int]:
        """Images that are left out, per category."""
        names = self.images.categories
        counts = np.bincount(self.images.category[self.skipped], minlength=len(names))
        return dict(zip(names, counts.tolist(), strict=True))

    def _names(self, numbers: np.ndarray) -> set[str]:
        if not self.runs:
            return set()
        used = np.unique(numbers[~self.skipped])
        return {self.runs[number].run_id for number in used if number != NOBODY}


def compute_all(images: Images, task: Task) -> ReusePlan:
    """The plan that takes nothing from anybody; its arrays are one value each, read-only."""
    count = len(images.ids)

    def all_of(value: int, kind: type[np.generic]) -> np.ndarray:
        return np.broadcast_to(np.array(value, kind), (count,))

    nobody = all_of(NOBODY, np.int16)
    skipped = all_of(False, np.bool_)
    return ReusePlan(images, (), skipped, nobody, nobody, all_of(task.wanted, np.uint8))


def take_from(plan: ReusePlan, task: Task, offers: Offers) -> ReusePlan:
    """Takes from the runs that give most, the latest of equals.

    Args:
        plan: of what is skipped; the rest of it is made anew.
        task: what the run has to give.
        offers: what there is. A run of which one table is damaged gives nothing.
    """
    while True:
        try:
            return _taken(plan, task, offers)
        except DamagedTableError as error:
            offers.damaged(error)
            rest = tuple(run for run in offers.runs if run.run_id != error.run_id)
            if len(rest) == len(offers.runs):
                raise
            offers = replace(offers, runs=rest)


def _taken(plan: ReusePlan, task: Task, offers: Offers) -> ReusePlan:
    fresh = replace(compute_all(plan.images, task), runs=offers.runs, skipped=plan.skipped)
    if not offers.runs:
        return fresh
    own = {name: getattr(fresh, name).copy() for name in ("carry", "features", "compute")}
    fresh = replace(fresh, **own)
    worth = [_worth(run, task, plan.images.categories) for run in offers.runs]
    for number in sorted(range(len(worth)), key=lambda n: -worth[n]):
        if not worth[number] or not _open_ones(fresh).any():
            break
        _carry(fresh, task, number)
    if "features" not in task.terms.models:
        return fresh
    return _take_features(fresh, task)


def _open_ones(plan: ReusePlan) -> np.ndarray:
    free: np.ndarray = plan.images.known & ~plan.skipped & (plan.carry == NOBODY)
    return free


def _worth(run: EarlierRun, task: Task, categories: Sequence[str | None]) -> float:
    """How many models a run spares, the share of equal Gaussians counting as one.

    Of images whose category has no Gaussian it spares the features where it had none either.
    """
    own = task.terms.components["gaussians"]
    equal = sum(_same_gaussian(run, task, name) for name in own) / max(len(own), 1)
    neither = any(name not in own and _same_gaussian(run, task, name) for name in categories)
    return _spared(run, task).bit_count() + equal + _LEAST_WORTH * neither


def _spared(run: EarlierRun, task: Task) -> int:
    """Detector and classifier, if the run had the same."""
    mine, theirs = task.terms.components, run.terms.components
    return sum(
        BITS[name]
        for name in ("detector", "classifier")
        if name in task.terms.models and name in run.terms.models and mine[name] == theirs[name]
    )


def _same_gaussian(run: EarlierRun, task: Task, category: str | None) -> bool:
    """Whether a run had the same distances in a category; where both have none, it has."""
    mine, theirs = task.terms.components, run.terms.components
    both = "features" in task.terms.models and "features" in run.terms.models
    same = mine["gaussians"].get(category) == theirs["gaussians"].get(category)
    return bool(both and mine["features"] == theirs["features"] and same)


def _carry(plan: ReusePlan, task: Task, number: int) -> None:
    """Assigns to a run the open images that it spares a model for."""
    run, images = plan.runs[number], plan.images
    chosen = f"anomaly_{task.anomaly_score}"
    numbers = {name: code for code, name in enumerate(images.categories)}
    found = []
    for file in run.tables["scores"]:
        for rows in columns_of(file, ["image_id", "category", chosen]):
            places, there = images.find(rows.column("image_id").to_numpy())
            codes = number_names(rows.column("category"), numbers)
            same = np.array([_same_gaussian(run, task, name) for name in numbers], bool)
            has_none = [name not in task.terms.components["gaussians"] for name in numbers]
            # A run that started from stored `pooled` features has no `anomaly_cells`.
            value = rows.column(chosen).is_valid().to_numpy() | np.array(has_none, bool)[codes]
            carried = same[codes] & value & (codes == images.category[places])
            bits = _spared(run, task) | np.where(carried, BITS["features"], 0).astype(np.uint8)
            found.append((places[there], bits[there]))
    free = _open_ones(plan)  # nothing is assigned before all of the run's files were read
    for places, bits in found:
        use = free[places] & (bits > 0)
        plan.carry[places[use]] = number
        plan.compute[places[use]] &= ~bits[use]


def _take_features(plan: ReusePlan, task: Task) -> ReusePlan:
    """Finds stored features for distances that are to be computed, or features to be kept."""
    bit = np.uint8(BITS["features"])
    lacking = (plan.compute & bit) > 0
    to_keep = KEPT.index(task.terms.kept)
    to_compute = max(to_keep, KEPT.index(task.anomaly_score))
    stored = _stored_in(plan, task, (lacking, to_compute))
    found = stored != NOBODY
    plan.features[found] = stored[found]
    plan.compute[found] &= ~bit
    kept_in: set[int] = set()
    if to_keep:
        kept = _stored_in(plan, task, (~lacking, to_keep))
        kept_in = {int(number) for number in np.unique(kept[~plan.skipped])} - {NOBODY}
        # What is to be kept and lies nowhere has to be computed, whatever the columns say.
        plan.compute[~lacking & (kept == NOBODY)] |= bit
        plan.carry[plan.compute == task.wanted] = NOBODY
    # Size and format of an image of which only the features are used.
    only = (plan.compute == 0) & (plan.carry == NOBODY) & found
    plan.carry[only] = plan.features[only]
    return replace(plan, kept_in=tuple(plan.runs[number].run_id for number in sorted(kept_in)))


def _stored_in(plan: ReusePlan, task: Task, what: tuple[np.ndarray, int]) -> np.ndarray:
    """The latest run that keeps enough features of each image.

    Args:
        plan: of the images.
        task: what the run has to give.
        what: (N,) bool, the images in question, and how much must be kept, as a place in KEPT.

    Returns:
        (N,) int16 number of a run, or NOBODY.
    """
    which, least = what
    stored = np.full(len(which), NOBODY, np.int16)
    wanted = which & plan.images.known & ~plan.skipped
    for number, run in enumerate(plan.runs):
        enough = KEPT.index(run.terms.kept) >= least
        if not enough or run.terms.components["features"] != task.terms.components["features"]:
            continue
        if not (wanted & (stored == NOBODY)).any():
            break
        for file in run.tables["features"]:
            listed = listed_ids(file)
            places, there = plan.images.find(listed)
            mine = places[there]
            stored[mine[wanted[mine] & (stored[mine] == NOBODY)]] = number
    return stored
