"""Every run of a store, whatever its state: what is known of each, and what is damaged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.lock import LOCKS, is_dead
from pipeline.tables.run_files import owner, store_files
from pipeline.tables.runs import RunPlaces

# A run's states, as `linescore runs list` shows them.
PUBLISHED, FITTED, IN_USE, UNFINISHED = "published", "fitted", "in use", "unfinished"
DELETING, DAMAGED, LEFTOVER = "being deleted", "damaged", "leftover"
FINISHED = (PUBLISHED, FITTED)

# A process that works on a run leaves a file of such a name in its folder.
_LOCK = re.compile(LOCKS + r"/[^/]+\.json")
# Records are small files: reading them waits for the store, not for the processor.
_READERS = 16


@dataclass(frozen=True)
class Records:
    """The JSON records of a run, each None where it isn't there or can't be read.

    Attributes:
        run: run.json, what the run is.
        report: report.json, what it did.
        published: the record that makes its tables visible.
        lock: of the process that works on it.
        problems: what is wrong with those that can't be read.
    """

    run: Mapping[str, Any] | None
    report: Mapping[str, Any] | None
    published: Mapping[str, Any] | None
    lock: Mapping[str, Any] | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class RunEntry:
    """One run.

    Attributes:
        run_id: its id.
        state: one of the states above.
        kind: `score`, `fit`, or None where no record says.
        images: in its manifest as far as counted; None: not known.
        errors: images without a score.
        started_at: as its record says, ISO 8601.
        finished_at: the same.
        manifest: the manifest's place.
        bundle: the bundle that it was scored with, or that it made: its place.
        scorer_digest: of that bundle.
        needs: ids of runs whose tables it uses, each with how it says so.
        files: bytes of each of its files by path, relative to the store.
        problems: what is damaged.
    """

    run_id: str
    state: str
    kind: str | None
    images: int | None
    errors: int | None
    started_at: str | None
    finished_at: str | None
    manifest: str | None
    bundle: str | None
    scorer_digest: str | None
    needs: Mapping[str, str]
    files: Mapping[str, int]
    problems: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """What it takes on the disk or in the bucket."""
        return sum(self.files.values())


@dataclass(frozen=True)
class Catalogue:
    """The runs of a store, oldest first, and files that belong to none."""

    store: str
    runs: tuple[RunEntry, ...]
    strays: Mapping[str, int]

    def find(self, run_id: str) -> RunEntry | None:
        """The run of that id; None: there is nothing of it."""
        return next((run for run in self.runs if run.run_id == run_id), None)


def read_catalogue(store: str) -> Catalogue:
    """Lists a store and reads the records of its runs.

    Raises:
        InputError: the store isn't there.
    """
    with storage.errors_for(store, "store"):
        found = store_files(store)
        if not found.by_run and not found.strays and not storage.exists(store):
            raise InputError(f"store: {store}: there is no such folder or prefix")
        with ThreadPoolExecutor(_READERS) as pool:
            runs = list(pool.map(lambda i: _entry(store, i, found.by_run[i]), found.by_run))
    runs.sort(key=lambda run: (run.started_at or run.finished_at or "", run.run_id))
    return Catalogue(store, tuple(runs), found.strays)


def read_records(store: str, run_id: str, files: Iterable[str]) -> Records:
    """The records of one run; those that can't be read are told among the problems."""
    there = set(files)
    problems: list[str] = []

    def read(path: str) -> Mapping[str, Any] | None:
        if path not in there:
            return None
        try:
            value = storage.read_json(storage.join(store, path))
        except (InputError, OSError) as error:
            problems.append(str(error))
            return None
        if isinstance(value, dict):
            return value
        problems.append(f"{path}: is no record: it holds a {type(value).__name__}")
        return None

    folder = f"runs/{run_id}"
    return Records(
        run=read(f"{folder}/run.json"),
        report=read(f"{folder}/report.json"),
        published=_published(read, f"published/{run_id}.json", problems),
        lock=next((read(path) for path in locks(run_id, there)), None),
        problems=tuple(problems),
    )


def locks(run_id: str, files: Iterable[str]) -> list[str]:
    """The lock files of a run among its files, the last one first."""
    folder = f"runs/{run_id}/"
    return sorted(
        (path for path in files if _LOCK.fullmatch(path.removeprefix(folder))), reverse=True
    )


def _published(read: Any, path: str, problems: list[str]) -> Mapping[str, Any] | None:
    record: Mapping[str, Any] | None = read(path)
    if record is not None and not isinstance(record.get("tables"), dict):
        problems.append(f"{path}: is no record of a published run: it names no tables")
        return None
    return record


def _entry(store: str, run_id: str, files: Mapping[str, int]) -> RunEntry:
    records = read_records(store, run_id, files)
    run, report = records.run or {}, records.report or {}
    published = records.published or {}
    kind = _first(str, (published, "kind"), (report, "kind"), (run, "identity", "kind"))
    images, errors = _counts(published, report)
    bundle = _first(str, (run, "bundle", "uri"), (report, "bundle"))
    return RunEntry(
        run_id=run_id,
        state=_state(RunPlaces(store, run_id), kind, records, files),
        kind=kind,
        images=images,
        errors=errors,
        started_at=_first(str, (run, "started_at")),
        finished_at=_first(str, (published, "finished_at"), (report, "finished_at")),
        manifest=_first(str, (run, "config", "manifest")),
        bundle=bundle,
        scorer_digest=_first(str, (published, "scorer_digest"), (run, "identity", "scorer_digest")),
        needs=_needs(run_id, records),
        files=files,
        problems=records.problems,
    )


def _state(places: RunPlaces, kind: str | None, records: Records, files: Mapping[str, int]) -> str:
    folder = f"runs/{places.run_id}"
    marker = f"{folder}/{places.deletion.rpartition('/')[2]}"
    checks = (
        (marker in files, DELETING),
        (bool(locks(places.run_id, files)) and not is_dead(records.lock), IN_USE),
        (bool(records.problems), DAMAGED),
        (records.published is not None, PUBLISHED),
        (kind == "fit" and records.report is not None, FITTED),
        (records.run is not None, UNFINISHED),
    )
    return next((state for holds, state in checks if holds), LEFTOVER)


def _first(kind: type, *paths: tuple[Any, ...]) -> Any:
    """The first value of that type, each looked for along the keys of a record."""
    for value, *keys in paths:
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, kind) and not isinstance(value, bool):
            return value
    return None


def _counts(
    published: Mapping[str, Any], report: Mapping[str, Any]
) -> tuple[int | None, int | None]:
    """Images and errors of a run."""
    if published:
        # A table without rows has no entry.
        rows = [_first(int, (published, "tables", name, "rows")) for name in ("scores", "errors")]
        return (rows[0] or 0) + (rows[1] or 0), rows[1] or 0
    categories = report.get("categories")
    by_type = report.get("errors_by_type")
    if not isinstance(categories, list) or not isinstance(by_type, dict):
        return None, None
    fitted = sum(_first(int, (entry, "images")) or 0 for entry in categories)
    errors = sum(count for count in by_type.values() if isinstance(count, int))
    return fitted + errors, errors


def _needs(run_id: str, records: Records) -> dict[str, str]:
    """Runs that this one can't do without, and how its records say so."""
    needs = dict(_listed(records))
    for path in published_paths(records.published):
        other = owner(path)
        if other is not None:
            needs.setdefault(other, "its published record names files of it")
    needs.pop(run_id, None)
    return needs


def _listed(records: Records) -> Iterator[tuple[str, str]]:
    # What a run is begun with it needs until it is published; then its published record says it.
    begun = None if records.published else records.run
    for record in (begun, records.report, records.published):
        listed = (record or {}).get("needs")
        for name in listed if isinstance(listed, list) else ():
            if isinstance(name, str):
                yield name, "it takes columns or features from it"
    since = _first(str, (records.run or {}, "config", "since_run"))
    if since is not None:
        yield since, "it was begun with since_run"


def published_paths(published: Mapping[str, Any] | None) -> list[str]:
    """Paths, relative to the store, of the files that a published record names."""
    tables = (published or {}).get("tables")
    entries = tables.values() if isinstance(tables, dict) else ()
    lists = [entry.get("files") for entry in entries if isinstance(entry, dict)]
    files = [file for found in lists if isinstance(found, list) for file in found]
    paths = [file.get("path") for file in files if isinstance(file, dict)]
    return [path for path in paths if isinstance(path, str)]
