"""A report's folder never holds the record of one evaluation beside the tables of another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.errors import InputError, RunError
from pipeline.evaluation import evaluate
from pipeline.evaluation.folder import write_decisions
from tests.evaluation.tables import SCHEMA, Bench, at_least, row


@pytest.fixture
def evaluated(bench: Bench) -> Bench:
    """A bench with the report of a policy, and another policy to evaluate next."""
    bench.put([row(n, n % 2 == 0, n) for n in range(6)], SCHEMA)
    bench.policy("p", at_least("a", 3))
    bench.evaluate(decide="p")
    (bench.report / "report.html").write_text("the page of p")
    (bench.policies / "p.json").unlink()
    bench.policy("q", at_least("a", 4))
    return bench


@pytest.mark.parametrize("last", ["decisions", "quality", "mistakes"])
def test_a_write_that_fails_leaves_no_older_record(evaluated: Bench, last: str) -> None:
    report = evaluated.report
    table = report / f"{last}.parquet"
    table.unlink()
    table.mkdir()  # no file can take its place
    with pytest.raises(OSError, match=f"{last}.parquet"):
        evaluated.evaluate(decide="q")
    assert not (report / "evaluation.json").exists()
    assert not (report / "report.html").exists()
    table.rmdir()
    told = evaluated.evaluate(decide="q")
    assert json.loads((report / "evaluation.json").read_text()) == told
    assert set(evaluated.read("decisions").policy) == {"q"}


def test_decisions_that_are_not_those_counted_replace_nothing(
    evaluated: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in evaluated.report.iterdir()}

    def changed(source: Any, policy: Any, counted: tuple[int, int], folder: str) -> Any:
        return write_decisions(source, policy, (counted[0] + 1, counted[1]), folder)

    monkeypatch.setattr(evaluate, "write_decisions", changed)
    with pytest.raises(RunError, match="the table changed meanwhile; evaluate again"):
        evaluated.evaluate(decide="q")
    assert {path.name: path.read_bytes() for path in evaluated.report.iterdir()} == before


def test_bad_input_leaves_an_older_report_as_it_is(evaluated: Bench) -> None:
    before = {path.name: path.read_bytes() for path in evaluated.report.iterdir()}
    with pytest.raises(InputError, match="champion: p: is no policy"):
        evaluated.evaluate(champion="p")
    assert {path.name: path.read_bytes() for path in evaluated.report.iterdir()} == before
