"""The files of a store by the run that they belong to, found by listing, not by belief."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.tables import storage

# Where a run's files lie, relative to the store. The id is a whole part of the path: a run
# whose id begins like another's is never taken for it.
_OWNED = re.compile(
    r"runs/(?P<work>[^/]+)/.+"
    r"|published/(?P<record>[^/]+)\.json"
    r"|tables/(?:[^/]+/)*?run=(?P<table>[^/]+)/.+"
    r"|cells/run=(?P<cells>[^/]+)/.+"
)
_FOLDERS = ("runs", "published", "tables", "cells")


@dataclass(frozen=True)
class StoreFiles:
    """What a store holds of runs.

    Attributes:
        by_run: per run id, bytes of each file by its path relative to the store.
        strays: files among them that belong to no run, with their bytes.
    """

    by_run: Mapping[str, Mapping[str, int]]
    strays: Mapping[str, int]


def owner(path: str) -> str | None:
    """The id of the run to which a path, relative to the store, belongs; None: to none."""
    found = _OWNED.fullmatch(path)
    return found[found.lastgroup] if found and found.lastgroup else None


def list_files(folder: str) -> dict[str, int]:
    """Bytes of every file below a folder by its path relative to it; none if it isn't there.

    Half-written files are among them: they take room as well.
    """
    fs, path = storage.filesystem(folder)
    fs.invalidate_cache()
    found = fs.find(path, detail=True)
    prefix = path.rstrip("/") + "/"
    return {
        str(name).removeprefix(prefix): int(entry.get("size") or 0)
        for name, entry in found.items()
        if str(name).startswith(prefix)
    }


def store_files(store: str) -> StoreFiles:
    """Lists the parts of a store that belong to runs."""
    by_run: dict[str, dict[str, int]] = {}
    strays: dict[str, int] = {}
    for folder in _FOLDERS:
        for name, size in list_files(storage.join(store, folder)).items():
            path = f"{folder}/{name}"
            run = owner(path)
            (strays if run is None else by_run.setdefault(run, {}))[path] = size
    return StoreFiles(by_run, strays)
