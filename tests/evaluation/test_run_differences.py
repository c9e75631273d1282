"""Two runs compared, against pandas and SciPy on the same rows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from pipeline.errors import InputError
from pipeline.evaluation import run_differences
from pipeline.evaluation.run_differences import compare_runs
from pipeline.tables import storage
from pipeline.tables.publication import PublishedFile, published_record
from pipeline.tables.run_catalogue import read_catalogue
from pipeline.tables.runs import RunPlaces, start_or_continue
from pipeline.tables.schemas import ERRORS, SCORES


def put_run(
    store: str, run_id: str, scores: pd.DataFrame, errors: pd.DataFrame, **identity: Any
) -> None:
    """A published run with these rows, in files of three."""
    places = RunPlaces(store, run_id)
    facts = {"environment": {"packages": {"ray": identity.pop("ray", "2.60.0")}}}
    start_or_continue(places, {"kind": "score", "scorer_digest": "ab"} | identity, facts)
    files = []
    for name, schema, rows in (("scores", SCORES, scores), ("errors", ERRORS, errors)):
        records = rows.replace({np.nan: None}).to_dict("records")
        for start in range(0, len(records), 3):
            table = pa.Table.from_pylist(records[start : start + 3], schema=schema)
            data = storage.parquet_bytes(table)
            uri = storage.join(places.table(name), f"part-{start:05d}.parquet")
            storage.write_bytes(uri, data)
            digest = hashlib.sha256(data).hexdigest()
            files.append(PublishedFile(name, uri, len(table), len(data), digest))
    storage.write_json(places.published, published_record(store, files, {"run_id": run_id}))


def rows(ids: list[int], values: list[float], category: str = "bolt") -> pd.DataFrame:
    frame = pd.DataFrame({"image_id": ids, "anomaly_score": values}, dtype=object)
    return frame.assign(category=category, uri="u")


def failed(ids: list[int], error: str = "truncated", category: str = "bolt") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": ids,
            "uri": "u",
            "category": category,
            "error_type": error,
            "error_message": "m",
        }
    )


def compared(store: str) -> dict[str, Any]:
    return compare_runs(read_catalogue(store), "a", "b")


one_run = st.dictionaries(
    st.integers(0, 30), st.none() | st.sampled_from([0.0, 0.5, 1.0, 2.5, -3.0]), max_size=14
)


@settings(max_examples=30)
@given(first=one_run, second=one_run, batch=st.integers(1, 5))
def test_differences_are_those_of_pandas_and_scipy(
    tmp_path_factory: pytest.TempPathFactory,
    first: dict[int, float | None],
    second: dict[int, float | None],
    batch: int,
) -> None:
    store = str(tmp_path_factory.mktemp("two"))
    none = failed([])
    for run_id, found in (("a", first), ("b", second)):
        put_run(store, run_id, rows(list(found), list(found.values())), none)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_differences, "_BATCH", batch)
        answer = compared(store)
    common = sorted(first.keys() & second.keys())
    assert answer["images"]["scored_in_both"] == len(common)
    only = {run: found["images"] for run, found in answer["images"]["only_in"].items()}
    assert only == {"a": len(first.keys() - second), "b": len(second.keys() - first)}
    pairs = pd.DataFrame(
        {"a": [first[i] for i in common], "b": [second[i] for i in common]}, index=common
    ).astype(float)
    both = pairs.dropna()
    found = answer["scores"].get("anomaly_score")
    if pairs.isna().all(axis=None):
        assert found is None
        return
    assert found["images"] == len(both)
    assert found["only_in"] == {
        "a": int((pairs.a.notna() & pairs.b.isna()).sum()),
        "b": int((pairs.b.notna() & pairs.a.isna()).sum()),
    }
    if len(both):
        change = both.b - both.a
        assert found["largest"] == change.abs().max()
        assert abs(change[found["largest_image"]]) == found["largest"]
        assert found["mean"] == pytest.approx(change.mean())
        assert found["mean_absolute"] == pytest.approx(change.abs().mean())
        if len(set(both.a)) > 1 and len(set(both.b)) > 1:
            assert found["rank_correlation"] == pytest.approx(spearmanr(both.a, both.b).statistic)
        else:
            assert found["rank_correlation"] is None


def test_images_are_counted_by_category_and_status(tmp_path: Path) -> None:
    store = str(tmp_path)
    scores = pd.concat([rows([1, 2, 3], [1.0] * 3), rows([7], [1.0], "tile")])
    put_run(store, "a", scores, failed([4]))
    put_run(store, "b", rows([1, 2, 4], [1.0] * 3), failed([3], "not_found"))
    answer = compared(store)
    assert answer["counts"] == [
        {"category": "bolt", "status": "not_found", "images": [0, 1]},
        {"category": "bolt", "status": "scored", "images": [3, 3]},
        {"category": "bolt", "status": "truncated", "images": [1, 0]},
        {"category": "tile", "status": "scored", "images": [1, 0]},
    ]
    images = answer["images"]
    assert images["only_in"]["a"] == {"images": 1, "such_as": [7]}
    assert images["scored_only_in"] == {
        "a": {"images": 1, "such_as": [3]},
        "b": {"images": 1, "such_as": [4]},
    }


def test_what_differs_in_the_records_is_named(tmp_path: Path) -> None:
    store = str(tmp_path)
    none = failed([])
    put_run(store, "a", rows([1], [1.0]), none)
    put_run(store, "b", rows([1], [1.0]), none, scorer_digest="cd", ray="2.61.0")
    assert compared(store)["differences"] == {
        "identity": ["scorer_digest was 'ab', is now 'cd'"],
        "versions": ["packages.ray was '2.60.0', is now '2.61.0'"],
    }


def test_a_run_that_is_not_published_or_whose_file_is_gone(tmp_path: Path) -> None:
    store = str(tmp_path)
    put_run(store, "a", rows([1], [1.0]), failed([]))
    with pytest.raises(InputError, match="run b: isn't in the store"):
        compared(store)
    put_run(store, "b", rows([1], [1.0]), failed([]))
    part = next(Path(RunPlaces(store, "b").table("scores")).iterdir())
    part.write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"run b: .*part-00000.parquet: can't be read"):
        compared(store)
    part.unlink()
    with pytest.raises(InputError, match=r"run b: .*part-00000.parquet: is gone; see `linescore"):
        compared(store)
