"""Scoring without Ray gives the rows that the job on Ray publishes."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.api import Run, load_bundle, load_manifest, load_run, load_scorer
from pipeline.errors import InputError
from pipeline.models.detector import Boxes
from pipeline.stages.score import run_score
from pipeline.tables.manifest import write_manifest
from tests.conftest import TinyStore

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

LABELS = ("split", "role", "group_id", "defect_type", "is_defect")


@pytest.fixture(scope="module")
def scored(tiny_store: TinyStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """A run over the small archive and one file that is no image any more; its manifest."""
    folder = tmp_path_factory.mktemp("direct")
    broken = folder / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 40)
    rows = load_manifest(tiny_store.manifest)
    extra = rows.slice(0, 1).to_pylist()[0]
    extra |= {"image_id": 5, "uri": str(broken), "sha256": None}
    manifest = str(folder / "with-broken.parquet")
    write_manifest(
        manifest, pa.concat_tables([rows, pa.Table.from_pylist([extra], schema=rows.schema)])
    )
    run_score(tiny_store.score_config(folder / "store", run_id="r", manifest=manifest))
    return load_run(folder / "store"), manifest


@pytest.fixture(scope="module")
def scorer(tiny_store: TinyStore):  # type: ignore[no-untyped-def]
    return load_scorer(load_bundle(tiny_store.store, tiny_store.bundle))


def ordered(table: pa.Table) -> pa.Table:
    return table.sort_by([("category", "ascending"), ("image_id", "ascending")])


def test_rows_of_a_manifest_get_the_jobs_tables(scored, scorer) -> None:  # type: ignore[no-untyped-def]
    run, manifest = scored
    found = scorer.rows(load_manifest(manifest))
    assert found.scores.num_rows == 40
    assert ordered(found.scores).equals(run.scores())
    assert found.scores["anomaly_cells"].null_count == 0
    boxes = [("category", "ascending"), ("image_id", "ascending"), ("box_index", "ascending")]
    assert found.detections.sort_by(boxes).equals(run.detections().sort_by(boxes))
    assert found.detections.num_rows > 40
    assert found.errors.equals(run.errors())
    assert found.errors.num_rows == 1


def test_an_image_of_which_the_detector_gives_no_number_is_an_error(  # type: ignore[no-untyped-def]
    scored, scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = scored
    theirs = run.scores().slice(0, 3)
    detect = scorer._detector.detect

    def blinded(images: np.ndarray) -> list[Boxes]:
        found: list[Boxes] = detect(images)
        return [found[0], replace(found[1], finite=False), *found[2:]]

    monkeypatch.setattr(scorer._detector, "detect", blinded)
    found = scorer.files(theirs["uri"].to_pylist(), theirs["category"].to_pylist())
    assert found.errors["error_type"].to_pylist() == ["not_finite"]
    assert found.errors["uri"].to_pylist() == theirs["uri"].to_pylist()[1:2]
    assert found.scores.num_rows == 2


def test_files_get_the_same_under_the_ids_of_their_content(scored, scorer) -> None:  # type: ignore[no-untyped-def]
    run, _ = scored
    theirs = run.scores()
    found = scorer.files(theirs["uri"].to_pylist(), theirs["category"].to_pylist())
    unlabelled = [name for name in theirs.column_names if name not in (*LABELS, "bytes")]
    assert found.scores.select(unlabelled).equals(theirs.select(unlabelled))
    assert found.errors.num_rows == 0


def test_arrays_get_the_numbers_of_their_files(scored, scorer) -> None:  # type: ignore[no-untyped-def]
    run, _ = scored
    theirs = run.scores().slice(0, 5)
    images = [np.asarray(Image.open(uri)) for uri in theirs["uri"].to_pylist()]
    assert not images[0].flags.writeable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = scorer.arrays(images, theirs["category"].to_pylist()).scores
    models = ["anomaly_score", "anomaly_pooled", "defect_logit", "detection_max_confidence"]
    same = ["width", "height", "brightness", "contrast", "sharpness", *models]
    assert found.select(same).equals(theirs.select(same))
    assert found["image_id"].to_pylist() == [0, 1, 2, 3, 4]


def test_a_grey_array_is_the_same_as_three_equal_channels(scorer) -> None:  # type: ignore[no-untyped-def]
    grey = np.random.default_rng(0).integers(0, 256, (70, 64), np.uint8)
    found = scorer.arrays([grey, np.repeat(grey[:, :, None], 3, axis=2)], ["bolt", "bolt"]).scores
    first, second = found.drop_columns(["image_id", "uri"]).to_pylist()
    assert first == second


def test_models_that_are_left_out_leave_their_columns_null(tiny_store: TinyStore) -> None:
    alone = load_scorer(load_bundle(tiny_store.store, tiny_store.bundle), models=["classifier"])
    image = np.zeros((64, 64, 3), np.uint8)
    found = alone.arrays([image], [None])
    assert found.scores["defect_logit"].null_count == 0
    for name in ("anomaly_score", "detection_count"):
        assert found.scores[name].null_count == 1
    assert found.detections.num_rows == 0


def test_an_image_that_cannot_be_scored_is_an_error_with_its_reason(scorer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    small = np.zeros((8, 64, 3), np.uint8)
    found = scorer.arrays([small, np.zeros((64, 64, 3), np.uint8)], ["bolt", "bolt"])
    assert found.errors["error_type"].to_pylist() == ["too_small"]
    assert found.scores["image_id"].to_pylist() == [1]
    gone = scorer.files([str(tmp_path / "gone.png")], ["bolt"])
    assert gone.errors["error_type"].to_pylist() == ["not_found"]
    assert gone.scores.num_rows == 0


def test_what_cannot_be_given_is_told_with_the_way_out(scorer, tiny_store: TinyStore) -> None:  # type: ignore[no-untyped-def]
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(InputError, match=r"'nut' of image 1: .* those of bolt, tile"):
        scorer.arrays([image, image], ["bolt", "nut"])
    with pytest.raises(InputError, match=r"image 0 has shape \(64, 64, 3\) and type float64"):
        scorer.arrays([image / 255], ["bolt"])
    with pytest.raises(InputError, match=r"image 0 has shape \(64, 64, 4\)"):
        scorer.arrays([np.zeros((64, 64, 4), np.uint8)], ["bolt"])
    with pytest.raises(InputError, match="1 categories for 2 images"):
        scorer.arrays([image, image], ["bolt"])
    bundle = load_bundle(tiny_store.store, tiny_store.bundle)
    with pytest.raises(InputError, match="models: yolo: the bundle has detector, features"):
        load_scorer(bundle, models=["yolo"])
