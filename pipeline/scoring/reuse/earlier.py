"""Earlier runs of a store, as far as a later one can lean on them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InputError
from pipeline.scoring.components import components_at, version
from pipeline.tables import storage
from pipeline.tables.lookup import TableFile, table_files
from pipeline.tables.runs import RunPlaces

log = logging.getLogger("linescore")

# Records are small files: reading them waits for the store, not for the processor.
_READERS = 16
# How much a run's feature table keeps.
KEPT = ("none", "pooled", "cells")


@dataclass(frozen=True)
class Terms:
    """Under what a run scores: what says whether its rows serve another run.

    Attributes:
        scorer_digest: of its bundle.
        models: those that run.
        components: digests of the bundle's parts.
        limits: max_pixels, max_bytes and min_side.
        verified: whether each content was compared with the manifest's digest.
        kept: what the feature table keeps: none, pooled or cells.
    """

    scorer_digest: str
    models: tuple[str, ...]
    components: Mapping[str, Any]
    limits: Mapping[str, int]
    verified: bool
    kept: str

    def as_facts(self) -> dict[str, Any]:
        """What a run's published record says of it."""
        return {
            "models": list(self.models),
            "components": dict(self.components),
            "limits": dict(self.limits),
            "verify_content": self.verified,
            "keep_features": self.kept,
        }

    def serves(self, later: Terms) -> bool:
        """Whether an image that was scored under these terms would be scored under the later."""
        return not self.looser_than(later) and (self.verified or not later.verified)

    def looser_than(self, later: Terms) -> tuple[str, ...]:
        """The limits that let images through here which the later terms refuse."""
        mine, other = self.limits, later.limits
        largest = [name for name in ("max_pixels", "max_bytes") if mine[name] > other[name]]
        return (*largest, *(["min_side"] if mine["min_side"] < other["min_side"] else []))


@dataclass(frozen=True)
class EarlierRun:
    """A published run.

    Attributes:
        run_id: its id.
        finished_at: when it was published, ISO 8601.
        terms: under what it scored.
        skipped_by: the runs that it left images to.
        tables: the files of its tables.
    """

    run_id: str
    finished_at: str
    terms: Terms
    skipped_by: tuple[str, ...]
    tables: Mapping[str, tuple[TableFile, ...]]

    @property
    def features(self) -> str:
        """The digest of its features."""
        return str(self.terms.components.get("features"))


def earlier_runs(store: str) -> list[EarlierRun]:
    """The published runs of a store, the latest first; those that say too little are left out."""
    names = storage.list_names(storage.join(store, "published"))
    ids = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda run_id: earlier_run(store, run_id), ids)
        runs = [run for run in found if run is not None]
    return sorted(runs, key=lambda run: (run.finished_at, run.run_id), reverse=True)


def earlier_run(store: str, run_id: str) -> EarlierRun | None:
    """A published run; None: there is none, or neither it nor its bundle say how it scored."""
    places = RunPlaces(store, run_id)
    try:
        record = storage.read_json(places.published)
        if record["kind"] != "score":
            return None
        return EarlierRun(
            run_id=record["run_id"],
            finished_at=record["finished_at"],
            terms=_terms(places, record),
            skipped_by=tuple(record.get("skipped_by", ())),
            tables={
                name: table_files(store, record, name)
                for name in ("scores", "detections", "errors", "features")
            },
        )
    except (OSError, InputError, KeyError, TypeError, AttributeError) as error:
        log.warning(
            "run %s: nothing is taken from it: its record says too little (%s)", run_id, error
        )
        return None


def _terms(places: RunPlaces, record: Mapping[str, Any]) -> Terms:
    if "components" not in record:  # published by a linescore that didn't say it there
        begun = storage.read_json(places.record)
        if begun["identity"].get("arithmetic") != version():
            raise InputError("it was scored by a linescore that computes in another way")
        components = components_at(begun["bundle"]["uri"], record["scorer_digest"])
        record = dict(record) | begun["identity"] | {"components": components}
    return Terms(
        scorer_digest=record["scorer_digest"],
        models=tuple(record["models"]),
        components=record["components"],
        limits=record["limits"],
        verified=bool(record["verify_content"]),
        kept=record["keep_features"],
    )


def named_runs(store: str, run_ids: Sequence[str], leaning: str) -> list[EarlierRun]:
    """Runs that are needed by name.

    Raises:
        InputError: one of them is not there any more, with the run that leans on it.
    """
    runs = []
    for run_id in run_ids:
        run = (
            earlier_run(store, run_id)
            if storage.exists(RunPlaces(store, run_id).published)
            else None
        )
        if run is None:
            raise InputError(
                f"run {run_id}: is gone from {store}, and {leaning} leaves images to it; restore "
                "it, or score under another run_id"
            )
        runs.append(run)
    return runs
