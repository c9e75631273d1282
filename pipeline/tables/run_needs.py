"""Who needs a run: other runs, bundles calibrated on it, references frozen from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.run_catalogue import FITTED, Catalogue, RunEntry
from pipeline.tables.run_files import list_files

_RECORD, _THRESHOLDS, _LATEST = "bundle.json", "thresholds.json", "latest.json"
_READERS = 16


@dataclass(frozen=True)
class Need:
    """Something that needs a run.

    Attributes:
        run_id: the run that is needed.
        by: the run that needs it; None: not a run.
        says: the reason, for people.
    """

    run_id: str
    by: str | None
    says: str


@dataclass(frozen=True)
class StoreNeeds:
    """All needs of a store.

    Attributes:
        needs: one by one.
        made_from: per run id, reports that were made from it; they stand by themselves.
        unknown: by run id or path, records that can't be read: what they need is not known.
    """

    needs: tuple[Need, ...]
    made_from: Mapping[str, tuple[str, ...]]
    unknown: Mapping[str, str]

    def of(self, run_id: str) -> list[Need]:
        """What needs one run."""
        return [need for need in self.needs if need.run_id == run_id]


def store_needs(catalogue: Catalogue) -> StoreNeeds:
    """Reads what runs, bundles, references and reports of a store need."""
    calibrations = _json_records(catalogue.store, ("bundles",))
    needs = [*_by_runs(catalogue), *_by_calibrations(calibrations), *_by_uses(catalogue)]
    made_from: dict[str, tuple[str, ...]] = {}
    unknown = {run.run_id: run.problems[0] for run in catalogue.runs if run.problems}
    reports = _json_records(catalogue.store, ("references", "reports"))
    for path, record in (*calibrations, *reports):
        if record is None:
            unknown[path] = f"{path}: can't be read as JSON"
    for path, record in reports:
        if record is None:
            continue
        needs += [Need(i, None, f"{path} compares with it") for i in _names(record.get("needs"))]
        for run_id in _sources(record):
            made_from[run_id] = (*made_from.get(run_id, ()), path.rpartition("/")[0])
    return StoreNeeds(tuple(needs), made_from, unknown)


def _sources(record: Mapping[str, Any]) -> list[str]:
    """Runs that a report was made from: an evaluation's, a comparison's two."""
    compared = [_at(record, side, "run_id") for side in ("run", "reference")]
    return list(dict.fromkeys(_names(_at(record, "table", "runs")) + _names(compared)))


def bundle_name(run: RunEntry) -> str | None:
    """The name, in the store's `bundles`, of the bundle that a fit made."""
    if run.kind != "fit" or not run.bundle:
        return None
    return run.bundle.rstrip("/").rsplit("/", 1)[-1] or None


def _by_runs(catalogue: Catalogue) -> Iterator[Need]:
    for run in catalogue.runs:
        for other, reason in run.needs.items():
            yield Need(other, run.run_id, f"run {run.run_id} needs it: {reason}")


def _by_calibrations(
    records: Iterable[tuple[str, Mapping[str, Any] | None]],
) -> Iterator[Need]:
    for path, record in records:
        run_id = _at(record, "provenance", "run", "run_id")
        if isinstance(run_id, str):
            yield Need(run_id, None, f"bundle {path.split('/')[1]} was calibrated on it")


def _by_uses(catalogue: Catalogue) -> Iterator[Need]:
    latest = _read(storage.join(catalogue.store, "bundles", _LATEST))
    for fit in catalogue.runs:
        name = bundle_name(fit) if fit.state == FITTED else None
        if name is not None:
            yield from _uses(catalogue, fit, name, _at(latest, "bundle"))


def _uses(catalogue: Catalogue, fit: RunEntry, name: str, latest: Any) -> Iterator[Need]:
    """What uses the bundle that a fit made, which would go with it."""
    if latest == name:
        yield Need(fit.run_id, None, f"its bundle {name} is the latest one")
    record = _read(storage.join(catalogue.store, "bundles", name, _RECORD))
    scorer = _at(record, "scorer_digest")
    for run in catalogue.runs:
        if run.run_id == fit.run_id:
            continue
        if run.kind == "fit":
            if bundle_name(run) == name:
                yield Need(fit.run_id, run.run_id, f"fit {run.run_id} made the same bundle {name}")
        elif _scored_with(run, name, scorer):
            says = f"run {run.run_id} was scored with its bundle {name}"
            yield Need(fit.run_id, run.run_id, says)


def _scored_with(run: RunEntry, name: str, scorer: Any) -> bool:
    same = isinstance(scorer, str) and run.scorer_digest == scorer
    return same or (run.bundle or "").rstrip("/").rsplit("/", 1)[-1] == name


def _json_records(
    store: str, folders: tuple[str, ...]
) -> list[tuple[str, Mapping[str, Any] | None]]:
    """JSON records by path, None for one that can't be read.

    Of bundles only the thresholds, of the others all in two levels; what is no record is empty.
    """
    paths = [
        f"{folder}/{name}"
        for folder in folders
        for name in list_files(storage.join(store, folder))
        if name.endswith(".json") and name.count("/") <= 1
    ]
    wanted = [p for p in paths if not p.startswith("bundles/") or p.endswith(f"/{_THRESHOLDS}")]
    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(lambda path: _read(storage.join(store, path)), wanted))
    return [
        (path, record if isinstance(record, dict) or record is None else {})
        for path, record in zip(wanted, found, strict=True)
    ]


def _read(uri: str) -> Any:
    """A JSON record of somebody else's; None: it isn't there, or is no JSON."""
    try:
        return storage.read_json(uri)
    except (InputError, OSError):
        return None


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
