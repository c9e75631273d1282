"""Bundles: everything that scores depend on, in an immutable folder with digests."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InputError
from pipeline.models.specs import DetectorSettings, FeatureLayout
from pipeline.scoring.bundle_copy import BundleCopy, file_digest, gone, require_there
from pipeline.scoring.thresholds_file import THRESHOLDS_FILE, canonical_digest, check_thresholds
from pipeline.stats.gaussian import Gaussian
from pipeline.tables import storage
from pipeline.tables.trained_on import trained_on_ids

SCHEMA_VERSION = "1"
RECORD = "bundle.json"
# The name by which the bundle that was fitted last is asked for.
LATEST = "latest"
_LATEST_RECORD = "latest.json"
BACKBONE_FILE = "backbone.safetensors"
CLASSIFIER_FILE = "classifier.safetensors"
DETECTOR_FILE = "detector.pt"
# Which images a model has seen, where its training left a record.
TRAINED_ON_FILES = {
    "classifier": "classifier_trained_on.parquet",
    "detector": "detector_trained_on.parquet",
    "gaussians": "gaussians_trained_on.parquet",
}
SCORES = ("cells", "pooled")
# What a process may open of a bundle, where it needs no more: the weights of a network by the
# model that computes with it, and all Gaussians.
GAUSSIANS = "gaussians"
_WEIGHTS = {"detector": DETECTOR_FILE, "features": BACKBONE_FILE, "classifier": CLASSIFIER_FILE}

# Digits of a digest in a folder's name: 64 bits, enough to tell bundles apart.
NAME_DIGITS = 16


@dataclass(frozen=True)
class ScorerSpec:
    """What scores depend on, beside the weights and the Gaussians themselves.

    Attributes:
        image_size: side in px of the square that backbone and classifier see.
        features: which features are taken.
        feature_batch: images per forward pass of the backbone.
        anomaly_score: which distance is `anomaly_score`.
        global_floor: weight of the mean variance in the cells' covariances.
        classifier_batch: images per forward pass; None: no classifier.
        detector: None: no detector.
        precision: of the networks, one for all or by model; distances are always float64.
        feature_types: types in which features are stored and distances start from.
    """

    image_size: int
    features: FeatureLayout
    feature_batch: int
    anomaly_score: str
    global_floor: float
    classifier_batch: int | None = None
    detector: DetectorSettings | None = None
    precision: str | Mapping[str, str] = "float32"
    feature_types: Mapping[str, str] = field(
        default_factory=lambda: {"cells": "float16", "pooled": "float32"}
    )

    def precision_of(self, model: str) -> str:
        """That of one network."""
        return precision_of(self.precision, model)


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, its files verified and on a local disk.

    Attributes:
        folder: where the files are on this machine, of a remote bundle those that were asked for.
        uri: the bundle's place in the store.
        spec: what scores depend on.
        categories: the folder of each category's Gaussians, relative to `folder`.
        scorer_digest: covers everything that scores depend on.
        bundle_digest: covers thresholds and calibration maps too.
        feature_digest: covers what features depend on.
        calibrated: whether it has thresholds.
    """

    folder: Path
    uri: str
    spec: ScorerSpec
    categories: Mapping[str, str]
    scorer_digest: str
    bundle_digest: str
    feature_digest: str
    calibrated: bool = False

    def gaussian(self, category: str, score: str) -> Gaussian:
        """One category's Gaussian of one score, mapped from the disk: actors share its pages."""
        folder = self.folder / self.categories[category]
        record = json.loads((folder / f"{score}.json").read_text())
        arrays = {
            name: np.load(folder / f"{score}_{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ("mean", "factor", "shrinkage")
        }
        return Gaussian(**arrays, **record)

    def trained_on(self, model: str) -> np.ndarray | None:
        """Ids, sorted int64, that a model has seen; None: not recorded.

        Args:
            model: `classifier`, `detector` or `gaussians`.
        """
        file = self.folder / TRAINED_ON_FILES[model]
        return trained_on_ids(file.read_bytes(), str(file)) if file.is_file() else None

    @property
    def calibration(self) -> Mapping[str, Any] | None:
        """All of `thresholds.json`; None: the bundle is not calibrated."""
        if not self.calibrated:
            return None
        content: dict[str, Any] = json.loads((self.folder / THRESHOLDS_FILE).read_bytes())
        return content

    @property
    def thresholds(self) -> Mapping[str, Any] | None:
        """Thresholds as `[score]["categories"][category][rule]["value"]`; None: not calibrated."""
        content = self.calibration
        return None if content is None else content["thresholds"]


def precision_of(precision: str | Mapping[str, str], model: str) -> str:
    """One network's precision, of what a record says of all."""
    return precision if isinstance(precision, str) else precision[model]


def digests(scorer: Mapping[str, Any], calibration: Mapping[str, Any]) -> dict[str, str]:
    """The three digests of a bundle's record.

    Args:
        scorer: the part that scores depend on.
        calibration: digest and files of thresholds and maps; empty: none.
    """
    scorer_digest = canonical_digest(scorer)
    names = ("image_size", "features", "feature_batch", "feature_types")
    features = {name: scorer[name] for name in names}
    features["precision"] = precision_of(scorer["precision"], "features")
    features["weights"] = scorer["files"][BACKBONE_FILE]["sha256"]
    whole = {"scorer": scorer_digest, "calibration": _calibration_identity(calibration)}
    return {
        "scorer_digest": scorer_digest,
        "bundle_digest": canonical_digest(whole),
        "feature_digest": canonical_digest(features),
    }


def _calibration_identity(calibration: Mapping[str, Any]) -> dict[str, Any]:
    """What a bundle's digest covers of a calibration: not the time at which it was made."""
    if not calibration:
        return {}
    tables = {n: e["sha256"] for n, e in calibration["files"].items() if n != THRESHOLDS_FILE}
    return {"content": calibration["content"], "tables": tables}


def open_bundle(
    reference: str,
    store: str,
    field_name: str = "bundle",
    *,
    verify: bool = True,
    parts: Collection[str] | None = None,
) -> Bundle:
    """Opens a bundle and verifies every file of it, or of the parts that are named.

    Args:
        reference: its folder, its s3:// prefix, its digest (or the start of it) in the store, or
            `latest`.
        store: the store.
        field_name: the setting, for errors.
        verify: False where weights and Gaussians aren't read, or were verified a moment ago.
            Thresholds are compared with the record either way: they are what people may edit.
        parts: models, for their weights, and GAUSSIANS: of a remote bundle nothing else is
            fetched, but for the thresholds; None: everything.

    Raises:
        InputError: no such bundle, another version, or a file that isn't what the record says.
    """
    uri, record = bundle_record(reference, store, field_name)
    folder, files = Path(uri), _files_of(record, parts)
    if storage.is_remote(uri):
        copy = _copy_of(uri, record, field_name)
        # A copy of thresholds that only has their size is not believed: they are compared below.
        sized = frozenset() if verify else frozenset(files) - {THRESHOLDS_FILE}
        folder, files = copy.folder, copy.complete(files, sized)
    if verify:
        _verify(folder, files, uri, field_name)
    if calibration := record.get("calibration"):
        check_thresholds(folder / THRESHOLDS_FILE, calibration["content"], field_name)
    return _bundle(folder, uri, record)


def open_ahead(reference: str, store: str, field_name: str = "bundle") -> Bundle:
    """Opens a bundle for a driver, whose workers read the files.

    A local one is verified. Of a remote one only the thresholds are fetched: each worker fetches
    what it needs, and verifies that.

    Raises:
        InputError: as `open_bundle`; of a remote bundle what its record and a listing tell.
    """
    uri, record = bundle_record(reference, store, field_name)
    if not storage.is_remote(uri):
        return open_bundle(uri, store, field_name)
    require_there(uri, _files(record), field_name)
    return open_bundle(uri, store, field_name, parts=())


def _files_of(record: Mapping[str, Any], parts: Collection[str] | None) -> dict[str, Any]:
    files = _files(record)
    if parts is None:
        return files
    names = {_WEIGHTS[part] for part in parts if part != GAUSSIANS} | {THRESHOLDS_FILE}
    folders = record["scorer"]["categories"].values() if GAUSSIANS in parts else ()
    starts = tuple(f"{folder}/" for folder in folders)
    return {n: entry for n, entry in files.items() if n in names or n.startswith(starts)}


def bundle_record(
    reference: str, store: str, field_name: str = "bundle"
) -> tuple[str, dict[str, Any]]:
    """A bundle's place and its record; none of its files is looked at.

    Raises:
        InputError: no such bundle, another version, or a record that was changed.
    """
    uri = _place_of(reference, store, field_name)
    with storage.errors_for(uri, field_name):
        record: dict[str, Any] = storage.read_json(storage.join(uri, RECORD))
    _check_record(record, uri, field_name)
    return uri, record


def _files(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**record["scorer"]["files"], **record.get("calibration", {}).get("files", {})}


def _check_record(record: Any, uri: str, field_name: str) -> None:
    version = record.get("schema_version") if isinstance(record, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{field_name}: {uri}: has version {version!r}; this linescore reads {SCHEMA_VERSION!r}"
        )
    try:
        found = digests(record["scorer"], record.get("calibration", {}))
        same = found == {name: record[name] for name in found}
        files = list(_files(record))
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{field_name}: {uri}/{RECORD}: is no record of a bundle ({error}); fit again"
        ) from None
    if not same:
        raise InputError(f"{field_name}: {uri}/{RECORD}: was changed: its digests don't match it")
    for name in files:
        # The files of a remote bundle are written under these names.
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{field_name}: {uri}/{RECORD}: file {name!r} is outside the bundle")


def _place_of(reference: str, store: str, field_name: str) -> str:
    if reference == LATEST:
        return _latest(store, field_name)
    if "/" in reference or storage.exists(storage.join(reference, RECORD)):
        return storage.absolute(reference).rstrip("/")
    folder = storage.join(store, "bundles")
    uri = storage.join(folder, reference[:NAME_DIGITS])
    if storage.exists(storage.join(uri, RECORD)):
        return uri
    fs, path = storage.filesystem(folder)
    known = (
        [str(p).rsplit("/", 1)[-1] for p in fs.ls(path, detail=False)] if fs.exists(path) else []
    )
    matching = [name for name in known if name.startswith(reference) and not name.startswith(".")]
    if len(matching) == 1:
        return storage.join(folder, matching[0])
    bundles = sorted(name for name in known if not name.startswith(".") and "." not in name)
    names = ", ".join(bundles) or "none"
    raise InputError(f"{field_name}: {reference}: no such bundle in {folder} (there: {names})")


def mark_latest(store: str, uri: str) -> None:
    """Notes which bundle the last fit made, or found made already."""
    name = uri.rstrip("/").rsplit("/", 1)[-1]
    storage.write_json(storage.join(store, "bundles", _LATEST_RECORD), {"bundle": name})


def _latest(store: str, field_name: str) -> str:
    folder = storage.join(store, "bundles")
    note = storage.join(folder, _LATEST_RECORD)
    if not storage.exists(note):
        raise InputError(
            f"{field_name}: latest: there is no bundle in {folder}; make one with jobs/fit.py"
        )
    return storage.join(folder, str(storage.read_json(note)["bundle"]))


def _copy_of(uri: str, record: Mapping[str, Any], field_name: str) -> BundleCopy:
    name = f"linescore-{os.getuid()}-{record['bundle_digest'][:NAME_DIGITS]}"
    return BundleCopy(uri, Path(tempfile.gettempdir()) / name, field_name)


def _verify(folder: Path, files: Mapping[str, Any], uri: str, field_name: str) -> None:
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            raise gone(f"{uri}/{name}", field_name)
        if (found := file_digest(path)) != entry["sha256"]:
            raise InputError(
                f"{field_name}: {uri}/{name}: is damaged: sha256 {found[:12]}…, where the bundle "
                f"says {entry['sha256'][:12]}…; fit again, or restore the bundle"
            )


def _bundle(folder: Path, uri: str, record: Mapping[str, Any]) -> Bundle:
    scorer = dict(record["scorer"])
    categories = scorer.pop("categories")
    del scorer["files"]
    layout = scorer.pop("features")
    detector = scorer.pop("detector")
    spec = ScorerSpec(
        features=FeatureLayout(**{name: tuple(value) for name, value in layout.items()}),
        detector=DetectorSettings(**detector) if detector else None,
        **scorer,
    )
    return Bundle(
        folder,
        uri,
        spec,
        categories,
        record["scorer_digest"],
        record["bundle_digest"],
        record["feature_digest"],
        calibrated=bool(record.get("calibration")),
    )
