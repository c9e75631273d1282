"""What is told of published tables: the same from any files, and what a plain count says."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.evaluation.run_facts import BINS, EXAMPLES, QUANTILES, SUSPECTS, run_facts
from pipeline.tables.schemas import ERRORS, SCORES

CATEGORIES = ["bolt", "größe/1", None]


def scores(count: int = 3000) -> pa.Table:
    """Rows of three categories; one of them without anomaly scores, ties among the others."""
    rng = np.random.default_rng(7)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        category = CATEGORIES[int(rng.integers(3))]
        score = None if category is None else float(np.float32(round(rng.gamma(4, 9), 0)))
        truth = [None, True, False][int(rng.integers(3))]
        rows.append(
            {
                "image_id": int(rng.integers(1 << 62)),
                "uri": f"s3://b/{number}.png",
                "category": category,
                "is_defect": truth,
                "defect_type": {None: None, True: "dent", False: "good"}[truth],
                "role": "test",
                "anomaly_score": score,
                "anomaly_cells": score,
                "defect_logit": float(rng.normal()) if number % 7 else None,
                "defect_probability": float(rng.random()),
            }
        )
    rows.sort(key=lambda row: (row["category"] is None, row["category"] or "", row["image_id"]))
    return pa.Table.from_pylist(rows, schema=SCORES)


def errors() -> pa.Table:
    rng = np.random.default_rng(8)
    kinds = ["truncated"] * 30 + ["not_found"] * 9 + ["worker_crash"] * 2
    rows = [
        {
            "image_id": int(rng.integers(1 << 62)),
            "uri": f"bad-{number}.png",
            "category": CATEGORIES[number % 2],
            "error_type": kind,
            "error_message": f"{kind} " + "x" * (2000 if number == 0 else 3),
        }
        for number, kind in enumerate(kinds)
    ]
    rows.sort(key=lambda row: (row["category"], row["image_id"]))
    return pa.Table.from_pylist(rows, schema=ERRORS)


def written(folder: Path, cuts: list[int], group_rows: int) -> dict[str, list[str]]:
    """The tables in several files."""
    folder.mkdir(parents=True)
    found: dict[str, list[str]] = {}
    for name, table in (("scores", scores()), ("errors", errors())):
        edges = [0, *(cut for cut in cuts if cut < len(table)), len(table)]
        for number, (low, high) in enumerate(itertools.pairwise(edges)):
            path = folder / f"{name}-{number}.parquet"
            pq.write_table(table.slice(low, high - low), path, row_group_size=group_rows)
            found.setdefault(name, []).append(str(path))
    return found


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_facts(written(tmp_path_factory.mktemp("one") / "t", [], 100_000))


@pytest.mark.parametrize(("cuts", "group_rows"), [([1, 700, 2999], 64), ([20], 1), ([1500], 999)])
def test_files_and_row_groups_do_not_matter(
    facts: dict[str, Any], tmp_path: Path, cuts: list[int], group_rows: int
) -> None:
    assert run_facts(written(tmp_path / "t", cuts, group_rows)) == facts


def test_counts_are_those_of_the_rows(facts: dict[str, Any]) -> None:
    scored = Counter(scores().column("category").to_pylist())
    failed = Counter((row["category"], row["error_type"]) for row in errors().to_pylist())
    assert [row["category"] for row in facts["by_category"]] == CATEGORIES
    for row in facts["by_category"]:
        mine = {kind: n for (category, kind), n in failed.items() if category == row["category"]}
        assert row["scored"] == scored[row["category"]]
        assert row["errors"] == mine
        assert list(row["errors"].values()) == sorted(mine.values(), reverse=True)
        assert row["images"] == row["scored"] + sum(mine.values())
    expected = {"truncated": 30, "not_found": 9, "worker_crash": 2}
    assert list(facts["errors_by_type"].items()) == list(expected.items())


def test_examples_of_errors_are_few_and_those_with_the_smallest_ids(facts: dict[str, Any]) -> None:
    rows = errors().to_pylist()
    for kind in facts["errors_by_type"]:
        mine = sorted((r for r in rows if r["error_type"] == kind), key=lambda r: r["image_id"])
        found = [row for row in facts["error_examples"] if row["error_type"] == kind]
        assert [row["uri"] for row in found] == [row["uri"] for row in mine[:EXAMPLES]]
    assert max(len(row["error_message"]) for row in facts["error_examples"]) < 600


def test_suspects_are_those_with_the_largest_scores(facts: dict[str, Any]) -> None:
    rows = [row for row in scores().to_pylist() if row["anomaly_score"] is not None]
    for category in CATEGORIES:
        mine = [row for row in rows if row["category"] == category]
        mine.sort(key=lambda row: (-row["anomaly_score"], row["image_id"]))
        found = [row for row in facts["suspects"] if row["category"] == category]
        assert [row["uri"] for row in found] == [row["uri"] for row in mine[:SUSPECTS]]
        for ours, row in zip(found, mine, strict=False):
            assert ours == {name: row[name] for name in ours}


def test_distributions_are_those_of_the_columns(facts: dict[str, Any]) -> None:
    table = scores().to_pandas()
    told = {(row["score"], row["level"], row["category"]): row for row in facts["distributions"]}
    names = {score for score, _, _ in told}
    # Columns that no row has are no distributions.
    assert names == {"anomaly_score", "anomaly_cells", "defect_logit", "defect_probability"}
    for (score, level, category), row in told.items():
        same = table["category"].isna() if category is None else table["category"] == category
        mine = table[score][same | (level == "all")]
        values = np.sort(mine.dropna().to_numpy().astype(np.float64))
        assert (row["n"], row["missing"]) == (len(values), len(mine) - len(values))
        if not len(values):
            assert row["min"] is row["max"] is row["histogram"] is None
            continue
        assert (row["min"], row["max"]) == (values[0], values[-1])
        for share in QUANTILES:
            exact = values[max(int(np.ceil(share * len(values))), 1) - 1]
            assert row["quantiles"][f"{share:g}"] == pytest.approx(exact, rel=1 / 2048)
        truth = table.loc[mine.dropna().index, "is_defect"]
        wanted = {
            "unlabelled": truth.isna().sum(),
            "good": (truth == False).sum(),  # noqa: E712
            "defects": (truth == True).sum(),  # noqa: E712
        }
        assert {name: sum(bins) for name, bins in row["histogram"].items()} == wanted
        assert {len(bins) for bins in row["histogram"].values()} == {BINS}


def test_a_run_of_errors_alone_has_no_distribution(tmp_path: Path) -> None:
    files = written(tmp_path / "t", [], 100)
    found = run_facts({"errors": files["errors"]})
    assert found["distributions"] == found["suspects"] == []
    assert sum(row["images"] for row in found["by_category"]) == 41
    assert run_facts({})["by_category"] == []


def peak(files: dict[str, list[str]]) -> int:
    """Bytes that Arrow held at once."""
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        run_facts(files)
    finally:
        pa.set_memory_pool(before)
    return int(pool.max_memory())


def test_memory_is_that_of_a_row_group_not_of_the_table(tmp_path: Path) -> None:
    group = pa.concat_tables([scores()] * 4)
    peaks = []
    for groups in (2, 20):
        path = tmp_path / f"{groups}.parquet"
        with pq.ParquetWriter(path, SCORES) as writer:
            for _ in range(groups):
                writer.write_table(group)
        peaks.append(peak({"scores": [str(path)]}))
    assert peaks[0] > group.nbytes / 10
    assert peaks[1] < 1.3 * peaks[0]
