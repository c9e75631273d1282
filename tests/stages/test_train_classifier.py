"""Training on Ray: what it writes, that no row judges itself, and that a kill costs little."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from pipeline.config import IndexConfig, TrainClassifierConfig
from pipeline.errors import InputError
from pipeline.images.decode import DecodeLimits
from pipeline.models.classifier import Classifier
from pipeline.models.weights import load_state
from pipeline.report.classifier import classifier_summary
from pipeline.scoring.prepare import Prepared, PrepareOptions, prepare
from pipeline.stages.index import run_index
from pipeline.stages.train_classifier import run_train_classifier
from pipeline.tables import storage
from pipeline.tables.schemas import CLASSIFIER_SCORES
from pipeline.tables.trained_on import trained_on_file, trained_on_ids
from tests.conftest import ROOT, job_environment, run_job
from tests.stages.roles import labelled_archive, with_roles

SIDE = 32
# Of the training that is killed: seconds are left when it has its first checkpoints.
EPOCHS = 25


@dataclass(frozen=True)
class Ready:
    """An indexed archive with roles, and weights that end at layer3."""

    manifest: str
    weights: str

    def config(self, store: Path, **changes: object) -> TrainClassifierConfig:
        """Settings for tiny images."""
        values: dict[str, object] = {
            "manifest": self.manifest,
            "weights": self.weights,
            "store": str(store),
            "name": "tiny",
            "image_size": SIDE,
            "epochs": 3,
            "views": 2,
            "batch_size": 8,
            "threads": 1,
        }
        return TrainClassifierConfig.model_validate(values | changes)


@pytest.fixture(scope="module")
def ready(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Ready:
    folder = tmp_path_factory.mktemp("labelled")
    archive = labelled_archive(folder / "archive")
    index = run_index(IndexConfig(source=str(archive), store=str(folder), name="all"))
    manifest = with_roles(index["manifest"], str(folder / "roles.parquet"))
    torch.manual_seed(5)
    state = {
        k: v
        for k, v in resnet18().state_dict().items()
        if k[:6] not in ("layer4", "fc.wei", "fc.bia")
    }
    weights = folder / "backbone.safetensors"
    save_file(state, weights)
    return Ready(manifest, str(weights))


@dataclass(frozen=True)
class Trained:
    """A finished cross-fitted training."""

    config: TrainClassifierConfig
    report: dict[str, Any]
    folder: Path
    scores: pa.Table
    manifest: pa.Table


@pytest.fixture(scope="module")
def trained(ready: Ready, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    store = tmp_path_factory.mktemp("store")
    config = ready.config(store, folds=2, leave_one_defect_type_out=True, score_test=True)
    report = run_train_classifier(config)
    folder = store / "models" / "tiny"
    scores = storage.read_parquet(str(folder / "scores.parquet"))
    return Trained(config, report, folder, scores, storage.read_parquet(ready.manifest))


def column(table: pa.Table, name: str) -> np.ndarray:
    return np.array(table.column(name).to_pylist(), dtype=object)


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_every_row_of_fit_validation_and_test_has_one_score(trained: Trained) -> None:
    assert trained.scores.schema.equals(CLASSIFIER_SCORES, check_metadata=True)
    assert trained.scores.column("defect_logit").null_count == 0
    wanted = column(trained.manifest, "image_id")[column(trained.manifest, "role") != None]  # noqa: E711
    assert sorted(column(trained.scores, "image_id")) == sorted(wanted)
    roles, folds = column(trained.scores, "role"), column(trained.scores, "fold")
    assert set(folds[roles != "test"]) == {0, 1}
    assert set(folds[roles == "test"]) == {None}
    groups = column(trained.scores, "group_id")
    for fold in (0, 1):
        assert not set(groups[folds == fold]) & set(groups[folds == 1 - fold])


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_the_model_saw_fit_rows_only_and_says_which(trained: Trained) -> None:
    file = trained_on_file(str(trained.folder / "classifier.safetensors"))
    seen = set(trained_on_ids(storage.read_bytes(file), file))
    ids, roles = column(trained.manifest, "image_id"), column(trained.manifest, "role")
    assert seen == set(ids[roles == "fit"])
    uses = storage.read_parquet(file)
    assert set(column(uses, "use")) == {"training", "early_stopping"}
    group_of = dict(zip(ids, column(trained.manifest, "group_id"), strict=True))
    sides = {
        use: {group_of[i] for i in column(uses, "image_id")[column(uses, "use") == use]}
        for use in ("training", "early_stopping")
    }
    # The last training learnt from the rows that had stopped the first one.
    assert sides["early_stopping"] < sides["training"]
    tested = trained.scores.filter(pa.array(column(trained.scores, "role") == "test"))
    assert not seen & set(column(tested, "image_id"))
    assert not {group_of[i] for i in seen} & set(column(tested, "group_id"))


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_the_weights_score_test_rows_as_the_table_says(trained: Trained) -> None:
    tested = trained.scores.filter(pa.array(column(trained.scores, "role") == "test"))
    uris = dict(
        zip(column(trained.manifest, "image_id"), column(trained.manifest, "uri"), strict=True)
    )
    options = PrepareOptions(DecodeLimits(), square=SIDE)
    squares = []
    for image in column(tested, "image_id"):
        found = prepare(uris[image], None, options)
        assert isinstance(found, Prepared)
        squares.append(found.square)
    state = load_state(str(trained.folder / "classifier.safetensors"), "weights")
    logits = Classifier(state, 4).defect_logits(np.stack(squares))
    wanted = tested.column("defect_logit").to_numpy()
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_the_report_tells_figures_trainings_and_the_baseline(trained: Trained) -> None:
    names = [entry["name"] for entry in trained.report["trainings"]]
    assert names == ["fixed", "fold-0", "fold-1", *(f"without-{i:03d}" for i in range(4))]
    judged = trained.report["metrics"]["judged"]
    for part, good, defects in (("held_out", 24, 24), ("test", 8, 8)):
        assert [e["category"] for e in judged[part]["categories"]] == ["bolt", "tile"]
        assert judged[part]["pooled"]["good"] == good
        assert judged[part]["pooled"]["defects"] == defects
        for entry in judged[part]["categories"]:
            assert entry["baseline_auroc"]["value"] == 0.5
            assert entry["missed"]["of"] == defects // 4  # two images a group, two categories
    left_out = trained.report["metrics"]["left_out"]
    assert {(e["category"], e["defect_type"]) for e in left_out} == {
        (c, k) for c in ("bolt", "tile") for k in ("dent", "hole")
    }
    text = classifier_summary(trained.report)
    assert "out of fold (2 folds)" in text
    assert "macro mean" in text
    assert "dent" in text


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_finished_training_does_nothing_and_refuses_other_settings(trained: Trained) -> None:
    assert not (trained.folder / "work").exists()
    assert not (trained.folder / "checkpoints").exists()
    assert not (trained.folder / "ray-train").exists()
    before = {file: file.stat().st_mtime_ns for file in trained.folder.iterdir()}
    again = run_train_classifier(trained.config)
    assert again["already_trained"]
    assert before == {file: file.stat().st_mtime_ns for file in trained.folder.iterdir()}
    changed = trained.config.model_copy(update={"epochs": 4, "folds": None})
    with pytest.raises(InputError, match=r"name tiny: .*epochs was 3, is now 4; folds was 2"):
        run_train_classifier(changed)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    ready: Ready, cluster: str, tmp_path: Path
) -> None:
    changes = {"trainable": "layer3", "epochs": EPOCHS, "patience": EPOCHS, "checkpoint_s": 0}
    calm = run_train_classifier(ready.config(tmp_path / "calm", **changes))

    config = ready.config(tmp_path / "killed", **changes)
    given = config.model_dump(
        mode="json", include={*changes, *ready.config(tmp_path).model_fields_set}
    )
    arguments = [f"{key}={value}" for key, value in given.items()]
    driver = subprocess.Popen(
        [sys.executable, "jobs/train_classifier.py", *arguments],
        cwd=ROOT,
        env=job_environment(cluster),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoints = tmp_path / "killed/models/tiny/checkpoints"
    limit = time.monotonic() + 200
    while not (checkpoints / "fixed.pt").exists():
        assert driver.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < limit, "no checkpoint within 200 s"
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    assert not (tmp_path / "killed/models/tiny/training.json").exists()

    finished = run_job("train_classifier", *arguments, address=cluster)
    assert finished.returncode == 0, finished.stderr
    # Workers may outlive their driver for a moment, but not by so many epochs.
    assert "continuing: 0 of 1 trainings are finished" in finished.stderr, finished.stderr
    report = storage.read_json(str(tmp_path / "killed/models/tiny/training.json"))
    assert 0 < report["trainings"][0]["continued_after_epoch"] < EPOCHS
    assert report["weights_sha256"] == calm["weights_sha256"]
    for name in ("classifier.safetensors", "scores.parquet"):
        files = [tmp_path / where / "models/tiny" / name for where in ("calm", "killed")]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
@pytest.mark.parametrize("trainable", ["head", "layer3"])
def test_two_workers_train_together_and_lose_no_row(
    ready: Ready, tmp_path: Path, trainable: str
) -> None:
    config = ready.config(tmp_path, trainable=trainable, num_workers=2, held_mb=0)
    report = run_train_classifier(config)
    assert report["metrics"]["judged"]["held_out"]["pooled"]["defects"] == 8
