"""What is wrong with what was given: one message, exit status 2, and nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import evaluate
from pipeline.tables import storage
from pipeline.tables.runs import RunPlaces
from tests.evaluation.tables import SCHEMA, Bench, at_least, row
from tests.scoring.runs import image_rows, make_bundle, make_run

Change = Callable[[Bench], dict[str, Any] | None]
ROWS = [row(n, n % 2 == 0, n) for n in range(6)]


def put(*rows: dict[str, Any], schema: pa.Schema = SCHEMA) -> Change:
    return lambda bench: bench.put(list(rows), schema)


def policy(decide: Any, **more: Any) -> Change:
    def change(bench: Bench) -> None:
        bench.policy("p", decide, **more)

    return change


def thresholds(content: Any, name: str = "low") -> Change:
    def change(bench: Bench) -> dict[str, Any]:
        file = bench.folder / "t.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        bench.policy("p", at_least("a", {"ref": name}))
        return {"thresholds": str(file)}

    return change


def settings(**changes: Any) -> Change:
    return lambda bench: changes


def text_in(name: str, content: str) -> Change:
    def change(bench: Bench) -> None:
        (bench.folder / name).write_text(content)

    return change


def retyped(name: str, kind: pa.DataType, values: list[Any], column: str = "") -> Change:
    """A table with one column of another type, and of another name too if one is given."""

    def change(bench: Bench) -> None:
        table = pq.read_table(bench.table)
        place = table.schema.get_field_index(name)
        changed = table.set_column(place, column or name, pa.array(values, kind))
        pq.write_table(changed, bench.table)

    return change


def sweep_of(content: str) -> Change:
    def change(bench: Bench) -> dict[str, Any]:
        file = bench.folder / "sweep.json"
        file.write_text(content)
        return {"sweep": str(file), "policies": None}

    return change


def two_of_one_name(bench: Bench) -> None:
    document = bench.policy("p", at_least("a", 5))
    (bench.policies / "other.json").write_text(json.dumps(document))


def no_policy(bench: Bench) -> dict[str, Any]:
    (bench.folder / "empty").mkdir()
    return {"policies": bench.folder / "empty"}


def started(bench: Bench) -> dict[str, Any]:
    storage.write_json(RunPlaces(str(bench.store), "night").record, {})
    return {"table": None, "run_id": "night"}


def not_calibrated(bench: Bench) -> dict[str, Any]:
    bundle = make_bundle(str(bench.store))
    make_run(str(bench.store), bundle, image_rows(0, 4, "test", True))
    bench.policy("p", at_least("anomaly_score", {"ref": "anomaly_score.safe"}))
    return {"table": None, "run_id": "r", "bundle": bundle}


@dataclass(frozen=True)
class Case:
    change: Change
    says: tuple[str, ...]


CASES = {
    "a score that the table lacks": Case(
        policy(at_least("anomaly", 5)), ("p.json: decide.score", "'anomaly'", "known: a, b")
    ),
    "a score of whole numbers": Case(
        retyped("a", pa.int32(), [1, 2, 3, 4, 5, 6]), ("decide.score", "int32", "as float64")
    ),
    "no threshold of a category": Case(
        thresholds({"low": {"bolt": 3}}), ("decide.ge.ref", "'low'", "'tile'", "those for bolt")
    ),
    "an unknown threshold": Case(
        thresholds({"low": 3}, name="lo"),
        ("p.json: asks for the threshold 'lo'", "t.json has low", "bundle: latest", "no bundle"),
    ),
    "a threshold that is text": Case(thresholds({"low": "3"}), ("t.json: low", "'3'")),
    "a threshold that is nan": Case(thresholds('{"low": NaN}'), ("t.json: low", "nan")),
    "thresholds that are no JSON": Case(thresholds("{low"), ("t.json", "is not JSON")),
    "a category whose threshold stands twice": Case(
        thresholds('{"low": {"tile": 24.8, "tile": 42}}'),
        ("thresholds: ", "t.json", "the key 'tile' stands twice", "leave one"),
    ),
    "thresholds that are nested without end": Case(
        thresholds('{"low": ' + "[" * 100_000), ("t.json", "is nested without end")
    ),
    "thresholds beyond a file's length": Case(
        thresholds(" " * 1_000_001),
        ("t.json", "1,000,001 characters; a table of thresholds has at most 1,000,000"),
    ),
    "a sweep beyond a file's length": Case(
        sweep_of(" " * 1_000_001),
        ("sweep.json", "1,000,001 characters; a sweep has at most 1,000,000"),
    ),
    "an empty table": Case(put(), ("table.parquet", "has no rows")),
    "a label that is 2": Case(
        retyped("is_defect", pa.int64(), [0, 1, 2, 0, 1, 1]),
        ("columns.is_defect: 2", "1 for a defect, 0 for a good image"),
    ),
    "a label that is −1": Case(
        retyped("is_defect", pa.int8(), [0, 1, -1, 0, None, 1]), ("columns.is_defect: -1",)
    ),
    "a label that is text": Case(
        retyped("is_defect", pa.string(), ["good"] * 6), ("is_defect of", "is string", "true or 1")
    ),
    "labels of another name": Case(
        retyped("is_defect", pa.int64(), [0] * 6, "label"),
        ("columns.is_defect", "no column is_defect", "name the one that means it", "label"),
    ),
    "a category that is a list": Case(
        retyped("category", pa.list_(pa.string()), [["tile"]] * 6),
        ("columns.category", "list<", "text belongs there"),
    ),
    "ids that are text": Case(
        retyped("image_id", pa.string(), ["x"] * 6),
        ("columns.image_id", "is string", "rename the column"),
    ),
    "a category without a rule": Case(
        lambda bench: (
            (bench.policies / "p.json").write_text(
                json.dumps(
                    {
                        "policy": "v1",
                        "name": "p",
                        "overrides": {"bolt": {"decide": at_least("a", 5)}},
                    }
                )
            )
            and None
        ),
        ("p.json", "tile"),
    ),
    "a run that isn't there": Case(
        settings(table=None, run_id="nowhere"), ("run nowhere", "isn't in the store")
    ),
    "a run that was not finished": Case(started, ("run night", "was started but not finished")),
    "a bundle without thresholds": Case(not_calibrated, ("bundle: ", "has no thresholds")),
    "tomorrow's policy": Case(
        policy(at_least("a", 5), policy="v2"), ("p.json: policy", "v2", "later linescore", "v1")
    ),
    "a policy that is no JSON": Case(
        text_in("policies/p.json", "{"), ("p.json", "is not JSON", "line 1")
    ),
    "a table that is no Parquet": Case(
        text_in("table.parquet", "a,b\n1,2\n"), ("table.parquet", "can't be read as Parquet")
    ),
    "a table that isn't there": Case(settings(table="/nowhere/t.parquet"), ("/nowhere/t.parquet",)),
    "policies that aren't there": Case(settings(policies="/nowhere"), ("policies: /nowhere",)),
    "two policies of one name": Case(two_of_one_name, ("'p'", "other.json", "p.json")),
    "a folder without policies": Case(no_policy, ("policies: ", "empty", "holds no policy")),
    "a column that isn't there": Case(
        settings(**{"columns.role": "split"}), ("columns.role: 'split'", "no such column", "role")
    ),
    "an unknown meaning": Case(
        settings(**{"columns.label": "is_defect"}), ("columns.label", "known: ", "is_defect")
    ),
    "only rows that chose": Case(
        put(*(one | {"role": "validation"} for one in ROWS)),
        ("no row is left to judge", "validation 6", "roles=[…]"),
    ),
    "a role that nobody has": Case(
        settings(roles="tset"), ("roles: tset", "no row of table.parquet", "test 6")
    ),
    "roles where there are none": Case(
        lambda bench: (
            pq.write_table(pq.read_table(bench.table).drop_columns("role"), bench.table)
            or {"roles": "test"}
        ),
        ("roles: test", "no column role", "columns.role="),
    ),
    "a missing score": Case(
        put(*ROWS, row(9, True, None)),
        ("p.json: on_missing", "a row without a", "1 rows", "tile", '"on_missing": "good"'),
    ),
    "a quality of no score": Case(settings(scores="uri"), ("scores: uri", "it has a, b")),
    "a champion that isn't there": Case(settings(champion="q"), ("champion: q", "p")),
    "a decision of no policy": Case(settings(decide="q"), ("decide: q", "among p")),
    "a run with columns": Case(
        settings(table=None, run_id="r", **{"columns.role": "split"}), ("columns", "table=")
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_message_and_nothing_written(
    bench: Bench, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.put(ROWS, SCHEMA)
    bench.policy("p", at_least("a", 2))
    changed = CASES[name].change(bench) or {}
    before = sorted(str(place) for place in bench.folder.rglob("*"))
    assert evaluate.main(bench.arguments(**changed)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    for word in CASES[name].says:
        assert word in line, line
    assert sorted(str(place) for place in bench.folder.rglob("*")) == before


def test_labels_of_one_kind_are_no_error(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.put([one | {"is_defect": False} for one in ROWS], SCHEMA)
    bench.policy("p", at_least("a", 2))
    assert evaluate.main(bench.arguments()) == 0
    printed = capsys.readouterr().out
    assert "6 good, 0 defects" in printed
    assert "nan" not in printed


def test_a_threshold_file_is_asked_before_a_bundle(bench: Bench) -> None:
    bench.put(ROWS, SCHEMA)
    given = thresholds({"low": {"tile": 3}})(bench)
    assert given is not None
    report = bench.evaluate(**given)
    assert "bundle" not in report["thresholds"]
    assert "t.json" in report["measured_on"]


def test_columns_of_other_types_may_lie_beside(bench: Bench) -> None:
    """Times, lists and the like are no scores, and no obstacle."""
    bench.put(ROWS, SCHEMA)
    table = pq.read_table(bench.table)
    for name, kind in (
        ("at", pa.timestamp("us", tz="UTC")),
        ("day", pa.date32()),
        ("price", pa.decimal128(5, 2)),
        ("boxes", pa.list_(pa.float32())),
        ("shape", pa.struct([("w", pa.int32())])),
    ):
        table = table.append_column(name, pa.nulls(table.num_rows, kind))
    pq.write_table(table, bench.table)
    bench.policy("p", at_least("a", 2))
    assert bench.evaluate()["rows"]["judged"] == 6
