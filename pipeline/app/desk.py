"""What all sessions of the app share: runs held in memory, decisions, thumbnails. No Streamlit."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.app.deciding import Outcome, outcomes
from pipeline.app.held import Held, HeldTable, hold, judged
from pipeline.app.histogram import Distribution, distribution
from pipeline.app.images import Box, Shown, boxes_of, checked_record, mask_uri, masks, shown_images
from pipeline.app.pictures import Thumbnails
from pipeline.app.policies import Usable, usable
from pipeline.app.uploads import UploadScorer
from pipeline.config import AppConfig
from pipeline.errors import InputError, RunError
from pipeline.evaluation.labelling import with_labels
from pipeline.evaluation.table import open_runs
from pipeline.tables import storage
from pipeline.tables.labels import (
    LABELS,
    LatestLabels,
    label_files,
    labels_folder,
    latest,
    read_files,
)
from pipeline.tables.runs import RunPlaces, load_published

T = TypeVar("T")
# Runs that are held at once: about 50 MB for a million rows.
_RUNS = 4
# Small things per run: decisions of a policy (a byte a row), distributions.
_SMALL = 128
_RECORDS = 4096


@dataclass(frozen=True)
class RunName:
    """A published run.

    Attributes:
        run_id: its id.
        finished_at: ISO 8601; empty: its record doesn't say.
        images: rows of its scores.
    """

    run_id: str
    finished_at: str
    images: int


class _Kept:
    """Values by key, of which those that were asked for last are kept. One is made at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made where there is none."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
                while len(self._values) > self._most:
                    self._values.popitem(last=False)
            self._values.move_to_end(key)
            return cast(T, self._values[key])


class Desk:
    """A store's runs as the pages ask for them; nothing is read twice while it is kept."""

    def __init__(self, config: AppConfig) -> None:
        self.config = config
        self.store = storage.absolute(config.store)
        self.thumbnails = Thumbnails(config.limits, config.cache_mb << 20)
        self._records = _Kept(_RECORDS)
        self._tables = _Kept(_RUNS)
        self._held = _Kept(_RUNS)
        self._small = _Kept(_SMALL)
        self._scorers = _Kept(1)
        self._label_files: dict[str, pa.Table] = {}
        self._lock = threading.Lock()

    def runs(self) -> list[RunName]:
        """Published runs that have scores, the last one first."""
        folder = storage.join(self.store, "published")
        with storage.errors_for(folder, "store"):
            names = [n.removesuffix(".json") for n in storage.list_names(folder)]
        found = [name for name in map(self._name, names) if name is not None]
        return sorted(found, key=lambda run: (run.finished_at, run.run_id), reverse=True)

    def _name(self, run_id: str) -> RunName | None:
        try:
            record = self.record(run_id)
        except InputError:
            return None  # no run of ours, or a damaged one: `linescore runs list` tells
        rows = record["tables"].get("scores", {}).get("rows", 0)
        return RunName(run_id, str(record.get("finished_at") or ""), rows) if rows else None

    def record(self, run_id: str) -> Mapping[str, Any]:
        """A run's published record.

        Raises:
            InputError: no such run, or one whose record names places outside the store.
        """
        return self._records.get(
            run_id, lambda: checked_record(load_published(self.store, run_id), run_id)
        )

    def labels_now(self) -> tuple[str, ...]:
        """The files of labels that there are: what is made with them is made anew with more."""
        return tuple(label_files(labels_folder(self.store)))

    def label_rows(self, files: Sequence[str] | None = None) -> pa.Table:
        """Every label of some files, or of all; one is read once, since none is ever changed."""
        files = self.labels_now() if files is None else files
        with self._lock:
            missing = [file for file in files if file not in self._label_files]
            self._label_files.update(zip(missing, read_files(missing), strict=True))
            return pa.concat_tables(
                [LABELS.empty_table(), *(self._label_files[file] for file in files)]
            )

    def _labels(self, files: tuple[str, ...]) -> LatestLabels | None:
        """Of the labels in some files those that count; None: there is no file."""
        if not files:
            return None
        return self._small.get(("labels", files), lambda: latest(self.label_rows(files)))

    def held(self, run_id: str, *, labelled: bool = False) -> Held:
        """A run's judged rows.

        Args:
            run_id: the run.
            labelled: with the labels that people gave.

        Raises:
            InputError: no such run, a damaged file, or no row that judges.
        """
        # Listed once: what is kept under these files is made of them, whoever labels meanwhile.
        files = self.labels_now() if labelled else ()
        return self._held.get(
            (run_id, files),
            lambda: judged(self._table(run_id, self._labels(files)), calibrated=False),
        )

    def _table(self, run_id: str, labels: LatestLabels | None) -> HeldTable:
        self.record(run_id)
        table = self._tables.get(run_id, lambda: hold(open_runs(self.store, [run_id])))
        return table if labels is None else hold(with_labels(table, labels))

    def policies(self, run_id: str, *, labelled: bool = False) -> Usable:
        """The configured policies, with their numbers for a run."""
        held = self.held(run_id, labelled=labelled)
        return self._small.get(
            ("policies", held.serial),
            lambda: usable(self.config, run_id, self.bundle_of(run_id), held),
        )

    def warm(self) -> None:
        """Reads what the first view shows: the last run, and the first policy on it."""
        try:
            run_id = self.runs()[0].run_id
            name = next(iter(self.policies(run_id).resolved))
            self.outcome(run_id, name)
        except (InputError, RunError, IndexError, StopIteration):
            return  # the first view says what is wrong

    def bundle_of(self, run_id: str) -> str | None:
        """The bundle that a run was scored with, as its record says."""
        found = self._run_record(run_id).get("bundle")
        uri = found.get("uri") if isinstance(found, dict) else None
        return uri if isinstance(uri, str) else None

    def scorer(self, run_id: str) -> UploadScorer:
        """What scores uploads: the bundle of the settings, of the run, or the last one."""
        reference = self.config.bundle or self.bundle_of(run_id) or "latest"
        return self._scorers.get(
            reference, lambda: UploadScorer(reference, self.store, self.config.limits)
        )

    def _run_record(self, run_id: str) -> Mapping[str, Any]:
        return self._records.get(("run", run_id), lambda: _run_json(self.store, run_id))

    def outcome(self, run_id: str, policy: str, *, labelled: bool = False) -> Outcome:
        """What a policy, as it is written, makes of each row."""
        held = self.held(run_id, labelled=labelled)
        resolved = self.policies(run_id, labelled=labelled).resolved[policy]
        return self._small.get(("outcome", held.serial, policy), lambda: outcomes(resolved, held))

    def distribution(self, held: Held, score: str, category: str | None) -> Distribution:
        """Of a score, among a category's images."""
        key = ("distribution", held.serial, score, category)
        return self._small.get(key, lambda: distribution(held, score, category))

    def shown(self, run_id: str, held: Held, rows: npt.NDArray[np.intp]) -> list[Shown]:
        """What the tables say of some rows, in their order; those that are gone are left out."""
        ids = held.image_id[rows]
        found = shown_images(
            self.store, self.record(run_id), ids, [held.part(int(row)).category for row in rows]
        )
        return [found[int(one)] for one in ids if int(one) in found]

    def boxes(self, run_id: str, image: Shown) -> list[Box]:
        """An image's detections."""
        return boxes_of(self.store, self.record(run_id), image.image_id, image.category)

    def mask(self, run_id: str, image: Shown) -> str | None:
        """Where an image's mask lies, if the run's manifest is still there and says so."""
        return mask_uri(self._masks(run_id), image.image_id)

    def _masks(self, run_id: str) -> pa.Table | None:
        config = self._run_record(run_id).get("config")
        uri = config.get("manifest") if isinstance(config, dict) else None
        return self._small.get(("masks", uri), lambda: masks(uri if isinstance(uri, str) else None))


@lru_cache(maxsize=1)
def desk_of(settings: str) -> Desk:
    """The desk of this process.

    Args:
        settings: of the app, as JSON.
    """
    return Desk(AppConfig.model_validate_json(settings))


def _run_json(store: str, run_id: str) -> Mapping[str, Any]:
    place = RunPlaces(store, run_id).record
    try:
        found = storage.read_json(place) if storage.exists(place) else {}
    except InputError:
        return {}
    return found if isinstance(found, dict) else {}
