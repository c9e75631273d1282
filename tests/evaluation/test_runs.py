"""Published runs and other people's files, on a disk and in a store that is none."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import evaluate
from pipeline.config import CalibrateConfig, EvaluateConfig
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import run_evaluate
from pipeline.evaluation.table import ScoredTable, open_files, open_runs, repeated_images
from pipeline.scoring.bundle import open_bundle
from pipeline.scoring.calibrate import run_calibrate
from pipeline.scoring.thresholds_file import THRESHOLDS_FILE
from pipeline.tables import storage
from pipeline.tables.runs import RunPlaces
from tests.evaluation.tables import SCHEMA, Bench, at_least, row
from tests.scoring.runs import FIT_IDS, image_rows, make_bundle, make_run, usual_rows

SAFE = at_least("anomaly_score", {"ref": "anomaly_score.safe"})


@pytest.fixture
def remote() -> Iterator[str]:
    place = f"memory://store-{uuid.uuid4().hex[:8]}"
    yield place
    storage.remove(place)


@pytest.fixture
def calibrated(bench: Bench) -> str:
    """A run `r` and the bundle that was calibrated on it."""
    store = str(bench.store)
    seen = {"gaussians": FIT_IDS, "classifier": [], "detector": []}
    bundle = make_bundle(store, seen)
    extra = image_rows(5000, 6, None, None) + image_rows(6000, 8, "test", False)  # type: ignore[arg-type]
    make_run(store, bundle, usual_rows() + extra, [{**image_rows(9, 1, "test", True)[0]} | ERROR])
    run_calibrate(CalibrateConfig(run_id="r", store=store))
    bench.policy("safe", SAFE)
    return open_bundle("latest", store).uri


ERROR = {"error_type": "not_found", "error_message": "gone"}


def edited(file: Path) -> None:
    content = json.loads(file.read_text())
    content["thresholds"]["anomaly_score"]["categories"]["tile"]["safe"]["value"] = 1.5
    file.write_text(json.dumps(content))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:40])


def a(table: ScoredTable) -> list[Any]:
    return [value for batch in table.batches(["category"], ["a"]) for value in batch["a"].tolist()]


def test_a_run_is_judged_by_the_rows_that_chose_nothing(bench: Bench, calibrated: str) -> None:
    report = bench.evaluate(table=None, run_id="r")
    # Of two categories 10 tests each, 8 good ones, and 6 whose truth nobody knows.
    assert report["rows"] == {"judged": 34, "left_out": 190}
    assert report["measured_on"] == (
        "rows with the role test or none; no model behind these scores was trained and no "
        "threshold calibrated on them"
    )
    assert report["thresholds"]["bundle"] == open_bundle(calibrated, "").bundle_digest
    assert report["table"]["images_without_scores"] == 1
    assert any("1 images" in warning for warning in report["warnings"])
    by_category = open_bundle(calibrated, "").thresholds
    assert by_category is not None
    rows = pq.read_table(next((bench.store / "tables/scores").rglob("*.parquet"))).to_pandas()
    figures = bench.read("figures").query("level == 'category'").set_index("category")
    for category in ("bolt", "tile"):
        safe = by_category["anomaly_score"]["categories"][category]["safe"]["value"]
        mine = rows[(rows.category == category) & (rows.role == "test")]
        caught = mine.anomaly_score >= safe
        assert figures.tp[category] == (caught & mine.is_defect.eq(True)).sum()
        assert figures.fp[category] == (caught & mine.is_defect.eq(False)).sum()
    # An image without a role has no label here: flagged or not, it is no figure of either kind.
    assert figures.unlabelled.to_dict() == {"bolt": 0, "tile": 6}


def test_rows_that_chose_a_threshold_are_called_in_sample(bench: Bench, calibrated: str) -> None:
    assert calibrated
    report = bench.evaluate(table=None, run_id="r", roles="validation")
    assert "in-sample: validation rows chose the thresholds" in report["measured_on"]
    assert report["rows"]["judged"] == 100
    assert bench.read("figures").measured_on.str.contains("in-sample").all()


def test_thresholds_of_another_scorer_mean_nothing(
    bench: Bench, calibrated: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = RunPlaces(str(bench.store), "r").published
    storage.write_json(record, storage.read_json(record) | {"scorer_digest": "0" * 64})
    assert evaluate.main(bench.arguments(table=None, run_id="r")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"bundle: {calibrated}: its thresholds are of the scorer" in line
    assert "000000000000…" in line
    assert "none was calibrated around the run's own" in line
    assert not (bench.store / "reports").exists()


def test_the_bundle_that_was_calibrated_around_a_runs_scorer_is_named(
    bench: Bench, calibrated: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(bench.store)
    fitted = make_bundle(store, {"gaussians": FIT_IDS[1:]})  # since, and `latest` now
    make_run(store, fitted, usual_rows(), run_id="s")
    run_calibrate(CalibrateConfig(run_id="s", store=store))
    capsys.readouterr()
    assert evaluate.main(bench.arguments(table=None, run_id="r")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    name = Path(calibrated).name
    assert line.endswith(f"bundle={name} was calibrated around the run's own")
    assert evaluate.main(bench.arguments(table=None, run_id="r", bundle=name)) == 0


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (edited, "was changed: its digest doesn't match it; calibrate again"),
        (cut, "is no table of thresholds (Unterminated string"),
        (Path.unlink, "is gone; restore the bundle, or calibrate again"),
    ],
)
def test_thresholds_that_are_not_those_of_the_calibration_are_not_believed(
    bench: Bench,
    calibrated: str,
    damage: Callable[[Path], object],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = Path(calibrated) / THRESHOLDS_FILE
    decide = {"any": [SAFE, at_least("defect_logit", {"var": "x"})]}
    template = {"policy": "v1", "name": "either", "decide": decide}
    grid = {"x": {"values": [0.1, 0.2]}}
    sweep = bench.folder / "sweep.json"
    sweep.write_text(json.dumps({"sweep": "v1", "template": template, "variables": grid}))
    damage(file)
    for asked in ({}, {"policies": None, "sweep": str(sweep)}):
        assert evaluate.main(bench.arguments(table=None, run_id="r", **asked)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"bundle: {file}: {says}" in line
    assert not (bench.store / "reports").exists()


def test_an_asked_threshold_that_nobody_has(
    bench: Bench, calibrated: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrated
    bench.policy("safe", at_least("anomaly_score", {"ref": "anomaly_score.saef"}))
    assert evaluate.main(bench.arguments(table=None, run_id="r")) == 2
    assert "did you mean anomaly_score.safe?" in capsys.readouterr().err


def test_where_no_row_has_a_role_the_training_folder_judges_nothing(bench: Bench) -> None:
    store = str(bench.store)
    rows = [one | {"role": None, "split": "train"} for one in image_rows(0, 9, "", False)]
    rows += [one | {"role": None, "split": "test"} for one in image_rows(50, 4, "", True)]
    rows += [one | {"role": None} for one in image_rows(90, 2, "", True)]
    make_run(store, make_bundle(store), rows)
    bench.policy("p", at_least("anomaly_score", 20))
    report = bench.evaluate(table=None, run_id="r")
    assert report["rows"] == {"judged": 6, "left_out": 9}
    assert "outside the split train" in report["measured_on"]
    assert bench.evaluate(table=None, run_id="r", roles="none")["rows"]["judged"] == 15


def test_a_run_of_which_no_image_was_scored_has_no_verdict_and_is_no_failure(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(bench.store)
    bench.policy("p", at_least("anomaly_score", 20))
    make_run(store, make_bundle(store), [], [image_rows(9, 1, "test", True)[0] | ERROR])
    record = RunPlaces(store, "r").published
    storage.write_json(record, storage.read_json(record) | {"skipped": 7})
    arguments = bench.arguments(table=None, run_id="r")
    assert evaluate.main(arguments) == 4
    says = (
        "run_id: r: no image was scored (1 are in the errors table, 7 were left to earlier runs): "
        "there is nothing to evaluate"
    )
    assert capsys.readouterr().err == f"no verdict: {says}\n"
    # Neither is one that has no file of scores at all, as a night without a new image has none.
    tables = storage.read_json(record)["tables"]
    del tables["scores"]
    storage.write_json(record, storage.read_json(record) | {"tables": tables})
    assert evaluate.main(arguments) == 4
    assert says in capsys.readouterr().err
    assert not (bench.store / "reports").exists()


def test_runs_and_files_are_read_from_a_store_that_is_no_disk(remote: str, bench: Bench) -> None:
    make_run(remote, make_bundle(remote), image_rows(0, 5, "test", True))
    table = open_runs(remote, ["r"])
    assert table.rows == 5
    assert table.scores["anomaly_score"] == "float32"
    for name, first in (("one", 0), ("two", 10)):
        rows = [row(first + n, True, n) for n in range(3)]
        content = storage.parquet_bytes(pa.Table.from_pylist(rows, schema=SCHEMA))
        storage.write_bytes(storage.join(remote, "mine", f"{name}.parquet"), content)
    assert a(open_files(f"{remote}/mine", {})) == [0, 1, 2, 0, 1, 2]
    assert a(open_files(f"{remote}/mine/two.parquet", {})) == [0, 1, 2]
    with pytest.raises(InputError, match=r"table: .*nothing.parquet: there is no Parquet file"):
        open_files(f"{remote}/nothing.parquet", {})

    bench.policy("p", at_least("a", 1))
    policy = (bench.policies / "p.json").read_bytes()
    storage.write_bytes(storage.join(remote, "policies", "p.json"), policy)
    config = EvaluateConfig(store=remote, table=f"{remote}/mine", policies=(f"{remote}/policies",))
    run_evaluate(config.model_copy(update={"decide": "p"}))
    report = storage.join(remote, "reports", "evaluation")
    names = ["decisions", "figures", "histograms", "mistakes", "quality"]
    assert storage.list_names(report) == [
        "decisions.parquet",
        "evaluation.json",
        *(f"{name}.parquet" for name in names[1:]),
    ]
    figures = storage.read_parquet(storage.join(report, "figures.parquet")).to_pylist()
    assert (figures[0]["tp"], figures[0]["fn"]) == (4, 2)


def test_files_of_different_columns_are_no_table(bench: Bench) -> None:
    folder = bench.folder / "mine"
    folder.mkdir()
    bench.put([row(1, True, 1)], SCHEMA)
    table = pq.read_table(bench.table)
    pq.write_table(table, folder / "a.parquet")
    pq.write_table(table.drop_columns("b"), folder / "b.parquet")
    with pytest.raises(InputError, match=r"b\.parquet: has other columns than .*a\.parquet"):
        open_files(str(folder), {})


def test_an_image_that_stands_there_twice_is_noticed(bench: Bench, calibrated: str) -> None:
    assert calibrated
    with pytest.raises(InputError, match="run_id: r: is named twice"):
        bench.evaluate(table=None, run_id=("r", "r"))
    bench.put([row(1, True, 0.9), row(2, False, 0.1), row(3, None, 0.2)], SCHEMA)
    folder = bench.folder / "nights"
    folder.mkdir()
    for name in ("monday", "tuesday"):
        (folder / f"{name}.parquet").write_bytes(bench.table.read_bytes())
    assert repeated_images(open_files(str(folder), {})) == 3
    assert repeated_images(open_files(str(bench.table), {})) == 0


def test_words_of_rows_that_take_no_part_move_no_row(bench: Bench) -> None:
    """Later files may bring categories and types that only left-out rows have."""
    folder = bench.folder / "nights"
    folder.mkdir()
    first = [
        row(n, n % 2 == 0, 0.9 if n % 2 == 0 else 0.1, category=c, defect_type=kind)
        for n, (c, kind) in enumerate([("a", "scratch"), ("b", "good")] * 10)
    ]
    strange = [
        row(100 + n, True, 0.2, role="validation", category="z", defect_type=f"dent {n}")
        for n in range(5)
    ]
    second = [*strange, *({**one, "image_id": one["image_id"] + 50} for one in first)]
    for name, rows in (("1", first), ("2", second)):
        bench.put(rows, SCHEMA)
        (folder / f"{name}.parquet").write_bytes(bench.table.read_bytes())
    bench.policy("p", at_least("a", 0.5))
    bench.evaluate(table=str(folder), decide="p")
    figures = bench.read("figures")
    (whole,) = figures[figures.level == "all"].to_dict("records")
    assert (whole["tp"], whole["fn"], whole["fp"], whole["tn"]) == (20, 0, 0, 20)


def test_ids_beyond_a_signed_number_are_refused_before_any_work(bench: Bench) -> None:
    table = pa.table(
        {
            "image_id": pa.array([2**63 + 1, 2], pa.uint64()),
            "category": ["tile", "tile"],
            "is_defect": [True, False],
            "a": [0.9, 0.1],
        }
    )
    pq.write_table(table, bench.table)
    bench.policy("p", at_least("a", 0.5))
    with pytest.raises(InputError, match=r"columns\.image_id: .*uint64.* cast it to int64"):
        bench.evaluate()
