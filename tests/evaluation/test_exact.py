"""Counts of any policy on any table: the document word for word, the decisions, DuckDB, Polars."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import EvaluateConfig
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import evaluated, opened
from pipeline.evaluation.policies import read_policies
from pipeline.policy.language import Part, Ref, Resolved
from tests.evaluation.tables import Bench
from tests.policy.language import documents as drawn

# Every example writes its files anew.
ANEW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("category", pa.string()),
        ("defect_type", pa.string()),
        ("is_defect", pa.bool_()),
        *((name, pa.from_numpy_dtype(kind)) for name, kind in drawn.DTYPES.items()),
    ]
)
SIGNS = {"ge": False, "gt": True, "lt": False, "le": True}


def number(value: float) -> float | None:
    return None if value != value else value


@st.composite
def tables(draw: st.DrawFn, categories: tuple[str | None, ...] = drawn.CATEGORIES) -> list[Any]:
    """Rows of `SCHEMA` with scores at, just above and just below thresholds, and none."""
    one = st.fixed_dictionaries(
        {
            "category": st.sampled_from(categories),
            "defect_type": st.sampled_from(drawn.TYPES),
            "known": st.sampled_from([True, True, True, False]),
            **{name: st.sampled_from(drawn.values(kind)) for name, kind in drawn.DTYPES.items()},
        }
    )
    found = draw(st.lists(one, min_size=1, max_size=25))
    return [
        row
        | {"image_id": place, "is_defect": row["defect_type"] != "good" if row["known"] else None}
        for place, row in enumerate(found)
    ]


def put(bench: Bench, rows: list[Any], document: dict[str, Any]) -> dict[str, Any]:
    stored = [{k: number(v) if k in drawn.DTYPES else v for k, v in row.items()} for row in rows]
    bench.put(stored, SCHEMA)
    bench.policy("drawn", **{k: v for k, v in document.items() if k not in ("policy", "name")})
    thresholds = bench.folder / "thresholds.json"
    thresholds.write_text(json.dumps(drawn.TABLE))
    return {"thresholds": str(thresholds)}


def by_hand(decided: pd.DataFrame, keys: list[str]) -> dict[tuple[Any, ...], dict[str, int]]:
    """Counts of the `figures` table from rows with `outcome`, grouped by pandas."""
    found = {}
    for place, rows in decided.groupby(keys, dropna=False) if keys else [((), decided)]:
        counts = {}
        kinds = (("good", "tn", "fp", "review_good"), ("defects", "fn", "tp", "review_defects"))
        for truth, (every, *names) in zip((False, True), kinds, strict=True):
            own = rows[rows.is_defect.eq(truth)]
            counts[every] = len(own)
            for outcome, name in zip(("good", "defect", "review"), names, strict=True):
                counts[name] = int((own.outcome == outcome).sum())
        unknown = rows[rows.is_defect.isna()]
        counts["unlabelled"] = len(unknown)
        counts["flagged_unlabelled"] = int((unknown.outcome == "defect").sum())
        counts["review_unlabelled"] = int((unknown.outcome == "review").sum())
        found[tuple(None if pd.isna(name) else name for name in place)] = counts
    return found


def of_table(figures: pd.DataFrame, level: str, keys: list[str]) -> dict[tuple[Any, ...], Any]:
    rows = figures[figures.level == level].to_dict("records")
    return {tuple(None if pd.isna(row[k]) else row[k] for k in keys): row for row in rows}


def check(bench: Bench, decided: pd.DataFrame) -> None:
    """Every count of `figures` at every level is that of the rows."""
    figures = bench.read("figures")
    kind = decided.defect_type.where(decided.is_defect.eq(True), "good")
    labelled = decided.assign(defect_type=kind)[decided.is_defect.notna()]
    levels = (
        ("all", [], decided),
        ("category", ["category"], decided),
        ("defect_type", ["category", "defect_type"], labelled),
    )
    for level, keys, rows in levels:
        found = of_table(figures, level, keys)
        wanted = by_hand(rows, keys) if len(rows) else {}
        assert found.keys() == wanted.keys(), level
        for place, counts in wanted.items():
            assert {name: found[place][name] for name in counts} == counts, (level, place)


@given(document=drawn.documents(), rows=tables())
@settings(max_examples=30, suppress_health_check=ANEW)
def test_counts_are_what_the_document_says_row_by_row(
    tmp_path: Path, document: dict[str, Any], rows: list[Any]
) -> None:
    bench = Bench(tmp_path)
    given = put(bench, rows, document)
    outcomes = [
        drawn.outcome_of(document, row, Part(row["category"], row["defect_type"])) for row in rows
    ]
    if "error" in outcomes:
        with pytest.raises(InputError, match="doesn't say what a row without"):
            bench.evaluate(**given)
        return
    # An oracle's decisions are counted, and not written for use.
    usable = not document.get("oracle")
    bench.evaluate(decide="drawn" if usable else None, **given)
    decided = pd.DataFrame(rows).assign(outcome=outcomes)
    if usable:
        assert bench.read("decisions").decision.tolist() == outcomes
    check(bench, decided)


atoms = st.builds(
    lambda score, word, threshold: {"score": score, word: threshold},
    st.sampled_from(list(drawn.DTYPES)),
    st.sampled_from(list(SIGNS)),
    st.one_of(st.sampled_from(drawn.NUMBERS), st.just({"ref": "one"})),
)
several = st.lists(atoms, min_size=1, max_size=3)
cascades = st.lists(
    st.builds(
        lambda atom, then: {"if": atom, "then": then}, atoms, st.sampled_from(drawn.outcomes)
    ),
    min_size=1,
    max_size=3,
)
plain_rules = st.one_of(
    several.map(lambda parts: {"all": parts}),
    several.map(lambda parts: {"any": parts}),
    cascades.map(lambda steps: {"cascade": [*steps, {"then": "good"}]}),
)


def leaves(rule: dict[str, Any]) -> list[dict[str, Any]]:
    steps = [step["if"] for step in rule.get("cascade", []) if "if" in step]
    return [*steps, *rule.get("all", []), *rule.get("any", [])]


def compared(atom: dict[str, Any], policy: Resolved, category: str | None) -> tuple[str, float]:
    """The sign and the number in the column's own type that an atom is resolved to."""
    (word,) = SIGNS.keys() & atom.keys()
    of = policy.ruling_of(Part(category))
    wanted = Ref(atom[word]["ref"]) if isinstance(atom[word], dict) else float(atom[word])
    key = (atom["score"], SIGNS[word], wanted)
    return (">=" if word in ("ge", "gt") else "<"), of.number_of(key).value


def sql(document: dict[str, Any], policy: Resolved, category: str | None) -> str:
    """The outcome as an expression, thresholds as literals of the columns' types."""
    rule, scores = (
        document["decide"],
        sorted({atom["score"] for atom in leaves(document["decide"])}),
    )

    def one(atom: dict[str, Any]) -> str:
        sign, value = compared(atom, policy, category)
        # A bare literal next to a REAL is not one: 0.7 would be a DECIMAL.
        kind = "REAL" if drawn.DTYPES[atom["score"]].itemsize == 4 else "DOUBLE"
        return f"{atom['score']} {sign} CAST({value!r} AS {kind})"

    lacking = " OR ".join(f"{score} IS NULL" for score in scores)
    if "cascade" in rule:
        steps = [f"WHEN {one(s['if'])} THEN '{s['then']}'" for s in rule["cascade"][:-1]]
    else:
        word = " AND " if "all" in rule else " OR "
        steps = [f"WHEN {word.join(map(one, leaves(rule)))} THEN 'defect'"]
    return f"CASE WHEN {lacking} THEN '{document['on_missing']}' {' '.join(steps)} ELSE 'good' END"


def in_polars(document: dict[str, Any], policy: Resolved, category: str | None) -> pl.Expr:
    rule = document["decide"]

    def one(atom: dict[str, Any]) -> pl.Expr:
        sign, value = compared(atom, policy, category)
        narrow = drawn.DTYPES[atom["score"]].itemsize == 4
        literal = pl.lit(value, dtype=pl.Float32 if narrow else pl.Float64)
        return pl.col(atom["score"]) >= literal if sign == ">=" else pl.col(atom["score"]) < literal

    lacking = pl.any_horizontal(pl.col(atom["score"]).is_null() for atom in leaves(rule))
    found = pl.when(lacking).then(pl.lit(document["on_missing"]))
    if "cascade" in rule:
        for step in rule["cascade"][:-1]:
            found = found.when(one(step["if"])).then(pl.lit(step["then"]))
        return found.otherwise(pl.lit("good"))
    joined = pl.all_horizontal if "all" in rule else pl.any_horizontal
    return (
        found.when(joined(map(one, leaves(rule)))).then(pl.lit("defect")).otherwise(pl.lit("good"))
    )


@given(
    rule=plain_rules,
    on_missing=st.sampled_from(["good", "defect", "review"]),
    rows=tables((*drawn.CATEGORIES[:2], None)),
)
@settings(max_examples=20, suppress_health_check=ANEW)
def test_duckdb_and_polars_count_the_same_on_the_same_file(
    tmp_path: Path, rule: dict[str, Any], on_missing: str, rows: list[Any]
) -> None:
    bench = Bench(tmp_path)
    document = {"decide": rule, "on_missing": on_missing}
    given = put(bench, rows, document)
    config = EvaluateConfig.model_validate(bench.settings(**given))
    (policy,) = evaluated(config, read_policies(config.policies), opened(config)).policies
    bench.evaluate(**given)
    names, frames = "image_id, category, defect_type, is_defect", ([], [])
    for category in {row["category"] for row in rows}:
        where = "category IS NULL" if category is None else f"category = '{category}'"
        query = f"SELECT {names}, {sql(document, policy, category)} AS outcome "
        query += f"FROM '{bench.table}' WHERE {where}"
        frames[0].append(duckdb.sql(query).df())
        mine = pl.col("category").eq_missing(pl.lit(category, dtype=pl.String))
        decided = in_polars(document, policy, category).alias("outcome")
        columns = [*map(pl.col, names.split(", ")), decided]
        frames[1].append(pl.read_parquet(bench.table).filter(mine).select(columns).to_pandas())
    for found in frames:
        check(bench, pd.concat(found).sort_values("image_id", ignore_index=True))
