"""Labels that people gave count instead of the table's own: joined by image, the latest wins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.evaluate import main
from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.labels import (
    LABELS,
    Label,
    append_label,
    history,
    label_files,
    labels_folder,
    read_files,
    read_labels,
)
from tests.evaluation.tables import SCHEMA, Bench, at_least, row


def figures(bench: Bench, level: str = "all", **changes: Any) -> list[dict[str, Any]]:
    bench.evaluate(html=False, **changes)
    table = bench.read("figures")
    found: list[dict[str, Any]] = table[table["level"] == level].to_dict("records")
    return found


@pytest.fixture
def counted(bench: Bench) -> Bench:
    """Two defects and two good images; one of each is decided wrongly."""
    rows = [row(1, True, 0.9), row(2, True, 0.1), row(3, False, 0.8), row(4, False, 0.2)]
    bench.put([*rows, row(5, None, 0.9)], SCHEMA)
    bench.policy("p", at_least("a", 0.5))
    return bench


def labels(bench: Bench) -> str:
    return labels_folder(str(bench.store))


def test_labels_change_the_counts_as_they_say(counted: Bench) -> None:
    before = figures(counted)[0]
    assert (before["fn"], before["fp"], before["unlabelled"]) == (1, 1, 1)
    store = str(counted.store)
    append_label(store, Label(2, "good"))
    append_label(store, Label(3, "defect", "crack"))
    append_label(store, Label(5, "defect"))
    append_label(store, Label(99, "good"))
    after = figures(counted, labels=labels(counted))[0]
    assert (after["fn"], after["fp"], after["tp"], after["tn"]) == (0, 0, 3, 2)
    assert after["unlabelled"] == 0
    kinds = {r["defect_type"] for r in figures(counted, "defect_type", labels=labels(counted))}
    assert kinds == {"good", "dent", "crack", "defect (no type)"}


def test_the_table_itself_stays_as_it_was(counted: Bench) -> None:
    append_label(str(counted.store), Label(2, "good"))
    figures(counted, labels=labels(counted))
    assert figures(counted)[0]["fn"] == 1


def test_the_latest_label_wins_and_unsure_takes_a_label_away(counted: Bench) -> None:
    store = str(counted.store)
    append_label(store, Label(2, "good"))
    append_label(store, Label(2, "unsure"))
    found = figures(counted, labels=labels(counted))[0]
    assert (found["fn"], found["defects"], found["unlabelled"]) == (0, 1, 2)
    append_label(store, Label(2, "defect", "scratch"))
    assert figures(counted, labels=labels(counted))[0]["fn"] == 1
    rows = pa.concat_tables(read_files(label_files(labels(counted))))
    said = [entry["label"] for entry in history(rows, 2)]
    assert said == ["good", "unsure", "defect"]


def test_every_label_is_a_file_of_its_own_and_none_is_touched_again(counted: Bench) -> None:
    store = str(counted.store)
    first = Path(append_label(store, Label(1, "good", labelled_by="Ada")))
    content, changed = first.read_bytes(), first.stat().st_mtime_ns
    second = append_label(store, Label(1, "defect"))
    assert second != str(first)
    assert (first.read_bytes(), first.stat().st_mtime_ns) == (content, changed)
    # Any tool reads the folder as one table.
    table = pq.read_table(labels(counted))
    assert table.schema.equals(LABELS)
    assert sorted(table["label"].to_pylist()) == ["defect", "good"]
    assert "Ada" in table["labelled_by"].to_pylist()
    query = "SELECT image_id, arg_max(label, labelled_at) FROM read_parquet(?) GROUP BY image_id"
    rows = duckdb.execute(query, [f"{labels(counted)}/*.parquet"]).fetchall()
    assert rows == [(1, "defect")]


def test_the_report_says_which_labels_counted(counted: Bench) -> None:
    append_label(str(counted.store), Label(2, "good"))
    append_label(str(counted.store), Label(98, "good"))
    counted.evaluate(html=False, labels=labels(counted))
    report = json.loads((counted.report / "evaluation.json").read_text())
    assert report["table"]["labels"]["joined"] == 1
    assert report["table"]["labels"]["images"] == 2
    assert any("in 1 rows (2 images are labelled there)" in w for w in report["warnings"])


def test_labels_are_joined_to_a_table_of_zeros_and_ones_without_types(bench: Bench) -> None:
    schema = pa.schema(
        [("id", pa.int64()), ("kind", pa.string()), ("bad", pa.int8()), ("a", pa.float32())]
    )
    rows = [{"id": n, "kind": "tile", "bad": n % 2, "a": n / 4} for n in range(4)]
    bench.put(rows, schema)
    bench.policy("p", at_least("a", 0.5))
    append_label(str(bench.store), Label(1, "good"))
    append_label(str(bench.store), Label(2, "defect", "dent"))
    columns = {"image_id": "id", "category": "kind", "is_defect": "bad"}
    found = figures(bench, columns=columns, labels=labels(bench))[0]
    assert (found["tp"], found["fp"], found["tn"], found["fn"]) == (2, 0, 2, 0)


@pytest.mark.parametrize(
    ("kind", "strange"),
    [(pa.int8(), -1), (pa.int8(), 2), (pa.int64(), -1), (pa.uint64(), 2), (pa.uint64(), 2**64 - 1)],
)
def test_a_number_that_is_no_label_is_refused_as_it_is_without_labels(
    counted: Bench, capsys: pytest.CaptureFixture[str], kind: pa.DataType, strange: int
) -> None:
    """Also where the label that people gave is that of another row, or of this very one."""
    own = pa.array([1, 1, 0, 0, strange], kind)
    table = pq.read_table(counted.table)
    place = table.schema.get_field_index("is_defect")
    pq.write_table(table.set_column(place, "is_defect", own), counted.table)
    assert main(counted.arguments()) == 2
    alone = capsys.readouterr().err
    assert "columns.is_defect: " in alone
    assert "is no label; 1 for a defect, 0 for a good image" in alone
    for image in (2, 5):
        append_label(str(counted.store), Label(image, "good"))
        assert main(counted.arguments(labels=labels(counted))) == 2
        assert capsys.readouterr().err == alone


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"labels": "nowhere"}, "there is no label"),
        ({"keep_cells": "true", "labels": "x"}, "keep_cells= keeps counts of a run's own labels"),
    ],
)
def test_what_cannot_be_joined_is_refused(
    counted: Bench, given: dict[str, str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(counted.arguments(**given)) == 2
    assert says in capsys.readouterr().err


def test_a_table_without_ids_cannot_be_joined(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = pa.schema([f for f in SCHEMA if f.name != "image_id"])
    bench.put([row(1, True, 0.9)], schema)
    bench.policy("p", at_least("a", 0.5))
    append_label(str(bench.store), Label(1, "good"))
    assert main(bench.arguments(labels=labels(bench))) == 2
    assert "has no column image_id to join labels by" in capsys.readouterr().err


def test_a_file_that_is_no_table_of_labels_is_named(counted: Bench) -> None:
    place = labels(counted)
    append_label(str(counted.store), Label(1, "good"))
    strange = pa.table({"image_id": [1], "label": ["bad"], "defect_type": [None]})
    at = pa.array([0], pa.timestamp("us", tz="UTC"))
    content = storage.parquet_bytes(strange.append_column("labelled_at", at))
    storage.write_bytes(f"{place}/x.parquet", content)
    with pytest.raises(InputError, match=r"x\.parquet: has label 'bad'; known are good"):
        read_labels(place)
    storage.write_bytes(f"{place}/x.parquet", b"no parquet")
    with pytest.raises(InputError, match=r"x\.parquet: can't be read as Parquet"):
        read_labels(place)


@pytest.mark.parametrize(
    ("label", "kind", "says"),
    [
        ("bad", None, "is none of good, defect, unsure"),
        ("good", "dent", "belongs to a defect"),
        ("defect", " ", "is no name of a defect type"),
        ("defect", "a\nb", "is no name of a defect type"),
        ("defect", "a\x00b", "is no name of a defect type"),
        ("defect", "a\ud800b", "is no name of a defect type"),
        ("defect", "\u00a0\u3000", "is no name of a defect type"),
        ("defect", "x" * 101, "is no name of a defect type"),
        ("defect", "good", "is no name of a defect type"),
    ],
)
def test_a_label_that_is_none_is_refused(label: str, kind: str | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Label(1, label, kind)


@pytest.mark.parametrize("kind", ["Riss\u00a0quer", "左\u3000側", "a\u202eb"])
def test_a_type_of_the_archive_with_other_spaces_can_be_given(tmp_path: Path, kind: str) -> None:
    append_label(str(tmp_path), Label(1, "defect", kind))
    assert read_labels(labels_folder(str(tmp_path))).defect_type.to_pylist() == [kind]
