"""All about one run, and whether its files are what its records say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.ledger import read_commits
from pipeline.tables.run_catalogue import Catalogue, Records, RunEntry, read_records
from pipeline.tables.run_files import owner
from pipeline.tables.runs import RunPlaces

# Files are read for their digest in pieces, a few at a time: the store answers slowly.
_PIECE, _READERS = 1 << 20, 8


@dataclass(frozen=True)
class FileFacts:
    """A file that a record of a run names.

    Attributes:
        path: relative to the store.
        rows: rows in it.
        bytes: as recorded; None: the record doesn't say.
        sha256: as recorded.
        found: `same`, `gone`, `changed` or `foreign`; None: not looked at.
    """

    path: str
    rows: int | None
    bytes: int | None
    sha256: str | None
    found: str | None = None


@dataclass(frozen=True)
class RunDetails:
    """One run: its entry, its records, and the files they name."""

    entry: RunEntry
    records: Records
    files: tuple[FileFacts, ...]


def run_details(catalogue: Catalogue, run_id: str, *, verify: bool = False) -> RunDetails:
    """All about a run.

    Args:
        catalogue: of the store.
        run_id: the run.
        verify: read every file that a record names and compare its sha256.

    Raises:
        InputError: there is nothing of that run.
    """
    entry = catalogue.find(run_id)
    if entry is None:
        raise InputError(f"run {run_id}: isn't in the store {catalogue.store}")
    records = read_records(catalogue.store, run_id, entry.files)
    named = list(_published_files(records.published))
    if not named:
        try:
            named = list(_committed_files(RunPlaces(catalogue.store, run_id)))
        except InputError as error:
            entry = replace(entry, problems=(*entry.problems, str(error)))
    if verify:
        with ThreadPoolExecutor(_READERS) as pool:
            named = list(pool.map(lambda file: _compared(catalogue.store, file), named))
    return RunDetails(entry, records, tuple(named))


def _published_files(published: Mapping[str, Any] | None) -> Iterator[FileFacts]:
    for entry in (published or {}).get("tables", {}).values():
        files = entry.get("files") if isinstance(entry, dict) else None
        for file in files if isinstance(files, list) else ():
            if isinstance(file, dict) and isinstance(file.get("path"), str):
                yield FileFacts(
                    file["path"], file.get("rows"), file.get("bytes"), file.get("sha256")
                )


def _committed_files(places: RunPlaces) -> Iterator[FileFacts]:
    for commit in read_commits(places.folder):
        for part in commit.parts.values():
            path = f"runs/{places.run_id}/parts/{part.file}"
            yield FileFacts(path, part.rows, None, part.sha256)


def _compared(store: str, file: FileFacts) -> FileFacts:
    if owner(file.path) is None:
        return replace(file, found="foreign")
    try:
        same = _sha256(storage.join(store, file.path)) == file.sha256
    except FileNotFoundError:
        return replace(file, found="gone")
    return replace(file, found="same" if same else "changed")


def _sha256(uri: str) -> str:
    digest = hashlib.sha256()
    fs, path = storage.filesystem(uri)
    with fs.open(path, "rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def damaged_files(details: RunDetails) -> list[str]:
    """A line per file that isn't what the record says."""
    words = {
        "gone": "is gone",
        "changed": "isn't what the record says (sha256)",
        "foreign": "is named by the record, and no run's file can lie there",
    }
    return [
        f"run {details.entry.run_id}: {file.path}: {words[file.found]}"
        for file in details.files
        if file.found in words
    ]
