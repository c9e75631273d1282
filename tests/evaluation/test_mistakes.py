"""Mistakes, decisions and explanations: the rows behind the counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from jobs import evaluate
from pipeline.errors import InputError
from pipeline.evaluation import mistakes as finding
from tests.evaluation.tables import SCHEMA, Bench, at_least, row

AT_A, AT_B = 5.0, 6.0
RULES: dict[str, Any] = {
    "one": at_least("a", AT_A),
    "both": {"all": [at_least("a", AT_A), at_least("b", AT_B)]},
    "either": {"any": [at_least("a", AT_A), at_least("b", AT_B)]},
}


@pytest.fixture
def rows(bench: Bench) -> pd.DataFrame:
    """300 images of two categories, ties among them, some without a label or without `b`."""
    rng = np.random.default_rng(4)
    listed = []
    for number in range(300):
        defect = [True, False, None][rng.choice(3, p=[0.4, 0.5, 0.1])]
        a, b = rng.normal(5 + bool(defect), 2, 2).round(1).tolist()
        category = ["bolt", "tile"][number % 2]
        listed.append(row(number, defect, a, b=None if number % 50 == 7 else b, category=category))
    bench.put(listed, SCHEMA)
    for name, decide in RULES.items():
        bench.policy(name, decide, on_missing="good")
    return pd.DataFrame(listed).astype({"a": np.float32, "b": float})


def flagged(rows: pd.DataFrame, name: str) -> pd.Series:
    a, b = rows.a >= np.float32(AT_A), rows.b >= AT_B
    # A policy that reads b passes what has none.
    return {"one": a, "both": a & b, "either": (a | b) & rows.b.notna()}[name]


def distance(rows: pd.DataFrame, name: str, wrong: pd.Series) -> pd.Series:
    """To the nearest of the comparisons that decided, in standard deviations."""
    away = pd.DataFrame(
        {
            "a": (rows.a.astype(float) - AT_A).abs() / rows.a.astype(float).std(ddof=0),
            "b": (rows.b - AT_B).abs() / rows.b.std(ddof=0),
        }
    )
    held = pd.DataFrame({"a": rows.a >= np.float32(AT_A), "b": rows.b >= AT_B})
    used = {"one": ["a"]}.get(name, ["a", "b"])
    # Flagged by what held, passed by what didn't hold.
    deciding = held[used].eq(flagged(rows, name), axis=0)
    return away[used].where(deciding).min(axis=1)[wrong]


@pytest.mark.parametrize("most", [1000, 7, 1])
@pytest.mark.parametrize("batch", [1 << 19, 64])
def test_exactly_the_mistakes_nearest_first(
    bench: Bench, rows: pd.DataFrame, most: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.evaluation.table.BATCH_ROWS", batch)
    monkeypatch.setattr(finding, "_LEAST_EXPLAINED", 5)
    bench.evaluate(mistakes=most)
    found, figures = bench.read("mistakes"), bench.read("figures").query("level == 'all'")
    for name in RULES:
        for kind, label, count in (("false_negative", True, "fn"), ("false_positive", False, "fp")):
            wrong = rows.is_defect.eq(label) & (flagged(rows, name) != label)
            mine = found[(found.policy == name) & (found.kind == kind)]
            (counted,) = figures[figures.policy == name][count]
            assert counted == wrong.sum() > 7
            assert len(mine) == min(most, counted)
            assert mine["rank"].tolist() == list(range(1, len(mine) + 1))
            away = distance(rows, name, wrong)
            # Those without any comparison come last, and of equally near ones the first.
            nearest = away.sort_values(kind="stable", na_position="last")[:most]
            assert mine.image_id.tolist() == nearest.index.tolist(), (name, kind)
            assert np.allclose(mine.distance, nearest, equal_nan=True)


def test_a_mistake_tells_what_decided(bench: Bench, rows: pd.DataFrame) -> None:
    bench.evaluate()
    table = bench.read("mistakes")
    told = table[table.threshold.notna()]
    assert set(told.score) == {"a", "b"}
    for one in told.to_dict("records"):
        of = rows.loc[one["image_id"]]
        assert one["value"] == of[one["score"]]
        assert one["threshold"] == {"a": AT_A, "b": AT_B}[one["score"]]
        held = one["value"] >= one["threshold"]
        assert held == (one["kind"] == "false_positive")
        assert f"{one['score']} {'' if held else 'is not '}≥ {one['threshold']}" in one["reason"]
        assert (one["category"], one["uri"]) == (of.category, of.uri)
    silent = table[table.threshold.isna()]
    assert len(silent)
    assert silent.reason.str.contains("b is missing").all()
    assert silent[["score", "value", "distance"]].isna().all(axis=None)


def test_none_are_looked_for_when_none_are_wanted(bench: Bench, rows: pd.DataFrame) -> None:
    assert len(rows)
    bench.evaluate(mistakes=0)
    assert bench.read("mistakes").empty


def test_decisions_are_what_was_counted(bench: Bench, rows: pd.DataFrame) -> None:
    for name in RULES:
        report = bench.evaluate(decide=name)
        found = bench.read("decisions")
        assert found.image_id.tolist() == rows.index.tolist()
        assert ((found.decision == "defect") == flagged(rows, name)).all()
        assert report["decisions"]["counts"] == {
            "good": int((~flagged(rows, name)).sum()),
            "review": 0,
            "defect": int(flagged(rows, name).sum()),
        }
        assert set(found.policy) == {name}
    # The next evaluation without decisions leaves none that don't belong to it.
    bench.evaluate()
    assert not (bench.report / "decisions.parquet").exists()


def test_an_image_is_explained_by_id_and_by_uri(
    bench: Bench, rows: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    of = rows.loc[12]
    for image in ("12", "12.png"):
        assert evaluate.main(bench.arguments(explain=image)) == 0
        printed = capsys.readouterr().out
        assert "image_id 12, uri 12.png, category bolt" in printed
        for name in RULES:
            outcome = "defect" if flagged(rows, name)[12] else "good"
            assert f"{name}: bolt → {outcome}" in printed
        assert f"a {np.float32(of.a)} " in printed
        assert "written in the policy" in printed
    assert not bench.store.exists()


def test_an_image_that_is_not_there_or_not_judged(bench: Bench, rows: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"explain: 999: no row of .* is of this image"):
        bench.evaluate(explain="999")
    listed = rows.astype(object).where(rows.notna(), None)
    listed.loc[12, "role"] = "fit"
    bench.put(listed, SCHEMA)
    with pytest.raises(InputError, match=r"explain: 12: 1 rows are .* name its role with roles="):
        bench.evaluate(explain="12")


def test_an_image_that_stands_there_twice_is_explained_twice(bench: Bench) -> None:
    bench.put([row(1, True, 9), row(1, True, 2, uri="copy.png")], SCHEMA)
    bench.policy("p", at_least("a", 5))
    found = bench.evaluate(explain="1")["explained"]
    assert [one["decisions"][0]["outcome"] for one in found] == ["defect", "good"]
