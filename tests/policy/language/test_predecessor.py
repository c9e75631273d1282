"""The predecessor's policies on its real scores: its own counts exactly, the others fixed here."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.policy.language import (
    DEFECT,
    OUTCOMES,
    Part,
    Resolved,
    Rows,
    Thresholds,
    decide,
    explain,
    read_policy,
    reasons,
    resolve,
)
from tests.conftest import ROOT

POLICIES = ROOT / "configs" / "policies" / "predecessor"
Counts = tuple[int, int, int, int]
# tn, fp, fn, tp on all 869 rows, and on those 134 that its classifier had never seen.
GOLDEN: dict[str, tuple[Counts, Counts]] = {
    "AD_SAFE_ONLY": ((60, 176, 0, 633), (8, 24, 0, 102)),
    "CLS_F1_ONLY": ((233, 3, 11, 622), (31, 1, 7, 95)),
    "INDUSTRIAL_BALANCED": ((225, 11, 5, 628), (30, 2, 4, 98)),
    "INDUSTRIAL_SAFE_0FN": ((163, 73, 0, 633), (20, 12, 0, 102)),
    "INDUSTRIAL_SAFE_0FN_APP": ((48, 188, 0, 633), (6, 26, 0, 102)),
    "MIX_FN": ((131, 105, 0, 633), (15, 17, 0, 102)),
    "MIX_PAIRS": ((233, 3, 0, 633), (31, 1, 0, 102)),
    "OR_AD_SAFE_OR_CLS_SAFE": ((37, 199, 0, 633), (4, 28, 0, 102)),
    "PRECISION": ((235, 1, 39, 594), (32, 0, 8, 94)),
    "PRECISION_OLDER": ((233, 3, 11, 622), (31, 1, 7, 95)),
    "SAFE_0FN": ((60, 176, 0, 633), (8, 24, 0, 102)),
}


@dataclass(frozen=True)
class Table:
    """The predecessor's scores and thresholds."""

    rows: Rows
    defect: np.ndarray
    unseen: np.ndarray
    thresholds: Thresholds


@pytest.fixture(scope="module")
def table(shared: Path) -> Table:
    seed = shared / "seed"
    with (seed / "mvtec_scores.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    each = [Part(row["category"], row["defect_type"]) for row in listed]
    parts = tuple(dict.fromkeys(each))
    number = {part: at for at, part in enumerate(parts)}
    scores = {
        name: np.array([float(row[name]) for row in listed]) for name in ("ad_score", "cls_prob")
    }
    rows = Rows(scores, parts, np.array([number[part] for part in each]))
    defect = np.array([row["label"] == "1" for row in listed])
    unseen = np.array([row["classifier_split"] == "test" for row in listed])
    return Table(rows, defect, unseen, predecessor_thresholds(seed))


def predecessor_thresholds(seed: Path) -> Thresholds:
    anomaly = json.loads((seed / "ad_resnet_mahalanobis_mvtec_all.json").read_text())
    classifier = json.loads((seed / "image_level_thresholds.json").read_text())
    named: dict[str, Any] = {}
    for rule in ("F1", "F2", "safe"):
        of_category = {category: one[f"tau_{rule}"] for category, one in anomaly.items()}
        named[f"ad_{rule.lower()}"] = of_category
        named[f"cls_{rule.lower()}"] = classifier["image_level_global"][f"tau_{rule}"]
    return Thresholds.from_table(named, "seed")


def resolved_of(name: str, table: Table, dtype: type = np.float64) -> Resolved:
    policy = read_policy((POLICIES / f"{name}.json").read_bytes(), name)
    dtypes = {"ad_score": dtype, "cls_prob": dtype}
    return resolve(policy, table.rows.parts, table.thresholds, dtypes)


def counts(flagged: np.ndarray, defect: np.ndarray) -> Counts:
    return (
        int((~flagged & ~defect).sum()),
        int((flagged & ~defect).sum()),
        int((~flagged & defect).sum()),
        int((flagged & defect).sum()),
    )


def test_the_predecessors_own_counts(shared: Path, table: Table) -> None:
    with (shared / "seed" / "expected_policy_counts.csv").open(newline="") as file:
        expected = list(csv.DictReader(file))
    assert len(expected) == 3
    for line in expected:
        flagged = decide(resolved_of(line["policy"], table), table.rows) == DEFECT
        assert counts(flagged, table.defect) == tuple(
            int(line[name]) for name in ("tn", "fp", "fn", "tp")
        )


def test_there_are_golden_numbers_of_every_policy() -> None:
    assert {file.stem for file in POLICIES.glob("*.json")} == set(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_counts(name: str, table: Table) -> None:
    flagged = decide(resolved_of(name, table), table.rows) == DEFECT
    unseen = table.unseen
    assert (
        counts(flagged, table.defect),
        counts(flagged[unseen], table.defect[unseen]),
    ) == GOLDEN[name]


def test_the_groups_of_mix_fn_and_the_pairs_of_mix_pairs_follow_from_the_scores(
    table: Table,
) -> None:
    flagged = decide(resolved_of("CLS_F1_ONLY", table), table.rows) == DEFECT
    missed = {table.rows.parts[at] for at in table.rows.part[~flagged & table.defect]}
    mix_fn = json.loads((POLICIES / "MIX_FN.json").read_text())
    assert mix_fn["groups"] == {"missed_by_classifier": sorted({one.category for one in missed})}
    pairs = json.loads((POLICIES / "MIX_PAIRS.json").read_text())
    written = {
        Part(category, kind)
        for category, rule in pairs["overrides"].items()
        for kind in rule["decide"]["any"][0]["all"][0]["defect_type"]
    }
    assert written == missed
    oracle = resolved_of("MIX_PAIRS", table)
    assert oracle.policy.oracle
    assert set(oracle.rulings) == set(table.rows.parts)


def test_one_policy_under_two_names_has_one_digest(table: Table) -> None:
    found = {name: resolved_of(name, table).digest for name in GOLDEN}
    assert found.pop("SAFE_0FN") == found["AD_SAFE_ONLY"]
    assert len(set(found.values())) == len(found)


def test_in_float32_a_good_image_changes_sides(table: Table) -> None:
    """So scores are compared in the type they are stored in, never in another one."""
    (at,) = np.flatnonzero(table.rows.scores["ad_score"] == 25.33364093445857)
    assert not table.defect[at]
    wide = decide(resolved_of("AD_SAFE_ONLY", table), table.rows)
    narrow_scores = {name: one.astype(np.float32) for name, one in table.rows.scores.items()}
    narrow_rows = Rows(narrow_scores, table.rows.parts, table.rows.part)
    narrow = decide(resolved_of("AD_SAFE_ONLY", table, np.float32), narrow_rows)
    assert np.flatnonzero(wide != narrow).tolist() == [at]
    part = table.rows.parts[table.rows.part[at]]
    found = explain(resolved_of("AD_SAFE_ONLY", table), part, {"ad_score": 25.33364093445857})
    assert found.says == (
        "screw → good: ad_score 25.33364093445857 is not ≥ 25.333640934458575 "
        "(seed, ad_safe of screw)"
    )


@pytest.mark.parametrize("name", ["INDUSTRIAL_SAFE_0FN_APP", "MIX_PAIRS"])
def test_every_image_is_explained_as_it_is_decided(name: str, table: Table) -> None:
    resolved = resolved_of(name, table)
    outcome = decide(resolved, table.rows)
    found = reasons(resolved, table.rows)
    assert np.array_equal(found.outcome, outcome)
    for at in range(0, len(outcome), 7):
        row = {score: float(column[at]) for score, column in table.rows.scores.items()}
        one = explain(resolved, table.rows.parts[table.rows.part[at]], row)
        assert one.outcome == OUTCOMES[outcome[at]]
        shared_reason = found.explanations[found.reason[at]]
        assert [b.path for b in one.because] == [b.path for b in shared_reason.because]
