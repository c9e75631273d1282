"""What a run takes from earlier runs: the same tables as if all had been computed anew."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load, save

from pipeline.scoring.build import BundleBuilder
from pipeline.scoring.bundle import CLASSIFIER_FILE, RECORD, open_bundle
from pipeline.stages import reuse
from pipeline.stages.progress import Progress
from pipeline.stages.score import run_score
from pipeline.tables.manifest import write_manifest
from pipeline.tables.runs import RunPlaces, load_table
from pipeline.tables.schemas import MODEL_COLUMNS
from tests.conftest import TinyStore
from tests.jobs.test_killed_driver import kill_when

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ORIGINS = ["origin", "features_origin"]
GONE = "/nowhere"


@dataclass(frozen=True)
class Rescored:
    """The archive scored with a bundle all of whose models differ, and nothing else known."""

    bundle: str
    store: Path


def variant(tiny: TinyStore, store: Path, changed: Collection[str]) -> str:
    """The tiny bundle with other models, or other Gaussians of some categories."""
    bundle = open_bundle(tiny.bundle, "")
    detector = bundle.spec.detector
    assert detector is not None
    if "detector" in changed:
        detector = replace(detector, max_detections=3)
    with BundleBuilder(str(store), replace(bundle.spec, detector=detector)) as builder:
        for path in sorted(bundle.folder.iterdir()):
            if path.is_file() and path.name != RECORD:
                content = path.read_bytes()
                if path.name == CLASSIFIER_FILE and "classifier" in changed:
                    state = load(content)
                    content = save(state | {"fc.bias": state["fc.bias"] * 2 + 1})
                builder.add_file(path.name, content)
        for category in bundle.categories:
            for score in ("cells", "pooled"):
                gaussian = bundle.gaussian(category, score)
                if "features" in changed or category in changed:
                    gaussian = replace(gaussian, mean=gaussian.mean + 0.05)
                builder.add_gaussian(category, score, gaussian)
        return builder.finish({})[0]


def moved(tiny: TinyStore, folder: Path, **columns: Any) -> str:
    """The manifest with images that are nowhere: one that is read becomes an error."""
    table = pq.read_table(tiny.manifest)
    columns = {"uri": [f"{GONE}/{i}.png" for i in range(len(table))]} | columns
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values))
    write_manifest(str(folder / "moved.parquet"), table)
    return str(folder / "moved.parquet")


def run(tiny: TinyStore, store: Path, run_id: str, **changes: Any) -> dict[str, Any]:
    return run_score(tiny.score_config(store, run_id=run_id, **changes))


def scores(store: Path, run_id: str) -> pa.Table:
    return load_table(str(store), run_id, "scores")


def same(found: pa.Table, wanted: pa.Table, columns: Collection[str]) -> None:
    """Equal columns: distances within 1e-5, all else to the last bit."""
    assert found.num_rows == wanted.num_rows > 0
    for name in columns:
        if name.startswith("anomaly"):
            left, right = (pc.fill_null(t[name], -1).to_numpy() for t in (found, wanted))
            np.testing.assert_allclose(left, right, rtol=1e-5, err_msg=name)
        else:
            assert found[name].equals(wanted[name]), name


def check_mixed(
    found: tuple[Path, str],
    old: tuple[Path, str],
    new: tuple[Path, str],
    changed: Collection[str],
    but: Collection[str] = ("uri",),
) -> None:
    """Tables of a run in which some models changed: their columns are the new ones."""
    names = [n for n in scores(*old).schema.names if n not in (*ORIGINS, *but)]
    fresh = [column for model in changed for column in MODEL_COLUMNS[model]]
    same(scores(*found), scores(*new), fresh)
    same(scores(*found), scores(*old), [name for name in names if name not in fresh])
    source = new if "detector" in changed else old
    boxes = load_table(str(source[0]), source[1], "detections")
    assert load_table(str(found[0]), found[1], "detections").equals(boxes)
    for column in fresh:  # the changed model does make a difference
        if column != "detection_max_confidence":
            assert not scores(*new)[column].equals(scores(*old)[column]), column


@pytest.fixture(scope="module")
def first(tiny_store: TinyStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the archive was scored once, with all features kept."""
    store = tmp_path_factory.mktemp("first")
    report = run(tiny_store, store, "one", keep_features="cells")
    assert report["images"]["decoded"] == report["images"]["manifest"] == 40
    return store


@pytest.fixture(scope="module")
def anew(tiny_store: TinyStore, tmp_path_factory: pytest.TempPathFactory) -> Rescored:
    """The reference: everything computed from the images, with other models."""
    store = tmp_path_factory.mktemp("anew")
    bundle = variant(tiny_store, store, ("detector", "features", "classifier"))
    report = run(tiny_store, store, "all", bundle=bundle, reuse=False)
    assert report["images"]["decoded"] == 40
    return Rescored(bundle, store)


@pytest.fixture
def store(first: Path, tmp_path: Path) -> Path:
    """A copy of the store, to be added to."""
    shutil.copytree(first, tmp_path / "store")
    return tmp_path / "store"


def counts(report: dict[str, Any]) -> dict[str, int]:
    names = ("decoded", "reused", "carried", "skipped", "errors")
    return {name: report["images"][name] for name in names if report["images"][name]}


def test_an_unchanged_bundle_reads_no_image_and_takes_labels_from_the_new_manifest(
    tiny_store: TinyStore, store: Path, tmp_path: Path
) -> None:
    manifest = moved(tiny_store, tmp_path, role=["test"] * 40, is_defect=[True] * 40)
    report = run(tiny_store, store, "two", manifest=manifest)
    assert counts(report) == {"carried": 40}
    own = ("uri", "role", "is_defect")
    check_mixed((store, "two"), (store, "one"), (store, "one"), (), but=own)
    found = scores(store, "two")
    assert set(found["origin"].to_pylist()) == {"one"}
    assert found["features_origin"].null_count == 40
    assert set(found["role"].to_pylist()) == {"test"}
    assert set(found["is_defect"].to_pylist()) == {True}
    assert all(uri.startswith(GONE) for uri in found["uri"].to_pylist())
    # What was carried once is carried again, from the later of the two.
    assert counts(run(tiny_store, store, "three", manifest=manifest)) == {"carried": 40}
    assert set(scores(store, "three")["origin"].to_pylist()) == {"two"}


@pytest.mark.slow
def test_reuse_can_be_switched_off(tiny_store: TinyStore, store: Path, tmp_path: Path) -> None:
    manifest = moved(tiny_store, tmp_path)
    report = run(tiny_store, store, "two", manifest=manifest, reuse=False, max_unreachable=1)
    assert counts(report) == {"decoded": 40, "errors": 40}


def test_changed_gaussians_start_from_stored_features(
    tiny_store: TinyStore, store: Path, anew: Rescored, tmp_path: Path
) -> None:
    bundle = variant(tiny_store, store, ("features",))
    manifest = moved(tiny_store, tmp_path)
    report = run(tiny_store, store, "two", bundle=bundle, manifest=manifest)
    assert counts(report) == {"reused": 40}
    check_mixed((store, "two"), (store, "one"), (anew.store, "all"), ("features",))
    assert set(scores(store, "two")["features_origin"].to_pylist()) == {"one"}
    assert json.loads((store / "published/two.json").read_text())["needs"] == ["one"]


@pytest.mark.slow
def test_one_category_with_another_gaussian_leaves_the_others_alone(
    tiny_store: TinyStore, store: Path, anew: Rescored, tmp_path: Path
) -> None:
    bundle = variant(tiny_store, store, ("tile",))
    manifest = moved(tiny_store, tmp_path)
    report = run(tiny_store, store, "two", bundle=bundle, manifest=manifest)
    assert counts(report) == {"reused": 20, "carried": 20}
    found = scores(store, "two")
    for category, source in (("tile", (anew.store, "all")), ("bolt", (store, "one"))):
        mine, wanted = (
            t.filter(pc.equal(t["category"], category)) for t in (found, scores(*source))
        )
        same(mine, wanted, MODEL_COLUMNS["features"])


@pytest.mark.parametrize(
    "changed",
    [
        ("classifier",),
        pytest.param(("detector",), marks=pytest.mark.slow),
        pytest.param(("detector", "features"), marks=pytest.mark.slow),
    ],
)
def test_a_changed_model_alone_sees_the_images(
    tiny_store: TinyStore, store: Path, anew: Rescored, changed: tuple[str, ...]
) -> None:
    bundle = variant(tiny_store, store, changed)
    report = run(tiny_store, store, "two", bundle=bundle, fuse_models=False)
    assert counts(report) == {"decoded": 40}
    check_mixed((store, "two"), (store, "one"), (anew.store, "all"), changed, but=())
    ran = json.loads((store / "runs/two/run.json").read_text())["pools"]
    assert list(ran) == [changed[0]]
    assert set(scores(store, "two")["origin"].to_pylist()) == {"one"}


@pytest.mark.slow
def test_models_that_are_off_are_not_carried(
    tiny_store: TinyStore, store: Path, tmp_path: Path
) -> None:
    manifest = moved(tiny_store, tmp_path)
    report = run(tiny_store, store, "two", manifest=manifest, models={"features": False})
    assert counts(report) == {"carried": 40}
    found = scores(store, "two")
    for column in MODEL_COLUMNS["features"]:
        assert found[column].null_count == 40
    for model in ("detector", "classifier"):
        same(found, scores(store, "one"), MODEL_COLUMNS[model])
    # A later run that wants them again finds the features where they were computed.
    report = run(tiny_store, store, "three", manifest=manifest)
    assert counts(report) == {"carried": 40}
    assert set(scores(store, "three")["origin"].to_pylist()) == {"one"}


def test_an_image_in_another_category_gets_that_categorys_distance(
    tiny_store: TinyStore, store: Path, tmp_path: Path
) -> None:
    old = pq.read_table(tiny_store.manifest)["category"].to_pylist()
    names = ["tile" if i == 0 else "screw" if i == 1 else old[i] for i in range(40)]
    assert old[:2] == ["bolt", "bolt"]
    real = tmp_path / "real.parquet"
    table = pq.read_table(tiny_store.manifest)
    place = table.schema.get_field_index("category")
    write_manifest(str(real), table.set_column(place, "category", pa.array(names)))
    report = run(tiny_store, store, "two", manifest=moved(tiny_store, tmp_path, category=names))
    assert counts(report) == {"reused": 2, "carried": 38}
    run(tiny_store, tmp_path / "calm", "all", manifest=str(real), reuse=False)
    names = [n for n in scores(store, "one").schema.names if n not in (*ORIGINS, "uri")]
    same(scores(store, "two"), scores(tmp_path / "calm", "all"), names)
    found = scores(store, "two").filter(pc.equal(scores(store, "two")["category"], "screw"))
    assert found["anomaly_score"].to_pylist() == [None]
    boxes = load_table(str(store), "two", "detections")
    assert boxes.equals(load_table(str(tmp_path / "calm"), "all", "detections"))


def test_pooled_features_serve_bundles_that_score_by_them(
    tiny_store: TinyStore, tmp_path: Path
) -> None:
    bundle = open_bundle(tiny_store.bundle, "")
    pooled, shifted = (with_score(tiny_store, tmp_path, "pooled", shift) for shift in (0.0, 0.05))
    assert bundle.spec.anomaly_score == "cells"
    only = {"detector": False, "classifier": False}
    run(tiny_store, tmp_path, "one", keep_features="pooled", models=only)
    manifest = moved(tiny_store, tmp_path)
    settings = {"manifest": manifest, "models": only}
    assert counts(run(tiny_store, tmp_path, "two", bundle=pooled, **settings)) == {"carried": 40}
    two = scores(tmp_path, "two")
    assert two["anomaly_score"].equals(scores(tmp_path, "one")["anomaly_pooled"])
    report = run(tiny_store, tmp_path, "three", bundle=shifted, **settings)
    assert counts(report) == {"reused": 40}
    three = scores(tmp_path, "three")
    assert three["anomaly_cells"].null_count == 40
    assert three["anomaly_score"].null_count == 0
    assert not three["anomaly_score"].equals(two["anomaly_score"])
    # Distances without cells don't serve a bundle that scores by cells.
    cells = with_score(tiny_store, tmp_path, "cells", 0.05)
    report = run(tiny_store, tmp_path, "four", bundle=cells, max_unreachable=1, **settings)
    assert counts(report) == {"decoded": 40, "errors": 40}


def with_score(tiny: TinyStore, store: Path, score: str, shift: float) -> str:
    """The tiny bundle with another `anomaly_score` and shifted Gaussians."""
    bundle = open_bundle(tiny.bundle, "")
    with BundleBuilder(str(store), replace(bundle.spec, anomaly_score=score)) as builder:
        for path in sorted(bundle.folder.iterdir()):
            if path.is_file() and path.name != RECORD:
                builder.add_file(path.name, path.read_bytes())
        for category in bundle.categories:
            for name in ("cells", "pooled"):
                gaussian = bundle.gaussian(category, name)
                gaussian = replace(gaussian, mean=gaussian.mean + shift) if shift else gaussian
                builder.add_gaussian(category, name, gaussian)
        return builder.finish({})[0]


@pytest.mark.parametrize(
    ("settings", "decoded"),
    [
        ({"limits": {"min_side": 20}}, 40),  # the earlier run took smaller ones
        pytest.param({"limits": {"min_side": 10}}, 0, marks=pytest.mark.slow),
        # They are kept where they are.
        pytest.param({"keep_features": "pooled"}, 0, marks=pytest.mark.slow),
    ],
)
def test_settings_that_a_carried_row_would_not_meet_are_computed_anew(
    tiny_store: TinyStore, store: Path, settings: dict[str, Any], decoded: int
) -> None:
    only = {"detector": False, "features": "keep_features" in settings, "classifier": True}
    report = run(tiny_store, store, "two", models=only, **settings)
    assert report["images"]["decoded"] == decoded


@pytest.mark.slow
def test_features_that_are_to_be_kept_and_are_not_yet_are_computed(
    tiny_store: TinyStore, tmp_path: Path
) -> None:
    only = {"detector": False, "classifier": False}
    run(tiny_store, tmp_path, "one", models=only)
    report = run(tiny_store, tmp_path, "two", models=only, keep_features="pooled")
    assert counts(report) == {"decoded": 40}
    assert load_table(str(tmp_path), "two", "features").num_rows == 40
    report = run(tiny_store, tmp_path, "three", models=only, keep_features="pooled")
    assert counts(report) == {"carried": 40}
    needs = json.loads((tmp_path / "published/three.json").read_text())["needs"]
    assert needs == ["two"]


@pytest.mark.parametrize(
    ("table", "changed"),
    [
        pytest.param("scores", "classifier", marks=pytest.mark.slow),
        ("detections", "classifier"),
        pytest.param("features", "features", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("how", ["flip", pytest.param("gone", marks=pytest.mark.slow)])
def test_a_damaged_table_is_not_taken_from(
    tiny_store: TinyStore, store: Path, anew: Rescored, table: str, changed: str, how: str
) -> None:
    """Found while planning (scores), in a chain (detections) and in a piece (features)."""
    file = next((store / "tables" / table).rglob("*.parquet"))
    if how == "gone":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 3] ^= 1
        file.write_bytes(content)
    bundle = variant(tiny_store, store, (changed,))
    report = run(tiny_store, store, "two", bundle=bundle)
    assert counts(report) == {"decoded": 40}
    found = scores(store, "two")
    assert found["origin"].null_count == found["features_origin"].null_count == 40
    same(found, scores(anew.store, "all"), MODEL_COLUMNS[changed])


@pytest.mark.parametrize("arithmetic", ["its own", "another", None])
def test_a_run_published_by_an_older_linescore_is_found_through_its_bundle(
    tiny_store: TinyStore,
    store: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    arithmetic: str | None,
) -> None:
    """Where it computes as now; its bundle says nothing of that, its begun record does."""
    rewrite(
        store / "published/one.json",
        without=("models", "components", "limits", "verify_content", "keep_features", "needs"),
    )
    if arithmetic != "its own":
        begun = Path(RunPlaces(str(store), "one").record)
        rewrite(begun, within="identity", without=("arithmetic",), also={"arithmetic": arithmetic})
    taken = arithmetic == "its own"
    manifest = moved(tiny_store, tmp_path) if taken else tiny_store.manifest
    found = counts(run(tiny_store, store, "two", manifest=manifest))
    assert found == ({"carried": 40} if taken else {"decoded": 40})
    assert ("a linescore that computes in another way" in caplog.text) is not taken


def rewrite(
    place: Path,
    without: tuple[str, ...],
    within: str | None = None,
    also: Mapping[str, object | None] = MappingProxyType({}),
) -> None:
    """Leaves entries out of a record, or of one of its parts, and adds those that aren't None."""
    record = json.loads(place.read_text())
    part = record if within is None else record[within]
    for name in without:
        del part[name]
    part.update({name: value for name, value in also.items() if value is not None})
    place.write_text(json.dumps(record))


def test_a_run_that_continues_takes_the_rest_from_the_same_runs(
    tiny_store: TinyStore, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver ends after one piece; another run is published before it continues."""
    monkeypatch.setattr(reuse, "_CARRIED_PIECE", 10)
    manifest = moved(tiny_store, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_store, store, "two", manifest=manifest)
    assert not (store / "published/two.json").exists()
    run(tiny_store, store, "between", manifest=manifest)
    report = run(tiny_store, store, "two", manifest=manifest)
    assert report["resumed"]
    assert report["committed_before"] >= 10
    assert counts(report) == {"carried": 40}
    assert set(scores(store, "two")["origin"].to_pylist()) == {"one"}
    check_mixed((store, "two"), (store, "one"), (store, "one"), ())


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_driver_leaves_a_run_that_the_same_command_finishes(
    tiny_store: TinyStore, store: Path, anew: Rescored, cluster: str
) -> None:
    bundle = variant(tiny_store, store, ("classifier",))
    settings = {"manifest": tiny_store.manifest, "bundle": bundle, "store": store}
    settings |= {"run_id": "two", "block_rows": 4, "commit_rows": 4}
    arguments = [f"{key}={value}" for key, value in settings.items()]

    command = [sys.executable, "jobs/score.py", *arguments]
    there = kill_when(command, "commits/*.json", store / "runs/two", 2, cluster)
    assert there < 10
    report = run(tiny_store, store, "two", bundle=bundle, block_rows=4, commit_rows=4)
    assert report["committed_before"] >= 8
    check_mixed((store, "two"), (store, "one"), (anew.store, "all"), ("classifier",), but=())
