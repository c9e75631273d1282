"""Stores with runs in every state, written as the jobs write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.tables import storage
from pipeline.tables.ledger import read_commits, remove_work
from pipeline.tables.publication import FileLimits, build_file, plan_files, published_record
from pipeline.tables.run_catalogue import read_catalogue
from pipeline.tables.run_files import list_files
from pipeline.tables.runs import RunPlaces, start_or_continue
from pipeline.tables.schemas import RUN_TABLES
from tests.tables.rows import commit, images

IDENTITY = {"kind": "score", "scorer_digest": "ab" * 32, "manifest_digest": "cd" * 32}
FEATURES = "f00dfacef00dface"


def put_unfinished(store: str, run_id: str, began: str = "2026-03-01T01:00:00+00:00") -> RunPlaces:
    """A run that was cut off: a record, parts and commits."""
    places = RunPlaces(store, run_id)
    facts = {
        "run_id": run_id,
        "started_at": began,
        "config": {"manifest": "m.parquet", "store": store},
        "bundle": {"uri": f"{store}/bundles/b1", "scorer_digest": IDENTITY["scorer_digest"]},
        "environment": {"packages": {"ray": "2.60.0"}},
    }
    start_or_continue(places, IDENTITY, facts)
    found = images(12)
    commit(places.folder, found[:6], found[6:7])
    commit(places.folder, found[7:], found[:0])
    return places


def put_published(
    store: str,
    run_id: str,
    ended: str = "2026-03-01T02:00:00+00:00",
    began: str = "2026-03-01T01:00:00+00:00",
    **facts: Any,
) -> RunPlaces:
    """A published run with all four tables."""
    places = put_unfinished(store, run_id, began)
    commits = list(read_commits(places.folder))
    files = [
        build_file(places.folder, plan, np.empty(0, np.int64))
        for table in RUN_TABLES
        for plan in plan_files(
            commits, table, places.table(table, FEATURES), FileLimits(100, 2**30), {}
        )
    ]
    record = {
        "schema_version": "1",
        "run_id": run_id,
        "kind": "score",
        "finished_at": ended,
        "scorer_digest": IDENTITY["scorer_digest"],
    } | facts
    report = record | {"categories": [{"category": "bolt", "images": 12, "errors": 1}]}
    storage.write_json(places.report, report)
    storage.write_json(
        places.published, published_record(store, [f for f in files if f is not None], record)
    )
    remove_work(places.folder)
    # What a later run reuses, and what an evaluation keeps.
    features = storage.join(places.table("features", FEATURES), "part-00000.parquet")
    storage.write_bytes(features, storage.parquet_bytes(pa.table({"image_id": [1]})))
    storage.write_bytes(storage.join(store, "cells", f"run={run_id}", "aa", "g.json"), b"[]")
    return places


def put_fit(store: str, run_id: str, bundle: str, scorer: str) -> RunPlaces:
    """A finished fit and its bundle."""
    places = RunPlaces(store, run_id)
    start_or_continue(
        places, {"kind": "fit"}, {"started_at": "2026-02-01T00:00:00+00:00", "run_id": run_id}
    )
    uri = storage.join(store, "bundles", bundle)
    storage.write_json(storage.join(uri, "bundle.json"), {"scorer_digest": scorer})
    storage.write_bytes(storage.join(uri, "backbone.safetensors"), b"w" * 100)
    report = {
        "kind": "fit",
        "run_id": run_id,
        "finished_at": "2026-02-01T01:00:00+00:00",
        "bundle": uri,
        "categories": [{"category": "bolt", "images": 9}],
        "errors_by_type": {"truncated": 1},
    }
    storage.write_json(places.report, report)
    return places


def content(store: str, folders: Sequence[str] = ("",)) -> Mapping[str, bytes]:
    """Every file of a store by path, with its bytes."""
    found = {}
    for folder in folders:
        base = storage.join(store, folder) if folder else store
        for name in list_files(base):
            path = f"{folder}/{name}" if folder else name
            found[path] = storage.read_bytes(storage.join(store, path))
    return found


def of_run(store: str, run_id: str) -> list[str]:
    """What is left of a run."""
    found = read_catalogue(store).find(run_id)
    return sorted(found.files) if found else []
