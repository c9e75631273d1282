"""Which thresholds policies have in the app, and what is shown where no policy can be used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.app.deciding import DEFECT
from pipeline.app.desk import Desk
from pipeline.app.policies import UNUSUAL, moved, sliders
from pipeline.config import AppConfig, CalibrateConfig
from pipeline.scoring.calibrate import run_calibrate
from pipeline.tables import storage
from pipeline.tables.runs import RunPlaces
from tests.app.stores import Place
from tests.scoring.runs import FIT_IDS, make_bundle, make_run, usual_rows

OWN_POLICIES = "configs/policies/linescore"


def put(store: str, run_id: str, fitted: list[int]) -> None:
    """A run, and the bundle that it was scored with, which nothing was calibrated on."""
    bundle = make_bundle(store, {"gaussians": fitted, "classifier": [], "detector": []})
    make_run(store, bundle, usual_rows(), run_id=run_id)
    storage.write_json(RunPlaces(store, run_id).record, {"bundle": {"uri": bundle}})


@pytest.fixture
def scored(tmp_path: Path) -> str:
    """A store with such a run."""
    store = str(tmp_path / "store")
    put(store, "r", list(FIT_IDS))
    return store


def policy(folder: Path, name: str, score: str, ref: str) -> str:
    document = {"policy": "v1", "name": name, "decide": {"score": score, "ge": {"ref": ref}}}
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(document))
    return str(folder)


def test_thresholds_that_were_calibrated_on_a_run_are_its_thresholds(
    scored: str, tmp_path: Path
) -> None:
    """`calibrate` writes a new bundle around the scorer; the run's own never has any."""
    places = policy(tmp_path / "policies", "safe", "anomaly_score", "anomaly_score.safe")
    config = AppConfig(store=scored, policies=(places,))
    before = Desk(config).policies("r")
    assert before.provisional
    assert "has no thresholds" in before.refused["safe"]
    assert "run jobs/calibrate.py" in before.refused["safe"]
    run_calibrate(CalibrateConfig(run_id="r", store=scored))
    after = Desk(config).policies("r")
    assert (list(after.resolved), after.refused, after.provisional) == (["safe"], {}, False)


def test_the_last_bundle_of_another_scorer_is_not_the_runs(scored: str, tmp_path: Path) -> None:
    places = policy(tmp_path / "policies", "safe", "anomaly_score", "anomaly_score.safe")
    put(scored, "other", list(FIT_IDS)[:-1])
    run_calibrate(CalibrateConfig(run_id="other", store=scored))
    config = AppConfig(store=scored, policies=(places,))
    assert not Desk(config).policies("other").provisional
    found = Desk(config).policies("r")
    assert found.provisional
    assert "has no thresholds" in found.refused["safe"]


def test_where_no_policy_can_be_used_there_is_a_threshold_to_drag(small: Place) -> None:
    desk = Desk(small.config(policies=(OWN_POLICIES,), thresholds=()))
    found = desk.policies("monday")
    assert found.provisional
    assert list(found.resolved) == [UNUSUAL]
    assert len(found.refused) == len(list(Path(OWN_POLICIES).glob("*.json")))
    held = desk.held("monday")
    flagged = held.scores["anomaly_score"] >= np.quantile(held.scores["anomaly_score"], 0.95)
    outcome = desk.outcome("monday", UNUSUAL)
    assert np.array_equal(outcome == DEFECT, flagged)
    (slider,) = sliders(found.resolved[UNUSUAL], held, None)
    assert slider.low <= slider.value <= slider.high
    assert moved(found.resolved[UNUSUAL], {0: slider.low}, None).digest
