"""Decisions at moved thresholds are the policy language's own, with ties and nulls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.app.deciding import figures, outcomes
from pipeline.app.desk import Desk
from pipeline.app.held import Held, hold, judged
from pipeline.app.policies import MOVED, moved, sliders
from pipeline.config import EvaluateConfig
from pipeline.errors import InputError
from pipeline.evaluation.counting import parts_of
from pipeline.evaluation.evaluate import run_evaluate
from pipeline.evaluation.table import open_parquet
from pipeline.policy.language import Resolved, Rows, Thresholds, decide, parse_policy, resolve
from pipeline.tables import storage
from tests.app.stores import Place, at_least

CATEGORIES = ("bolt", "tile", None)
SCORES = {"a": np.float32, "b": np.float64, "c": np.float32}
# Few different values, so that rows lie on thresholds.
VALUES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0, None])
ROW = st.fixed_dictionaries(
    {
        "category": st.sampled_from(CATEGORIES),
        "defect_type": st.sampled_from(["good", "dent", "scratch"]),
        "is_defect": st.sampled_from([True, False, None]),
        **dict.fromkeys(SCORES, VALUES),
    }
)
COMPARISONS = st.builds(
    lambda score, word, at: {"score": score, word: at},
    st.sampled_from(list(SCORES)),
    st.sampled_from(["ge", "gt", "lt", "le"]),
    st.sampled_from([0.1, 0.25, 0.5, 0.9]),
)
RULES: st.SearchStrategy[Any] = st.recursive(
    COMPARISONS | st.builds(lambda score: {"missing": score}, st.sampled_from(list(SCORES))),
    lambda parts: (
        st.builds(lambda some: {"any": some}, st.lists(parts, min_size=1, max_size=3))
        | st.builds(lambda some: {"all": some}, st.lists(parts, min_size=1, max_size=3))
        | st.builds(lambda one: {"not": one}, parts)
    ),
    max_leaves=5,
)


def held_of(rows: list[dict[str, Any]], folder: Path) -> Held:
    schema = pa.schema(
        [
            ("image_id", pa.int64()),
            ("category", pa.string()),
            ("defect_type", pa.string()),
            ("is_defect", pa.bool_()),
            *((name, pa.from_numpy_dtype(np.dtype(kind))) for name, kind in SCORES.items()),
        ]
    )
    numbered = [{"image_id": n} | row for n, row in enumerate(rows)]
    uri = str(folder / "t.parquet")
    storage.write_bytes(
        uri, storage.parquet_bytes(pa.Table.from_pylist(numbered, schema=schema), 7)
    )
    return judged(hold(open_parquet([uri], {}, "t")), calibrated=False)


def plainly(policy: Resolved, held: Held) -> np.ndarray:
    """Row by row, by the policy language alone."""
    parts, part_of_group = parts_of(held.groups, by_type=policy.policy.oracle)
    scores = {name: held.scores[name] for name in policy.dtypes}
    return decide(policy, Rows(scores, parts, part_of_group[held.group]))


@settings(max_examples=60)
@given(
    rows=st.lists(ROW, min_size=1, max_size=40),
    rule=RULES,
    override=RULES,
    on_missing=st.sampled_from(["good", "review", "defect"]),
    to=st.sampled_from([0.1, 0.3, 0.5, 1.0]),
)
def test_every_row_is_decided_as_the_language_says(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    rule: Any,
    override: Any,
    on_missing: str,
    to: float,
) -> None:
    held = held_of(rows, tmp_path_factory.mktemp("t"))
    document = {
        "policy": "v1",
        "name": "p",
        "decide": rule,
        "on_missing": on_missing,
        "overrides": {"tile": {"decide": override}},
    }
    parts, _ = parts_of(held.groups, by_type=False)
    policy = resolve(parse_policy(document), parts, Thresholds(), held.table.scores)
    assert outcomes(policy, held).tolist() == plainly(policy, held).tolist()
    for slider in sliders(policy, held, None):
        other = moved(policy, {slider.number: to}, None)
        assert outcomes(other, held).tolist() == plainly(other, held).tolist()


@pytest.mark.parametrize("category", [None, "washer"])
@pytest.mark.parametrize("labelled", [False, True])
def test_moved_counts_are_those_of_an_evaluation(
    small: Place, tmp_path: Path, category: str | None, labelled: bool
) -> None:
    desk = Desk(small.config())
    held = desk.held("monday", labelled=labelled)
    policy = moved(desk.policies("monday").resolved["anomaly"], {0: 22.5}, category)
    found = figures(policy, held, outcomes(policy, held))
    other = Place(tmp_path)
    rule = at_least("anomaly_score", 22.5)
    if category is None:
        other.policy("moved", rule)
    else:
        kept = at_least("anomaly_score", 24.0)
        other.policy("moved", kept, overrides={category: {"decide": rule}})
    report = run_evaluate(
        EvaluateConfig(
            store=small.store, run_id=("monday",), policies=(str(other.policies),), html=False
        )
    )
    told = storage.read_parquet(report["tables"]["figures"]).to_pylist()
    # An evaluation looks the rows up among those that trained, and says what it found.
    assert {row["measured_on"] for row in found} == {held.says}
    assert report["measured_on"].startswith(held.says)
    whose = ("policy", "digest", "measured_on")
    strip = [{k: v for k, v in row.items() if k not in whose} for row in told]
    mine = [{k: v for k, v in row.items() if k not in whose} for row in found]
    assert repr(mine) == repr(strip)


def test_thresholds_of_categories_are_moved_by_as_much(small: Place) -> None:
    desk = Desk(small.config())
    held = desk.held("monday")
    policy = desk.policies("monday").resolved["by-category"]
    (slider,) = sliders(policy, held, None)
    assert (slider.shift, slider.value) == (True, 0.0)
    other = moved(policy, {0: 1.5}, None)
    shown = {part.category: ruling.numbers[0].shown for part, ruling in other.rulings.items()}
    assert shown == {"fabric": 23.5, "label": 24.5, "washer": 25.5}
    # Of one category there is one threshold, which is the slider's own value.
    (alone,) = sliders(policy, held, "label")
    assert (alone.shift, alone.value) == (False, 23.0)
    one = moved(policy, {0: 30.0}, "label")
    origins = {part.category: r.numbers[0].origin for part, r in one.rulings.items()}
    assert origins["label"] == MOVED
    assert MOVED not in (origins["fabric"], origins["washer"])


def test_a_threshold_as_it_is_written_is_shown_as_it_is_written(small: Place) -> None:
    desk = Desk(small.config())
    policy = desk.policies("monday").resolved["either"]
    shown = [one.value for one in sliders(policy, desk.held("monday"), None)]
    assert shown == [26.0, 0.7, 0.4]


def test_a_threshold_beyond_the_scores_type_is_refused(small: Place) -> None:
    policy = Desk(small.config()).policies("monday").resolved["anomaly"]
    with pytest.raises(InputError, match="lies beyond float32"):
        moved(policy, {0: 1e300}, None)


def test_a_policy_that_cannot_be_used_costs_no_other(small: Place) -> None:
    usable = Desk(small.config()).policies("monday")
    assert sorted(usable.resolved) == ["anomaly", "by-category", "either"]
    assert "asks for the threshold 'nobody.knows'" in usable.refused["asks-for-more"]
