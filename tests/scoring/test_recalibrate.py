"""A bundle with thresholds: the same scorer, its files not copied, and every byte verified."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError
from pipeline.scoring import build
from pipeline.scoring.build import recalibrate
from pipeline.scoring.bundle import RECORD, Bundle, open_bundle
from pipeline.scoring.thresholds_file import THRESHOLDS_FILE, canonical_digest, sealed
from pipeline.tables import storage
from tests.scoring.runs import FILES, MODELS, make_bundle

TABLES = {"thresholds.parquet": b"thresholds" * 9, "reliability.parquet": b"bins" * 9}


def content(value: float = 31.25, at: str = "2026-01-02") -> dict[str, Any]:
    thresholds = {"anomaly_score": {"categories": {"größe": {"safe": {"value": value}}}}}
    return sealed({"thresholds": thresholds}, at)


def calibrated(
    store: str, bundle: str, value: float = 31.25, at: str = "2026-01-02"
) -> tuple[str, Bundle]:
    uri, digest = recalibrate(open_bundle(bundle, store), store, content(value, at), TABLES, {})
    opened = open_bundle(uri, "")
    assert opened.bundle_digest == digest
    return uri, opened


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


def refusal(reference: str) -> str:
    with pytest.raises(InputError) as error:
        open_bundle(reference, "")
    return str(error.value)


def test_the_scorer_stays_and_the_bundle_is_another(store: str, remote: str) -> None:
    for place in (store, remote):
        plain = open_bundle(make_bundle(place, {"classifier": [1, 2]}), "")
        uri, opened = calibrated(place, plain.uri)
        assert (plain.thresholds, plain.calibration) == (None, None)
        assert opened.thresholds is not None
        assert opened.thresholds["anomaly_score"]["categories"]["größe"]["safe"]["value"] == 31.25
        assert opened.calibration == content()
        assert opened.scorer_digest == plain.scorer_digest
        assert opened.feature_digest == plain.feature_digest
        assert opened.bundle_digest != plain.bundle_digest
        assert uri == storage.join(place, "bundles", opened.bundle_digest[:16])
        assert opened.spec == plain.spec
        for name, data in (FILES | TABLES).items():
            assert (opened.folder / name).read_bytes() == data
        seen = opened.trained_on("classifier")
        assert seen is not None
        assert seen.tolist() == [1, 2]
        assert open_bundle("latest", place).uri == uri
        assert open_bundle(plain.uri, "").bundle_digest == plain.bundle_digest


def test_the_digest_of_a_plain_bundle_is_what_it_was(store: str) -> None:
    opened = open_bundle(make_bundle(store), "")
    whole = {"scorer": opened.scorer_digest, "calibration": {}}
    assert opened.bundle_digest == canonical_digest(whole)


def test_weights_are_linked_on_one_disk_and_copied_where_links_do_not_work(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path(make_bundle(store, {model: [1] for model in MODELS}))
    uri, _ = calibrated(store, str(plain))
    for name in FILES:
        assert (Path(uri) / name).samefile(plain / name)

    def refuse(*_: object) -> None:
        raise OSError("links don't work here")

    monkeypatch.setattr(build.os, "link", refuse)
    other, opened = calibrated(store, str(plain), 2.0)
    for name, data in FILES.items():
        assert not (Path(other) / name).samefile(plain / name)
        assert (opened.folder / name).read_bytes() == data


def test_a_bucket_copies_its_own_files(remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = open_bundle(make_bundle(remote), "")
    fs, _ = storage.filesystem(remote)

    def refuse(*_: object) -> None:
        raise AssertionError("the weights went through this machine")

    monkeypatch.setattr(type(fs), "put_file", refuse)
    calibrated(remote, plain.uri)


def test_a_bundle_from_elsewhere_is_calibrated_into_the_store(store: str, remote: str) -> None:
    plain = open_bundle(make_bundle(store), "")
    uri, _ = recalibrate(plain, remote, content(), TABLES, {})
    assert open_bundle(uri, "").scorer_digest == plain.scorer_digest


def test_recalibrating_leaves_the_old_thresholds_behind(store: str) -> None:
    plain = make_bundle(store)
    first, _ = calibrated(store, plain, 1.0)
    second, opened = calibrated(store, first, 2.0)
    again, _ = calibrated(store, plain, 2.0)
    assert second == again != first
    assert opened.thresholds == content(2.0)["thresholds"]


def test_the_same_calibration_at_another_time_is_the_same_bundle(store: str) -> None:
    plain = make_bundle(store)
    first, _ = calibrated(store, plain, at="2026-01-02")
    before = (Path(first) / RECORD).read_bytes()
    later, opened = calibrated(store, plain, at="2026-01-03")
    assert later == first
    assert (Path(first) / RECORD).read_bytes() == before
    assert opened.calibration == content(at="2026-01-02")
    names = [path.name for path in Path(first).parent.iterdir() if path.is_dir()]
    assert len(names) == 2  # no folder of a build under way is left


CALIBRATION_FILES = [THRESHOLDS_FILE, *TABLES]


@pytest.mark.parametrize("name", [*CALIBRATION_FILES, "backbone.safetensors"])
def test_a_changed_or_missing_file_is_told_and_made_again(
    store: str, remote: str, name: str
) -> None:
    for place in (store, remote):
        plain = make_bundle(place)
        uri, opened = calibrated(place, plain)
        if place == remote:
            shutil.rmtree(opened.folder)  # the copy on this machine is whole
        file = storage.join(uri, name)
        data = bytearray(storage.read_bytes(file))
        data[-2] ^= 1
        storage.remove(file)  # a linked file must not change under another name
        storage.write_bytes(file, bytes(data))
        assert f"{uri}/{name}: is damaged: sha256" in refusal(uri)
        storage.remove(file)
        assert f"{uri}/{name}: is gone" in refusal(uri)
        assert calibrated(place, plain)[0] == uri


def rewrite(uri: str, change: Callable[[dict[str, Any]], object]) -> None:
    record = storage.read_json(storage.join(uri, RECORD))
    change(record)
    storage.write_json(storage.join(uri, RECORD), record)


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "gone": lambda record: record.pop("calibration"),
    "empty": lambda record: record.update(calibration={}),
    "content": lambda record: record["calibration"].update(content="0" * 64),
    "table": lambda record: record["calibration"]["files"]["thresholds.parquet"].update(
        sha256="0" * 64
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_record_with_another_calibration_is_told(store: str, change: str) -> None:
    uri, _ = calibrated(store, make_bundle(store))
    rewrite(uri, CHANGES[change])
    assert "was changed: its digests don't match it" in refusal(uri)


@pytest.mark.parametrize(
    "shape", [[], {"content": "x"}, {"files": {}}, {"files": [], "content": 1}]
)
def test_a_calibration_that_is_none(store: str, shape: Any) -> None:
    uri, _ = calibrated(store, make_bundle(store))
    rewrite(uri, lambda record: record.update(calibration=shape))
    message = refusal(uri)
    assert "is no record of a bundle" in message or "was changed" in message


def test_thresholds_edited_with_their_sum_in_the_record_are_told(store: str) -> None:
    """The record's sum of thresholds.json is not in the bundle's digest; its content is."""
    uri, _ = calibrated(store, make_bundle(store))
    file = Path(uri) / THRESHOLDS_FILE
    edited = json.loads(file.read_text())
    edited["thresholds"]["anomaly_score"]["categories"]["größe"]["safe"]["value"] = 99.0

    def write(value: dict[str, Any]) -> None:
        file.write_text(json.dumps(value))
        entry = {"sha256": build.file_digest(file), "bytes": file.stat().st_size}
        rewrite(uri, lambda record: record["calibration"]["files"].update({file.name: entry}))

    write(edited)
    assert refusal(uri) == (
        f"bundle: {file}: was changed: its digest doesn't match it; calibrate again"
    )
    write(sealed({"thresholds": edited["thresholds"]}, "2026-01-02"))
    assert "was changed" in refusal(uri)
    write(edited | {"schema_version": "2"})
    assert "has version '2'; this linescore reads '1'" in refusal(uri)
    file.write_text("[]")
    write_list = {"sha256": build.file_digest(file), "bytes": 2}
    rewrite(uri, lambda record: record["calibration"]["files"].update({file.name: write_list}))
    assert "is no table of thresholds" in refusal(uri)


def test_a_file_outside_the_bundle_can_not_be_named(store: str) -> None:
    uri, opened = calibrated(store, make_bundle(store))
    record = storage.read_json(storage.join(uri, RECORD))
    entries = record["calibration"]["files"]
    entries["../evil.parquet"] = entries.pop("thresholds.parquet")
    tables = {name: entry["sha256"] for name, entry in entries.items() if name != THRESHOLDS_FILE}
    identity = {"content": record["calibration"]["content"], "tables": tables}
    record["bundle_digest"] = canonical_digest(
        {"scorer": opened.scorer_digest, "calibration": identity}
    )
    storage.write_json(storage.join(uri, RECORD), record)
    assert "file '../evil.parquet' is outside the bundle" in refusal(uri)


def test_a_moved_bundle_keeps_its_thresholds(store: str, tmp_path: Path) -> None:
    uri, opened = calibrated(store, make_bundle(store))
    shutil.copytree(uri, tmp_path / "copy")
    assert open_bundle(str(tmp_path / "copy"), "").thresholds == opened.thresholds
