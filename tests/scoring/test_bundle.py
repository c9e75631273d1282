"""Bundles: whole or not there, opened only when every byte is what the record says."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.errors import InputError
from pipeline.models.specs import DetectorSettings, FeatureLayout
from pipeline.scoring.build import BundleBuilder
from pipeline.scoring.bundle import (
    BACKBONE_FILE,
    CLASSIFIER_FILE,
    DETECTOR_FILE,
    RECORD,
    Bundle,
    ScorerSpec,
    mark_latest,
    open_bundle,
)
from pipeline.stats.gaussian import Gaussian, fit_global_floor, fit_ledoit_wolf, mahalanobis
from pipeline.stats.moments import MomentAccumulator
from pipeline.tables import storage

DETECTOR = DetectorSettings(
    image_size=64, confidence_floor=0.05, iou=0.7, max_detections=10, batch_size=8
)
SPEC = ScorerSpec(
    image_size=64,
    features=FeatureLayout(("layer2", "layer3"), (2, 4), ("layer3",)),
    feature_batch=16,
    anomaly_score="cells",
    global_floor=0.1,
    classifier_batch=16,
    detector=DETECTOR,
)
FILES = {
    BACKBONE_FILE: b"backbone" * 100,
    CLASSIFIER_FILE: b"classifier" * 50,
    DETECTOR_FILE: b"detector" * 30,
}


def gaussian(seed: int, score: str) -> Gaussian:
    """A real one, fitted to a little noise: 5 cells of 3 features, or 1 vector of 4."""
    groups, width = (5, 3) if score == "cells" else (1, 4)
    moments = MomentAccumulator(np.zeros((groups, width)))
    moments.add(np.random.default_rng(seed).standard_normal((40, groups, width)))
    fit = fit_global_floor if score == "cells" else fit_ledoit_wolf
    return fit(moments.moments())


GAUSSIANS = {
    (category, score): gaussian(seed, score)
    for seed, category in enumerate(("bolt", "größe № 1"))
    for score in ("cells", "pooled")
}


def build(
    store: str,
    spec: ScorerSpec = SPEC,
    files: dict[str, bytes] | None = None,
    started_at: str = "2026-01-01",
    gaussians: dict[tuple[str, str], Gaussian] = GAUSSIANS,
) -> str:
    with BundleBuilder(store, spec) as builder:
        for name, content in (FILES | (files or {})).items():
            builder.add_file(name, content)
        for (category, score), fitted in gaussians.items():
            builder.add_gaussian(category, score, fitted)
        uri, _ = builder.finish({"started_at": started_at})
    return uri


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store that is not on a local disk, and a folder of its own for local copies."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = f"memory://store-{uuid.uuid4().hex[:8]}"
    yield place
    storage.remove(place)


def refusal(reference: str, store: str, field: str = "bundle") -> str:
    with pytest.raises(InputError) as error:
        open_bundle(reference, store, field)
    return str(error.value)


def rewrite(uri: str, change: Callable[[dict[str, Any]], object]) -> None:
    record = storage.read_json(storage.join(uri, RECORD))
    change(record)
    storage.write_json(storage.join(uri, RECORD), record)


# --- the round trip ---


def check_opened(bundle: Bundle) -> None:
    assert bundle.spec == SPEC
    assert set(bundle.categories) == {category for category, _ in GAUSSIANS}
    for name, content in FILES.items():
        assert (bundle.folder / name).read_bytes() == content
    for (category, score), fitted in GAUSSIANS.items():
        read = bundle.gaussian(category, score)
        for name in ("mean", "factor", "shrinkage"):
            assert isinstance(getattr(read, name), np.memmap), name
            assert not getattr(read, name).flags.writeable
            np.testing.assert_array_equal(getattr(read, name), getattr(fitted, name))
        assert (read.count, read.regularisation) == (fitted.count, fitted.regularisation)
        x = np.random.default_rng(9).standard_normal((7, *fitted.mean.shape))
        np.testing.assert_array_equal(mahalanobis(read, x), mahalanobis(fitted, x))


def test_what_is_built_is_opened(store: str) -> None:
    uri = build(store)
    bundle = open_bundle(uri, "")
    check_opened(bundle)
    assert (bundle.uri, str(bundle.folder)) == (uri, uri)
    assert uri == storage.join(store, "bundles", bundle.bundle_digest[:16])


def test_the_size_is_that_of_the_files(store: str) -> None:
    with BundleBuilder(store, SPEC) as builder:
        for name, content in FILES.items():
            builder.add_file(name, content)
        _, size = builder.finish({})
    assert size == sum(map(len, FILES.values()))


def test_a_bundle_of_the_backbone_alone(store: str) -> None:
    spec = dataclasses.replace(SPEC, detector=None, classifier_batch=None)
    with BundleBuilder(store, spec) as builder:
        builder.add_file(BACKBONE_FILE, b"b")
        uri, _ = builder.finish({})
    bundle = open_bundle(uri, store)
    assert (bundle.spec.detector, bundle.spec.classifier_batch) == (None, None)
    assert bundle.categories == {}


def test_a_remote_bundle_is_fetched_to_a_local_folder(remote: str, tmp_path: Path) -> None:
    uri = build(remote)
    assert list(tmp_path.iterdir()) == []  # the builder's folder is gone
    bundle = open_bundle(uri, "")
    check_opened(bundle)
    assert bundle.uri == uri
    assert bundle.folder.parent == tmp_path
    assert not list(bundle.folder.rglob("*.????????"))  # no half-fetched file
    again = open_bundle(bundle.bundle_digest, remote, verify=False)
    assert again.folder == bundle.folder
    check_opened(again)


def test_a_remote_bundle_is_fetched_once(remote: str) -> None:
    uri = build(remote)
    folder = open_bundle(uri, "").folder
    times = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
    assert times
    open_bundle(uri, "")
    assert {file: file.stat().st_mtime_ns for file in times} == times


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_local_copy_of_a_remote_bundle_is_fetched_again(remote: str, damage: str) -> None:
    uri = build(remote)
    copy = open_bundle(uri, "").folder / BACKBONE_FILE
    if damage == "gone":
        copy.unlink()
    else:
        copy.write_bytes(b"x" * (len(FILES[BACKBONE_FILE]) - (damage == "cut")))
    check_opened(open_bundle(uri, ""))


# --- references ---


@pytest.mark.parametrize("digits", [64, 16, 12, 3])
def test_a_digest_or_its_start_finds_the_bundle(store: str, remote: str, digits: int) -> None:
    for place in (store, remote):
        bundle = open_bundle(build(place), "")
        assert open_bundle(bundle.bundle_digest[:digits], place).uri == bundle.uri


def test_a_folder_is_a_reference_in_every_form(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = build(store)
    monkeypatch.chdir(Path(uri).parent)
    for reference in (uri, f"{uri}/", f"file://{uri}", Path(uri).name, f"./{Path(uri).name}"):
        assert open_bundle(reference, "elsewhere").uri == uri


def test_a_bundle_that_was_moved_is_still_whole(store: str, tmp_path: Path) -> None:
    uri = build(store)
    shutil.copytree(uri, tmp_path / "copy")
    check_opened(open_bundle(str(tmp_path / "copy"), ""))


def test_an_unknown_reference_lists_what_is_there(store: str, remote: str) -> None:
    for place in (store, remote):
        assert refusal("abc", place) == (
            f"bundle: abc: no such bundle in {place}/bundles (there: none)"
        )
        names = sorted(
            build(place, dataclasses.replace(SPEC, global_floor=floor)).rsplit("/", 1)[-1]
            for floor in (0.1, 0.2)
        )
        message = refusal("xyz", place, "reference")
        assert message.startswith(f"reference: xyz: no such bundle in {place}/bundles (there: ")
        assert message.endswith(f"(there: {', '.join(names)})")


def test_an_ambiguous_start_is_refused(store: str) -> None:
    folder = Path(build(store))
    twin = folder.with_name(f"{folder.name[:4]}{'0' * 12}")
    shutil.copytree(folder, twin)
    message = refusal(folder.name[:4], store)
    assert "no such bundle" in message
    assert folder.name in message
    assert twin.name in message


def test_latest_is_the_one_that_was_fitted_last(store: str, remote: str) -> None:
    for place in (store, remote):
        assert refusal("latest", place) == (
            f"bundle: latest: there is no bundle in {place}/bundles; make one with jobs/fit.py"
        )
        first, second = (
            build(place, dataclasses.replace(SPEC, global_floor=floor)) for floor in (0.1, 0.2)
        )
        assert open_bundle("latest", place).uri == second
        # Fitted again, whether its files were there already or not.
        build(place, dataclasses.replace(SPEC, global_floor=0.1))
        assert open_bundle("latest", place).uri == first
        mark_latest(place, second)
        assert open_bundle("latest", place).uri == second


def test_latest_is_no_build_under_way(store: str) -> None:
    uri = build(store)
    with BundleBuilder(store, SPEC) as builder:
        builder.add_file(RECORD, b"{}")
        assert open_bundle("latest", store).uri == uri


def test_a_folder_that_is_no_bundle(store: str, tmp_path: Path) -> None:
    assert refusal(str(tmp_path), store) == f"bundle: {tmp_path}: there is no such file or folder"


# --- damage ---


KINDS = [
    BACKBONE_FILE,
    CLASSIFIER_FILE,
    DETECTOR_FILE,
    "gaussians/0000/cells_mean.npy",
    "gaussians/0001/cells_factor.npy",
    "gaussians/0001/pooled_shrinkage.npy",
    "gaussians/0000/pooled.json",
]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("remotely", [False, True])
def test_one_other_byte_in_any_file_is_told(
    store: str, remote: str, name: str, remotely: bool
) -> None:
    uri = build(remote if remotely else store)
    place = storage.join(uri, name)
    content = bytearray(storage.read_bytes(place))
    content[-1] ^= 1
    storage.write_bytes(place, bytes(content))
    message = refusal(uri, "")
    assert message.startswith(f"bundle: {uri}/{name}: is damaged: sha256 ")
    assert "fit again" in message


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_file_is_told(store: str, remote: str, name: str) -> None:
    for place in (store, remote):
        uri = build(place)
        storage.remove(storage.join(uri, name))
        message = f"bundle: {uri}/{name}: is gone; fit again, or restore the bundle"
        assert refusal(uri, "") == message


def test_a_file_is_not_looked_at_again_where_that_was_done_a_moment_ago(store: str) -> None:
    uri = build(store)
    (Path(uri) / CLASSIFIER_FILE).write_bytes(b"x")
    assert open_bundle(uri, "", verify=False).uri == uri


@pytest.mark.parametrize("damage", ["changed", "gone", "record"])
def test_a_new_fit_mends_a_damaged_bundle(store: str, remote: str, damage: str) -> None:
    for place in (store, remote):
        uri = build(place)
        if damage == "record":
            storage.remove(storage.join(uri, RECORD))
        elif damage == "gone":
            storage.remove(storage.join(uri, CLASSIFIER_FILE))
        else:
            storage.write_bytes(storage.join(uri, CLASSIFIER_FILE), b"x")
        refusal(uri, "")
        assert build(place) == uri
        check_opened(open_bundle(uri, ""))


# Each changes something that scores depend on, or a digest of it.
CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "spec": lambda record: record["scorer"].update(image_size=128),
    "detector": lambda record: record["scorer"]["detector"].update(iou=0.5),
    "file": lambda record: record["scorer"]["files"][BACKBONE_FILE].update(sha256="0" * 64),
    "category": lambda record: record["scorer"]["categories"].update(bolt="gaussians/0001"),
    "scorer digest": lambda record: record.update(scorer_digest="0" * 64),
    "bundle digest": lambda record: record.update(bundle_digest="0" * 64),
    "feature digest": lambda record: record.update(feature_digest="0" * 64),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_record_is_told(store: str, change: str) -> None:
    uri = build(store)
    rewrite(uri, CHANGES[change])
    assert refusal(uri, "") == (f"bundle: {uri}/{RECORD}: was changed: its digests don't match it")


def test_what_people_note_in_the_record_is_theirs(store: str) -> None:
    uri = build(store)
    rewrite(uri, lambda record: record["provenance"].update(note="the good one"))
    check_opened(open_bundle(uri, ""))


@pytest.mark.parametrize("version", ["2", 1, None])
def test_another_version_is_named_beside_ours(store: str, version: object) -> None:
    uri = build(store)
    rewrite(uri, lambda record: record.update(schema_version=version))
    assert refusal(uri, "") == f"bundle: {uri}: has version {version!r}; this linescore reads '1'"


@pytest.mark.parametrize(
    "content",
    [
        {"schema_version": "1"},
        {"schema_version": "1", "scorer": {}},
        {"schema_version": "1", "scorer": []},
        {"schema_version": "1", "scorer": {"files": {}}},
    ],
)
def test_a_record_that_is_none(store: str, content: object) -> None:
    uri = build(store)
    storage.write_json(storage.join(uri, RECORD), content)
    assert refusal(uri, "").startswith(f"bundle: {uri}/{RECORD}: is no record of a bundle (")


def test_a_record_that_is_no_json_or_no_mapping(store: str) -> None:
    uri = build(store)
    file = Path(uri) / RECORD
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert refusal(uri, "").startswith(f"{file}: is damaged: not JSON")
    file.write_text("[]")
    assert "has version None" in refusal(uri, "")


@pytest.mark.parametrize("name", ["../../evil.txt", "/tmp/evil.txt", "a/../../evil.txt"])  # noqa: S108
def test_a_record_cannot_name_a_file_outside_the_bundle(store: str, name: str) -> None:
    """Whoever can write a bundle can also make its digests match."""
    uri = build(store, files={"evil.txt": b"x"})
    record = storage.read_json(storage.join(uri, RECORD))
    assert record == record | reference_digests(record["scorer"])
    entries = record["scorer"]["files"]
    entries[name] = entries.pop("evil.txt")
    record |= reference_digests(record["scorer"])
    storage.write_json(storage.join(uri, RECORD), record)
    assert refusal(uri, "") == f"bundle: {uri}/{RECORD}: file {name!r} is outside the bundle"


def reference_digests(scorer: dict[str, Any]) -> dict[str, str]:
    """The three digests as the record must have them, written out once more."""

    def sha256(value: object) -> str:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    names = ("image_size", "features", "feature_batch", "precision", "feature_types")
    weights = {"weights": scorer["files"][BACKBONE_FILE]["sha256"]}
    return {
        "scorer_digest": sha256(scorer),
        "bundle_digest": sha256({"scorer": sha256(scorer), "calibration": {}}),
        "feature_digest": sha256({name: scorer[name] for name in names} | weights),
    }


# --- digests ---


def digests(uri: str) -> tuple[str, str, str]:
    bundle = open_bundle(uri, "")
    return bundle.scorer_digest, bundle.bundle_digest, bundle.feature_digest


def test_the_same_content_has_the_same_digests_and_place(store: str, tmp_path: Path) -> None:
    first = build(store, started_at="2026-01-01")
    elsewhere = build(str(tmp_path / "other"), started_at="2026-01-02")
    assert digests(first) == digests(elsewhere)
    assert Path(first).name == Path(elsewhere).name
    before = Path(first, RECORD).read_bytes()
    assert build(store, started_at="2026-01-03") == first
    assert Path(first, RECORD).read_bytes() == before  # the bundle that was there stays
    folders = [place.name for place in Path(first).parent.iterdir() if place.is_dir()]
    assert folders == [Path(first).name]


OTHER_GAUSSIANS = GAUSSIANS | {("bolt", "pooled"): gaussian(99, "pooled")}
MORE_GAUSSIANS = GAUSSIANS | {("tile", "pooled"): gaussian(99, "pooled")}


@pytest.mark.parametrize(
    "change",
    [
        {"spec": dataclasses.replace(SPEC, detector=dataclasses.replace(DETECTOR, iou=0.5))},
        {"spec": dataclasses.replace(SPEC, detector=dataclasses.replace(DETECTOR, batch_size=4))},
        {"spec": dataclasses.replace(SPEC, classifier_batch=8)},
        {"spec": dataclasses.replace(SPEC, anomaly_score="pooled")},
        {"spec": dataclasses.replace(SPEC, global_floor=0.2)},
        {"files": {CLASSIFIER_FILE: b"another"}},
        {"files": {DETECTOR_FILE: b"another"}},
        {"gaussians": OTHER_GAUSSIANS},
        {"gaussians": MORE_GAUSSIANS},
    ],
)
def test_what_scores_depend_on_changes_their_digest_alone(
    store: str, change: dict[str, Any]
) -> None:
    before, after = digests(build(store)), digests(build(store, **change))
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True]


FEATURES = SPEC.features


@pytest.mark.parametrize(
    "change",
    [
        {"spec": dataclasses.replace(SPEC, image_size=128)},
        {"spec": dataclasses.replace(SPEC, feature_batch=8)},
        {"spec": dataclasses.replace(SPEC, precision="bfloat16")},
        {"spec": dataclasses.replace(SPEC, feature_types={"cells": "float32", "pooled": "f4"})},
        {"spec": dataclasses.replace(SPEC, features=dataclasses.replace(FEATURES, grids=(4,)))},
        {
            "spec": dataclasses.replace(
                SPEC, features=dataclasses.replace(FEATURES, pooled_layers=("layer2",))
            )
        },
        {"files": {BACKBONE_FILE: b"another"}},
    ],
)
def test_what_features_depend_on_changes_every_digest(store: str, change: dict[str, Any]) -> None:
    before, after = digests(build(store)), digests(build(store, **change))
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, False]


# --- builds that fail ---


def test_a_build_that_fails_halfway_leaves_nothing(store: str, remote: str, tmp_path: Path) -> None:
    for place in (store, remote):
        with pytest.raises(ZeroDivisionError), BundleBuilder(place, SPEC) as builder:
            builder.add_file(BACKBONE_FILE, b"b")
            builder.add_gaussian("bolt", "cells", GAUSSIANS["bolt", "cells"])
            raise ZeroDivisionError
        assert "(there: none)" in refusal("b", place)
    assert [path for path in Path(store).rglob("*") if path.is_file()] == []
    assert not list(tmp_path.glob("linescore-bundle-*"))


def test_a_build_under_way_is_not_seen(store: str) -> None:
    with BundleBuilder(store, SPEC) as builder:
        for name, content in FILES.items():
            builder.add_file(name, content)
        assert "(there: none)" in refusal("a", store)
        assert "(there: none)" in refusal(".partial", store)


class CutFileSystem(MemoryFileSystem):
    """A store on the border whose line is cut after some files."""

    protocol = "cut"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    files_left: ClassVar[int] = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).removeprefix("cut://").strip("/")

    def put_file(self, lpath: str, rpath: str, *_: Any, **__: Any) -> None:
        if CutFileSystem.files_left == 0:
            raise ConnectionResetError(104, "reset by peer")
        CutFileSystem.files_left -= 1
        self.pipe_file(rpath, Path(lpath).read_bytes())


fsspec.register_implementation("cut", CutFileSystem, clobber=True)


def test_an_upload_that_was_cut_off_is_no_bundle_until_it_is_finished(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The record is written last."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files = len(FILES) + 4 * len(GAUSSIANS)  # three arrays and a record for each
    for uploaded in range(files + 1):
        CutFileSystem.files_left = uploaded
        with pytest.raises(ConnectionResetError):
            build("cut://store")
        assert "no such bundle" in refusal("a", "cut://store")
        assert "there is no bundle" in refusal("latest", "cut://store")
    CutFileSystem.files_left = files + 1
    check_opened(open_bundle(build("cut://store"), ""))
