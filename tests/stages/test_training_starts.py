"""What a training checks before it starts a cluster: names, earlier starts, rows, others at it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from jobs import train_classifier, train_detector
from pipeline.config import TrainClassifierConfig, TrainDetectorConfig
from pipeline.errors import InputError, RunError
from pipeline.scoring.train_detector import check_training, chosen_rows, model_places
from pipeline.stages.cluster import needs, share_out
from pipeline.stages.train_classifier import run_train_classifier
from pipeline.stages.train_detector import earlier_record, pool_for, run_train_detector
from pipeline.tables.lock import LOCKS, Holder, locked
from tests.conftest import TinyModels
from tests.detection import manifest, small_archive, table


def classifier(folder: Path, models: TinyModels, **changes: object) -> TrainClassifierConfig:
    values: dict[str, object] = {
        "manifest": manifest(folder, small_archive(folder / "archive")),
        "store": str(folder / "store"),
        "name": "april",
        "weights": str(models.backbone),
        "image_size": 64,
    }
    return TrainClassifierConfig.model_validate(values | changes)


def detector(folder: Path, **changes: object) -> TrainDetectorConfig:
    values: dict[str, object] = {
        "manifest": manifest(folder, small_archive(folder / "archive")),
        "store": str(folder / "store"),
        "name": "april",
        "image_size": 64,
        "epochs": 1,
    }
    return TrainDetectorConfig.model_validate(values | changes)


def put(folder: Path, name: str, content: object) -> Path:
    """A JSON file of the model `april` in the folder's store."""
    file = folder / "store/models/april" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


@pytest.fixture
def trained_here(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Puts a function in the place of what a cluster would do in a training of either kind."""

    def put_in_place(work: Callable[[], Any]) -> None:
        for kind in ("classifier", "detector"):
            stage = f"pipeline.stages.train_{kind}"
            monkeypatch.setattr(f"{stage}.connected", lambda _: nullcontext())
            monkeypatch.setattr(f"{stage}.plan_pools", lambda *_: None)
        monkeypatch.setattr("pipeline.stages.train_classifier.train_pending", lambda _: work())
        monkeypatch.setattr("pipeline.stages.train_detector.pool_for", lambda *_: None)
        monkeypatch.setattr("pipeline.stages.train_detector._start", lambda *_: None)
        monkeypatch.setattr("pipeline.stages.train_detector._await", lambda *_: work())
        monkeypatch.setattr(ray, "cluster_resources", dict)

    return put_in_place


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("training.json", {"model": "detector", "identity": {}, "metrics": {}}),
        ("work/started.json", {"identity": {"kind": "train_detector"}}),
    ],
)
def test_a_classifier_does_not_take_the_name_of_a_detector(
    tmp_path: Path, tiny_models: TinyModels, file: str, content: object
) -> None:
    ours = classifier(tmp_path, tiny_models)
    put(tmp_path, file, content)
    with pytest.raises(InputError, match=r"april: holds a detector.* use another name"):
        run_train_classifier(ours)
    assert names(tmp_path / "store") == [f"models/april/{file}"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("training.json", {"kind": "classifier", "metrics": {"judged": {}}}),
        ("run.json", {"identity": {"kind": "classifier"}}),
    ],
)
def test_a_detector_does_not_take_the_name_of_a_classifier(
    tmp_path: Path, file: str, content: object
) -> None:
    ours = detector(tmp_path)
    put(tmp_path, file, content)
    with pytest.raises(InputError, match=r"april: holds a classifier.* use another name"):
        run_train_detector(ours)
    assert names(tmp_path / "store") == [f"models/april/{file}"]


def test_a_finished_classifier_without_its_record_is_left_as_it_is(
    tmp_path: Path, tiny_models: TinyModels
) -> None:
    ours = classifier(tmp_path, tiny_models)
    put(tmp_path, "training.json", {"kind": "classifier"})
    with pytest.raises(InputError, match=r"run\.json: is missing"):
        run_train_classifier(ours)
    assert names(tmp_path / "store") == ["models/april/training.json"]


@pytest.mark.parametrize("kind", ["classifier", "detector"])
def test_a_name_that_another_process_trains_is_refused_and_left_as_it_is(
    tmp_path: Path,
    tiny_models: TinyModels,
    capsys: pytest.CaptureFixture[str],
    trained_here: Callable[[Callable[[], Any]], None],
    kind: str,
) -> None:
    def trained() -> None:
        raise AssertionError("two train at once")

    trained_here(trained)
    settings = [f"manifest={manifest(tmp_path, small_archive(tmp_path / 'archive'))}", "name=april"]
    settings += [f"store={tmp_path / 'store'}", "image_size=64"]
    if kind == "classifier":
        settings.append(f"weights={tiny_models.backbone}")
    job = {"classifier": train_classifier.main, "detector": train_detector.main}[kind]
    with locked(str(tmp_path / "store/models/april"), "name april"):
        before = names(tmp_path / "store")
        assert job(settings) == 2
        assert names(tmp_path / "store") == before
    said = capsys.readouterr().err
    assert f"error: name april: is being written by process {os.getpid()} on " in said
    assert "Traceback" not in said
    assert not (tmp_path / "store/models").exists()


@pytest.mark.parametrize("kind", ["classifier", "detector"])
def test_who_was_taken_over_finishes_no_model(
    tmp_path: Path,
    tiny_models: TinyModels,
    trained_here: Callable[[Callable[[], Any]], None],
    kind: str,
) -> None:
    """It stood still for a minute, and another process holds the lock when it comes back."""

    def taken_over() -> dict[str, Any]:
        put(tmp_path, f"{LOCKS}/00000002.json", vars(Holder("b", "night-2", "x", 7, "1")))
        return {}

    trained_here(taken_over)
    with pytest.raises(RunError, match=r"april/locks: process 7 on night-2 has taken this run"):
        if kind == "classifier":
            run_train_classifier(classifier(tmp_path, tiny_models))
        else:
            run_train_detector(detector(tmp_path))
    begun = {"classifier": "run.json", "detector": "work/started.json"}[kind]
    left = [f"models/april/{name}" for name in (f"{LOCKS}/00000002.json", begun)]
    assert set(left) <= set(names(tmp_path / "store"))
    assert not (tmp_path / "store/models/april/training.json").exists()
    assert not list(tmp_path.glob("store/models/april/*.parquet"))


def test_a_start_without_a_state_binds_nobody(tmp_path: Path) -> None:
    ours = detector(tmp_path)
    places = model_places(str(tmp_path / "store"), "april")
    assert earlier_record(places, check_training(ours)) is None
    boxes = ours.boxes.model_copy(update={"unmarked": "skip"})
    mended = check_training(ours.model_copy(update={"boxes": boxes}))
    assert earlier_record(places, mended) is None
    Path(places.state).write_bytes(b"of the mended one")
    assert earlier_record(places, mended) is None
    with pytest.raises(InputError, match=r"unmarked was .?skip.?, is now .?refuse"):
        earlier_record(places, check_training(ours))


@given(threads=st.integers(1, 64), cpus=st.integers(2, 64), gpus=st.integers(0, 4))
def test_a_detectors_task_fits_every_cluster(threads: int, cpus: int, gpus: int) -> None:
    pool = pool_for(threads, {"CPU": cpus, "GPU": gpus})
    needed = needs(share_out({"training": pool}, cpus, gpus))
    assert needed["CPU"] <= cpus
    assert needed["GPU"] <= gpus
    assert pool.num_cpus == min(threads, cpus - 1)


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_a_detector_does_not_wait_for_ever(cluster: str, tmp_path: Path) -> None:
    class Holder:
        def ready(self) -> None:
            pass

    ours = detector(tmp_path, ray={"resource_wait_s": 0})
    held = ray.remote(num_cpus=ray.cluster_resources()["CPU"])(Holder).remote()
    try:
        ray.get(held.ready.remote())
        with pytest.raises(InputError, match="after 0 s other jobs have left"):
            run_train_detector(ours)
    finally:
        ray.kill(held)


@pytest.mark.parametrize("role", ["validation", "test"])
def test_a_group_on_both_sides_of_a_detectors_training_is_refused(
    tmp_path: Path, role: str
) -> None:
    rows = small_archive(tmp_path / "archive")
    ours = detector(tmp_path, evaluate_role=role)
    learnt, judged = (next(r for r in rows if r["role"] == name) for name in ("fit", role))
    learnt["group_id"] = 71
    judged["group_id"] = 71
    manifest(tmp_path, rows)
    with pytest.raises(InputError, match=rf"group_id 71: lies in fit and in {role} \(1 such"):
        check_training(ours)
    judged["is_defect"] = None  # it is neither learnt nor judged
    manifest(tmp_path, rows)
    check_training(ours)
    judged |= {"is_defect": False, "group_id": None}
    learnt["group_id"] = judged["image_id"]  # a group of its own goes by the image's id
    manifest(tmp_path, rows)
    with pytest.raises(InputError, match=rf"group_id {judged['image_id']}: lies in fit"):
        check_training(ours)


def test_images_that_nobody_labelled_are_no_background(tmp_path: Path) -> None:
    rows = [row for row in small_archive(tmp_path / "archive") if row["role"] == "fit"]
    rows.sort(key=lambda row: row["image_id"])
    good = [row for row in rows if not row["is_defect"]]
    good[0]["is_defect"] = None
    chosen = chosen_rows(table(rows), 2 / 3)
    defects = [row["image_id"] for row in rows if row["is_defect"]]
    wanted = sorted([*defects, *(row["image_id"] for row in good[1:3])])
    assert chosen.column("image_id").to_pylist() == wanted
