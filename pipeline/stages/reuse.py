"""What a run takes from earlier runs, on Ray: pieces that no model sees, and rows for a chain."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from pipeline.scoring.bundle import open_bundle
from pipeline.scoring.reuse.distances import StoredDistances
from pipeline.scoring.reuse.earlier import EarlierRun
from pipeline.scoring.reuse.join import Given, with_given
from pipeline.scoring.reuse.plan import BITS, MODELS, NOBODY, ReusePlan
from pipeline.stages.decode import MANIFEST_COLUMNS
from pipeline.stages.progress import Progress
from pipeline.stages.sink import commit_block
from pipeline.stages.worker_errors import result_of
from pipeline.tables import storage
from pipeline.tables.lookup import TableFile, listed_ids
from pipeline.tables.manifest import rows_at

# Images per piece of rows that are carried over.
_CARRIED_PIECE = 50_000
# Bytes of features per piece: few enough to share out evenly, enough for large products.
_REUSED_BYTES = 64 * 1024**2
_LABELS = [name for name in MANIFEST_COLUMNS if name != "sha256"]


@dataclass(frozen=True)
class Taking:
    """How a run takes what it takes.

    Attributes:
        manifest: its place.
        run_folder: where commits go.
        bundle: the bundle's place.
        anomaly_score: which distance is `anomaly_score`.
        models: those that run.
        threads: of the arithmetic.
    """

    manifest: str
    run_folder: str
    bundle: str
    anomaly_score: str
    models: tuple[str, ...]
    threads: int


@dataclass(frozen=True)
class _Piece:
    """Images that one task takes over.

    Attributes:
        places: (N,) rows of the manifest, in order.
        carry: (N,) number of the run whose columns are taken over.
        features: (N,) number of the run whose features are used, or NOBODY.
        made: carried or reused.
    """

    places: np.ndarray
    carry: np.ndarray
    features: np.ndarray
    made: str


def take_pieces(taking: Taking, plan: ReusePlan, rest: np.ndarray, progress: Progress) -> None:
    """Commits the images that need no model, several pieces side by side.

    Args:
        taking: how.
        plan: what becomes of each image.
        rest: (N,) bool: the images that are still to be done.
        progress: counts them.

    Raises:
        DamagedTableError: a table of an earlier run; what was committed before it stands.
    """
    chosen = rest & (plan.compute == 0)
    if not chosen.any():
        return
    runs = ray.put(_used(plan, chosen))
    task = ray.remote(num_cpus=1)(_take)
    window = max(2, 2 * int(ray.cluster_resources().get("CPU", 2)))
    pending: deque[Any] = deque()
    try:
        for piece in _pieces(plan, chosen):
            pending.append(task.remote(taking, piece, runs))
            if len(pending) >= window:
                _count(result_of(pending.popleft()), progress)
        while pending:
            _count(result_of(pending.popleft()), progress)
    except Exception:
        # What was begun is waited for, so that its commits are seen by whoever looks at what is
        # left; a cancelled task may end between a part and its commit. Ctrl-C doesn't wait.
        if pending:
            ray.wait(list(pending), num_returns=len(pending), fetch_local=False)
        raise
    finally:
        progress.close()


def _count(commit: dict[str, Any], progress: Progress) -> None:
    progress.add(commit["scored"], commit["failed"])
    progress.measure(commit)


def _used(plan: ReusePlan, chosen: np.ndarray) -> dict[int, EarlierRun]:
    numbers = np.unique(np.concatenate([plan.carry[chosen], plan.features[chosen]]))
    return {int(number): plan.runs[number] for number in numbers if number != NOBODY}


def _pieces(plan: ReusePlan, chosen: np.ndarray) -> Iterator[_Piece]:
    """Carried images as the manifest has them, those with features file by file."""
    carried = np.flatnonzero(chosen & (plan.features == NOBODY))
    carried = carried[np.argsort(plan.images.places[carried])]
    for start in range(0, len(carried), _CARRIED_PIECE):
        yield _piece(plan, carried[start : start + _CARRIED_PIECE], "carried")
    reused = chosen & (plan.features != NOBODY)
    for number in np.unique(plan.features[reused]):
        for file in plan.runs[number].tables["features"]:
            rows, there = plan.images.find(listed_ids(file))
            rows = rows[there]
            rows = rows[reused[rows] & (plan.features[rows] == number)]
            size = _reused_piece(file)
            for start in range(0, len(rows), size):
                yield _piece(plan, rows[start : start + size], "reused")


def _reused_piece(file: TableFile) -> int:
    """Images per piece of a feature file; a remote one is fetched once, so it is one piece."""
    if storage.is_remote(file.uri):
        return max(1, file.rows)
    return max(1, _REUSED_BYTES * file.rows // max(file.bytes, 1))


def _piece(plan: ReusePlan, rows: np.ndarray, made: str) -> _Piece:
    rows = rows[np.argsort(plan.images.places[rows])]
    return _Piece(plan.images.places[rows], plan.carry[rows], plan.features[rows], made)


def _take(taking: Taking, piece: _Piece, runs: dict[int, EarlierRun]) -> dict[str, Any]:
    rows = rows_at(taking.manifest, piece.places, _LABELS)
    given = Given(runs, taking.models, True, piece.carry, piece.features)
    distances = _distances(taking.bundle, taking.threads) if piece.made == "reused" else None
    rows = with_given(rows, given, distances)
    nothing = pa.nulls(rows.num_rows, pa.string())
    rows = rows.append_column("error_type", nothing).append_column("error_message", nothing)
    told = commit_block(rows, taking.run_folder, taking.anomaly_score, "none", piece.made)
    summary: dict[str, Any] = told.to_pylist()[0]
    return summary


# A worker keeps the Gaussians of the last bundle at hand.
@lru_cache(maxsize=1)
def _distances(bundle: str, threads: int) -> StoredDistances:
    opened = open_bundle(bundle, "", verify=storage.is_remote(bundle))
    return StoredDistances(opened, threads)


class GivenColumns:
    """The first stage of a chain whose images lack only some models: adds what is given."""

    def __init__(self, taking: Taking, plan: ReusePlan, chosen: np.ndarray) -> None:
        """Puts what the chosen images are given into the object store, once for all tasks.

        Args:
            taking: how.
            plan: what becomes of each image.
            chosen: (N,) bool: the images of the chain, which need the same models.
        """
        compute = int(plan.compute[chosen][0])
        self._taking = taking
        self._models = tuple(name for name in taking.models if not compute & BITS[name])
        self._given = ray.put(
            (
                plan.images.ids[chosen],
                plan.carry[chosen],
                plan.features[chosen],
                _used(plan, chosen),
            )
        )

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Adds the columns of the models that don't run, and where they come from."""
        ids, carry, features, runs = ray.get(self._given)
        places = np.searchsorted(ids, rows.column("image_id").to_numpy())
        given = Given(runs, self._models, False, carry[places], features[places])
        computed = (given.features != NOBODY).any()
        settings = (self._taking.bundle, self._taking.threads)
        return with_given(rows, given, _distances(*settings) if computed else None)


def chains(plan: ReusePlan, rest: np.ndarray) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """The chains that are needed: their models, and (N,) bool the images of each."""
    for compute in range(1, 1 << len(MODELS)):
        chosen = plan.compute == compute
        chosen &= rest
        if chosen.any():
            yield tuple(name for name in MODELS if compute & BITS[name]), chosen
