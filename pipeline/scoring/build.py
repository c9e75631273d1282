"""Putting bundles into a store: built from a fit, or with thresholds around the same scorer."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InputError
from pipeline.scoring.bundle import (
    NAME_DIGITS,
    RECORD,
    SCHEMA_VERSION,
    Bundle,
    ScorerSpec,
    digests,
    mark_latest,
    open_bundle,
)
from pipeline.scoring.bundle_copy import file_digest
from pipeline.scoring.thresholds_file import THRESHOLDS_FILE
from pipeline.stats.gaussian import Gaussian
from pipeline.tables import storage


class BundleBuilder:
    """Collects a bundle's files in a folder of its own, then puts them in the store at once."""

    def __init__(self, store: str, spec: ScorerSpec) -> None:
        self._store, self._spec = store, spec
        self._local = not storage.is_remote(store)
        if self._local:
            folder = Path(storage.absolute(store)) / "bundles" / f".partial-{uuid.uuid4().hex[:8]}"
            folder.mkdir(parents=True)
        else:
            folder = Path(tempfile.mkdtemp(prefix="linescore-bundle-"))
        self._folder = folder
        self._categories: dict[str, str] = {}

    def __enter__(self) -> BundleBuilder:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def add_file(self, name: str, content: bytes) -> None:
        """One file of weights."""
        (self._folder / name).write_bytes(content)

    def add_gaussian(self, category: str, score: str, gaussian: Gaussian) -> None:
        """One category's Gaussian of one score."""
        name = self._categories.setdefault(category, f"gaussians/{len(self._categories):04d}")
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        for key in ("mean", "factor", "shrinkage"):
            np.save(folder / f"{score}_{key}.npy", getattr(gaussian, key), allow_pickle=False)
        record = {"count": gaussian.count, "regularisation": gaussian.regularisation}
        (folder / f"{score}.json").write_text(json.dumps(record))

    def finish(self, provenance: Mapping[str, Any]) -> tuple[str, int]:
        """Writes the record and moves the bundle into the store.

        Args:
            provenance: where it comes from, for people; not part of any digest.

        Returns:
            The bundle's place in the store, and its size in bytes.
        """
        files: dict[str, dict[str, Any]] = {
            str(path.relative_to(self._folder)): {
                "sha256": file_digest(path),
                "bytes": path.stat().st_size,
            }
            for path in sorted(self._folder.rglob("*"))
            if path.is_file()
        }
        scorer = asdict(self._spec) | {"categories": self._categories, "files": files}
        found = digests(scorer, {})
        record = {"schema_version": SCHEMA_VERSION, "scorer": scorer} | found
        record["provenance"] = dict(provenance)
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        (self._folder / RECORD).write_text(text, encoding="utf-8")
        uri = storage.join(self._store, "bundles", found["bundle_digest"][:NAME_DIGITS])
        self._place(uri, [*files, RECORD])
        mark_latest(self._store, uri)
        return uri, sum(int(entry["bytes"]) for entry in files.values())

    def _place(self, uri: str, files: list[str]) -> None:
        if self._local:
            _place_folder(self._folder, storage.absolute(uri))
            return
        fs, path = storage.filesystem(uri)
        for name in files:  # the record is the last: without it there is no bundle
            fs.put_file(str(self._folder / name), f"{path}/{name}")


def recalibrate(
    bundle: Bundle,
    store: str,
    content: Mapping[str, Any],
    tables: Mapping[str, bytes],
    provenance: Mapping[str, Any],
) -> tuple[str, str]:
    """Puts a new bundle around a scorer: the same files, with thresholds and maps beside them.

    On a local disk the scorer's files are linked, in a bucket copied by the bucket itself.

    Args:
        bundle: whose scorer it is; its own calibration, if any, is left behind.
        store: where the new bundle goes.
        content: of `thresholds.json`, sealed.
        tables: name and content of Parquet files.
        provenance: where the calibration comes from, for people; not part of any digest.

    Returns:
        The new bundle's place, and its digest.
    """
    before = storage.read_json(storage.join(bundle.uri, RECORD))
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    files = dict(tables) | {THRESHOLDS_FILE: text.encode()}
    entries = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in files.items()
    }
    calibration = {"content": content["digest"], "files": entries}
    found = digests(before["scorer"], calibration)
    record = {name: before[name] for name in ("schema_version", "scorer")} | found
    record["calibration"] = calibration
    record["provenance"] = before["provenance"] | {"calibration": dict(provenance)}
    files[RECORD] = (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()
    uri = storage.join(store, "bundles", found["bundle_digest"][:NAME_DIGITS])
    scorer_files = list(before["scorer"]["files"])
    if storage.is_remote(store):
        _copy_remotely(bundle, scorer_files, files, uri)
    else:
        _link_locally(bundle, scorer_files, files, storage.absolute(uri))
    mark_latest(store, uri)
    return uri, found["bundle_digest"]


def _link_locally(
    bundle: Bundle, names: list[str], files: Mapping[str, bytes], target: str
) -> None:
    partial = Path(target).with_name(f".partial-{uuid.uuid4().hex[:8]}")
    try:
        for name in names:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            _link(bundle.folder / name, partial / name)
        for name, data in files.items():
            (partial / name).write_bytes(data)
        _place_folder(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)


def _copy_remotely(
    bundle: Bundle, names: list[str], files: Mapping[str, bytes], target: str
) -> None:
    if storage.exists(storage.join(target, RECORD)) and _is_whole(target):
        return  # the same calibration was made before: bundles don't change under their readers
    fs, path = storage.filesystem(target)
    origin, origin_path = storage.filesystem(bundle.uri)
    for name in names:
        if origin is fs:
            fs.cp_file(f"{origin_path}/{name}", f"{path}/{name}")
        else:
            fs.put_file(str(bundle.folder / name), f"{path}/{name}")
    for name, data in files.items():  # the record is the last: without it there is no bundle
        fs.pipe_file(f"{path}/{name}", data)


def _place_folder(partial: Path, folder: str) -> None:
    try:
        os.replace(partial, folder)  # noqa: PTH105
    except OSError:
        # The same bundle was made before, perhaps a moment ago: it stays, unless it is damaged,
        # which is what a new one is to mend.
        if _is_whole(folder):
            return
        storage.remove(folder)
        os.replace(partial, folder)  # noqa: PTH105


def _is_whole(folder: str) -> bool:
    try:
        open_bundle(folder, folder)
    except InputError:
        return False
    return True
