"""Evaluations and sweeps from Python: the job's figures, and nothing written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.api import Run, evaluate, evaluate_sweep, load_bundle, load_policy, load_run
from pipeline.config import EvaluateConfig
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import run_evaluate

SAFE = {"score": "anomaly_score", "ge": {"ref": "anomaly_score.safe"}}
SWEEP = {
    "sweep": "v1",
    "template": {
        "policy": "v1",
        "name": "ad",
        "decide": {"score": "anomaly_score", "ge": {"var": "tau"}},
    },
    "variables": {"tau": {"linspace": {"start": 10, "stop": 40, "num": 61}}},
    "choose": {"budgets": ["fnr<=0.1"]},
}


def policy(name: str, decide: Any, **more: Any) -> Any:
    return load_policy({"policy": "v1", "name": name, "decide": decide} | more)


def files(store: str) -> set[str]:
    return {str(file) for file in Path(store).rglob("*")}


def test_figures_are_those_of_the_job(run: Run, store: str, tmp_path: Path) -> None:
    document = {"policy": "v1", "name": "safe", "decide": SAFE}
    (tmp_path / "safe.json").write_text(json.dumps(document))
    before = files(store)
    found = evaluate(run, policy("safe", SAFE), thresholds=load_bundle(store))
    assert files(store) == before
    report = run_evaluate(
        EvaluateConfig(store=store, run_id=("r",), policies=(str(tmp_path / "safe.json"),))
    )
    theirs = {name: pq.read_table(uri) for name, uri in report["tables"].items()}
    assert found.figures.equals(theirs["figures"])
    assert found.quality().equals(theirs["quality"])
    assert found.mistakes().equals(theirs["mistakes"])
    assert found.measured_on == report["measured_on"]


def test_decisions_are_of_the_judged_rows_and_add_up_to_the_figures(run: Run, store: str) -> None:
    found = evaluate(run, policy("safe", SAFE), thresholds=load_bundle(store))
    total = found.figures.to_pylist()[0]
    decisions = found.decisions("safe").to_pandas()
    assert len(decisions) == total["good"] + total["defects"] + total["unlabelled"] == 28
    assert (decisions.decision == "defect").sum() == total["tp"] + total["fp"]
    with pytest.raises(InputError, match="policy: other: is none of safe"):
        found.decisions("other")


def test_rows_in_memory_are_evaluated_as_their_run_is(run: Run) -> None:
    rule = policy("fixed", {"score": "anomaly_score", "ge": 25})
    ours = evaluate(run.scores(), rule)
    theirs = evaluate(run, rule)
    # Only a run's images are looked up among those that trained its models.
    assert theirs.measured_on.startswith(f"{ours.measured_on}; no model behind these scores")
    mine, told = (one.figures.drop_columns("measured_on") for one in (ours, theirs))
    assert mine.equals(told)
    assert ours.mistakes(5).num_rows == evaluate([run], rule).mistakes(5).num_rows > 0


def test_a_data_frame_is_evaluated_as_its_table_is_or_refused(run: Run) -> None:
    rule = policy("fixed", {"score": "anomaly_score", "ge": 25})
    rows = run.scores()
    groups = pa.array([None, *range(1, len(rows))], pa.int64())
    place = rows.schema.get_field_index("group_id")
    rows = rows.set_column(place, "group_id", groups)
    frame = rows.to_pandas()
    assert frame.group_id.dtype == float
    assert evaluate(frame, rule).figures.equals(evaluate(rows, rule).figures)
    # Ids of linescore's own have 63 bits, of which a float keeps 53.
    frame.loc[5, "group_id"] = 2.0**60
    with pytest.raises(InputError, match="rows: group_id: pandas has made floats of it"):
        evaluate(frame, rule)
    frame.loc[5, "group_id"] = 0.5
    with pytest.raises(InputError, match="whole numbers belong there"):
        evaluate(frame, rule)


def test_thresholds_may_be_a_dictionary(run: Run) -> None:
    ours = evaluate(run, policy("p", SAFE), thresholds={"anomaly_score.safe": 25})
    fixed = evaluate(run, policy("p", {"score": "anomaly_score", "ge": 25}))
    columns = ["tp", "fp", "fn", "tn"]
    assert ours.figures.select(columns).equals(fixed.figures.select(columns))


def test_a_sweep_is_chosen_on_validation_and_judged_on_test(run: Run, tmp_path: Path) -> None:
    found = evaluate_sweep(run, SWEEP)
    assert found.policies.num_rows == 61
    assert "chosen on validation, judged on test" in found.report["split"]
    assert found.chosen is not None
    tau = found.chosen["variables"][0]["tau"]
    # By hand: the fewest false alarms among thresholds that miss at most a tenth of validation.
    rows = run.scores().to_pandas()
    tuning = rows[rows.role == "validation"]
    defects, good = (tuning[tuning.is_defect == truth].anomaly_score for truth in (True, False))
    allowed = [
        (int((good >= t).sum()), t)
        for t in found.policies["variable_tau"].to_pylist()
        if (defects < t).mean() <= 0.1
    ]
    assert min(alarms for alarms, _ in allowed) == (good >= tau).sum()
    hold_out = found.chosen["figures"]["hold_out"][0]
    test = rows[rows.role == "test"]
    assert hold_out["fn"] == (test[test.is_defect == True].anomaly_score < tau).sum()  # noqa: E712
    (tmp_path / "sweep.json").write_text(json.dumps(SWEEP))
    assert evaluate_sweep(run, tmp_path / "sweep.json").policies.equals(found.policies)


def test_what_cannot_be_evaluated_is_told_with_the_way_out(run: Run, store: str) -> None:
    rule = policy("p", {"score": "anomaly_score", "ge": 25})
    with pytest.raises(InputError, match=r"settings: rolls: unknown key .* did you mean roles"):
        evaluate(run, rule, rolls="test")
    with pytest.raises(InputError, match=r"settings: confidence: .* not 2"):
        evaluate(run, rule, confidence=2)
    with pytest.raises(InputError, match="p is the name of two"):
        evaluate(run, [rule, rule])
    with pytest.raises(InputError, match="policies: there is none"):
        evaluate(run, [])
    with pytest.raises(InputError, match="rows: are a dict"):
        evaluate({"a": 1}, rule)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is_defect"):
        evaluate(pa.table({"category": ["a"], "anomaly_score": [1.0]}), rule)
    with pytest.raises(InputError, match="sweep: can't be written as JSON"):
        evaluate_sweep(run, SWEEP | {"template": {1, 2}})
    with pytest.raises(InputError, match="give one run, or runs of one store"):
        evaluate([], rule)
    other = Run("elsewhere", "r", load_run(store).record)
    with pytest.raises(InputError, match="runs of one store"):
        evaluate([run, other], rule)
