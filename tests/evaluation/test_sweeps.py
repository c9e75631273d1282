"""Sweeps end to end: counted row by row, chosen on some rows, judged on others."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.config import CalibrateConfig, EvaluateConfig
from pipeline.errors import InputError
from pipeline.evaluation.sweep.sides import sweep_sides
from pipeline.evaluation.table import open_files
from pipeline.policy.choosing.hold_out import held_out
from pipeline.report.sweep import sweep_lines
from pipeline.scoring.calibrate import run_calibrate
from tests.evaluation.tables import SCHEMA, Bench
from tests.scoring.runs import FIT_IDS, image_rows, make_bundle, make_run, usual_rows

GRID = [0.1, 0.35, 0.5, 0.75]
COSTS = {"false_negative": {"*": 9}, "false_positive": {"*": 1}, "defect_rate": {"*": 0.4}}
GROUPED = SCHEMA.append(pa.field("group_id", pa.int64()))


def rows(count: int = 400, seed: int = 0) -> pd.DataFrame:
    """Two categories, groups of up to three images, ties and a few missing scores."""
    rng = np.random.default_rng(seed)
    defect = rng.random(count) < 0.4
    scores = np.round(rng.random((count, 2)) * 0.6 + 0.4 * defect[:, None], 2)
    table = pd.DataFrame(
        {
            "image_id": np.arange(count) * 7 + 1,
            "group_id": np.arange(count) // 3,
            "category": np.where(rng.random(count) < 0.5, "tile", "bolt"),
            "defect_type": np.where(
                defect, np.where(rng.random(count) < 0.5, "dent", "hole"), "good"
            ),
            "is_defect": defect,
            "role": np.where((np.arange(count) // 3) % 2, "validation", "test"),
            "a": scores[:, 0].astype(np.float32),
            "b": scores[:, 1],
        }
    )
    table.loc[rng.random(count) < 0.05, "b"] = np.nan
    return table


def sweep(bench: Bench, **more: Any) -> Path:
    """a ≥ x or b ≥ y on a grid."""
    decide = {"any": [{"score": "a", "ge": {"var": "x"}}, {"score": "b", "ge": {"var": "y"}}]}
    document = {
        "sweep": "v1",
        "template": {"policy": "v1", "name": "either", "on_missing": "defect", "decide": decide},
        "variables": {"x": {"values": GRID}, "y": {"values": GRID}},
    } | more
    file = bench.folder / "sweep.json"
    file.write_text(json.dumps(document))
    return file


def put(bench: Bench, table: pd.DataFrame) -> None:
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    bench.put(records, GROUPED)


def run(bench: Bench, file: Path, **changes: Any) -> dict[str, Any]:
    return bench.evaluate(policies=None, sweep=str(file), **changes)["sweep"]


def flagged(table: pd.DataFrame, x: float, y: float) -> pd.Series:
    """What the template says of each row, written once more."""
    above = (table["a"] >= np.float32(x)) | (table["b"] >= y)
    return above | table["b"].isna()


def side_of(table: pd.DataFrame) -> np.ndarray:
    """True for rows that judge, by the hash of their group."""
    return held_out(table["group_id"].to_numpy(), 0.5, 0)


@pytest.mark.parametrize("by", ["group", "role", "none"])
def test_every_policy_is_counted_on_both_sides_as_row_by_row(bench: Bench, by: str) -> None:
    table = rows()
    put(bench, table)
    everything = {"roles": ("validation", "test")} if by != "role" else {}
    told = run(bench, sweep(bench), holdout={"by": by}, **everything)
    assert told["policies"] == len(GRID) ** 2
    judges = {
        "group": side_of(table),
        "role": table["role"] == "test",
        "none": np.zeros(len(table), bool),
    }[by]
    found = bench.read("sweep")
    assert ("hold_out_fn" in found) == (by != "none")
    for _, policy in found.iterrows():
        called = flagged(table, policy["variable_x"], policy["variable_y"])
        for side, inside in (("tuning", ~judges), ("hold_out", judges)):
            if by == "none" and side == "hold_out":
                continue
            assert policy[f"{side}_fn"] == (inside & table["is_defect"] & ~called).sum()
            assert policy[f"{side}_fp"] == (inside & ~table["is_defect"] & called).sum()


def test_the_front_holds_what_no_other_policy_beats(bench: Bench) -> None:
    put(bench, rows())
    run(bench, sweep(bench), holdout={"by": "role"})
    found = bench.read("sweep")
    losses = found[["tuning_fn", "tuning_fp"]].to_numpy()
    beaten = [
        any((other <= mine).all() and (other < mine).any() for other in losses) for mine in losses
    ]
    best = {tuple(one) for one, b in zip(losses.tolist(), beaten, strict=True) if not b}
    assert {tuple(one) for one in losses[found["on_front"]].tolist()} == best


def test_the_hold_out_has_no_say_in_quantiles_or_in_the_choice(bench: Bench) -> None:
    quantiles = {
        name: {"quantiles": {"score": score, "of": "good", "num": 6, "per_category": True}}
        for name, score in (("x", "a"), ("y", "b"))
    }
    file = sweep(bench, variables=quantiles, choose={"budgets": ["fnr<=0.05"]})
    table = rows()
    told = []
    for change in (0.0, 0.3):
        other = table.copy()
        judges = side_of(table)
        other.loc[judges, ["a", "b"]] = (other.loc[judges, ["a", "b"]] * (1 - change)).round(2)
        put(bench, other)
        told.append(run(bench, file, roles=("validation", "test"), holdout={"by": "group"}))
    first, second = (one["chosen"] for one in told)
    assert first["variables"] == second["variables"]
    assert first["figures"]["tuning"] == second["figures"]["tuning"]
    assert first["figures"]["hold_out"] != second["figures"]["hold_out"]


def test_in_sample_figures_are_called_so(bench: Bench) -> None:
    put(bench, rows())
    file = sweep(bench, choose={"budgets": ["fnr<=0.1"]})
    split = run(bench, file)["chosen"]["figures"]
    assert {row["measured_on"] for row in split["tuning"]} == {"tuning: in-sample, best of 16"}
    assert {row["measured_on"] for row in split["hold_out"]} == {"hold-out"}
    alone = run(bench, file, holdout={"by": "none"}, roles=("test",))
    assert "in-sample" in alone["split"]
    assert list(alone["chosen"]["figures"]) == ["tuning"]
    assert "in-sample, best of 16" in alone["chosen"]["figures"]["tuning"][0]["measured_on"]


def test_each_category_may_have_its_own(bench: Bench) -> None:
    table = rows()
    put(bench, table)
    file = sweep(bench, choose={"per_category": True, "costs": COSTS})
    choice = run(bench, file)["chosen"]
    assert choice["per_category"]
    tuning = table[table["role"] == "validation"]
    for place, category in enumerate(("bolt", "tile")):
        mine = tuning[tuning["category"] == category]
        defects, goods = mine["is_defect"].sum(), (~mine["is_defect"]).sum()

        def cost(x: float, y: float, mine: Any = mine, n: Any = (defects, goods)) -> float:
            called = flagged(mine, x, y)
            missed = (mine["is_defect"] & ~called).sum() / n[0]
            return 0.4 * 9 * missed + 0.6 * (~mine["is_defect"] & called).sum() / n[1]

        least = min(cost(x, y) for x, y in itertools.product(GRID, GRID))
        chosen = choice["variables"][place]
        assert cost(chosen["x"], chosen["y"]) == pytest.approx(least)
    document = choice["document"]
    assert document["thresholds"]["x"].keys() == {"bolt", "tile"}


def require_same_as_a_file(bench: Bench, choice: dict[str, Any]) -> None:
    """Evaluates the chosen policy as it was exported on the test rows: the hold-out's figures."""
    bench.policies.mkdir()
    (bench.policies / "p.json").write_text(json.dumps(choice["document"]["policy"]))
    thresholds = bench.folder / "t.json"
    thresholds.write_text(json.dumps(choice["document"]["thresholds"]))
    report = bench.evaluate(roles=("test",), thresholds=str(thresholds))
    wanted = next(row for row in choice["figures"]["hold_out"] if row["level"] == "all")
    found = next(row for row in report["figures"] if row["level"] == "all")
    for name in ("tp", "fp", "tn", "fn"):
        assert found[name] == wanted[name]


def test_the_chosen_policy_as_a_file_decides_as_it_was_counted(bench: Bench) -> None:
    put(bench, rows())
    choice = run(bench, sweep(bench, choose={"budgets": ["fnr<=0.1"]}))["chosen"]
    require_same_as_a_file(bench, choice)
    assert choice["categories"] is None


@pytest.mark.parametrize("per_category", [False, True])
def test_rows_without_a_category_keep_their_own_threshold_in_the_file(
    bench: Bench, per_category: bool
) -> None:
    """Whether the values of the variable are each category's own or the same for all."""
    table = rows()
    kind = np.arange(len(table)) % 7 % 3
    table["category"] = np.array([None, "bolt", "tile"], object)[kind]
    table["a"] += kind.astype(np.float32)
    put(bench, table)
    quantiles = {"score": "a", "of": "all", "num": 40, "per_category": per_category}
    file = sweep(
        bench,
        template={"policy": "v1", "name": "p", "decide": {"score": "a", "ge": {"var": "x"}}},
        variables={"x": {"quantiles": quantiles}},
        choose={"budgets": ["fnr<=0.1"], "per_category": True},
    )
    choice = run(bench, file)["chosen"]
    require_same_as_a_file(bench, choice)
    thresholds = choice["document"]["thresholds"]["x"]
    assert thresholds[""] < 1 < thresholds["bolt"] < 2 < thresholds["tile"]
    assert choice["categories"] == ["", "bolt", "tile"]


def test_a_category_called_var_keeps_its_override_in_the_file(bench: Bench) -> None:
    """The word marks a variable only where a name stands behind it."""
    table = rows()
    table["category"] = table["category"].replace("bolt", "var")
    put(bench, table)
    template = {
        "policy": "v1",
        "name": "p",
        "on_missing": "defect",
        "decide": {"score": "a", "ge": {"var": "x"}},
        "overrides": {"var": {"decide": {"score": "b", "ge": {"var": "y"}}}},
    }
    choice = run(bench, sweep(bench, template=template, choose={"budgets": ["fnr<=0.1"]}))["chosen"]
    written = choice["document"]["policy"]
    assert written["overrides"] == {"var": {"decide": {"score": "b", "ge": {"ref": "y"}}}}
    require_same_as_a_file(bench, choice)


@pytest.mark.parametrize("per_category", [False, True])
def test_an_empty_category_is_none_as_null_is(bench: Bench, per_category: bool) -> None:
    """Tables that went through CSV may have both; the two have one set of quantiles."""
    table = rows()
    kind = np.arange(len(table)) % 7 % 3
    table["a"] += (kind > 1).astype(np.float32)
    quantiles = {"score": "a", "of": "all", "num": 40, "per_category": True}
    file = sweep(
        bench,
        template={"policy": "v1", "name": "p", "decide": {"score": "a", "ge": {"var": "x"}}},
        variables={"x": {"quantiles": quantiles}},
        choose={"budgets": ["fnr<=0.1"], "per_category": per_category},
    )
    choices = []
    for nothing in ("", None):
        table["category"] = np.array([None, nothing, "tile"], object)[kind]
        put(bench, table)
        choices.append(run(bench, file)["chosen"])
    mixed, plain = choices
    assert mixed == plain
    assert mixed["document"]["thresholds"]["x"].keys() == {"", "tile"}
    require_same_as_a_file(bench, mixed)


def test_a_variable_called_as_a_threshold_of_its_template_is_refused(bench: Bench) -> None:
    """The chosen policy as a file names both: one of them would get the other's number."""
    put(bench, rows())
    file = bench.folder / "t.json"
    file.write_text(json.dumps({"x": 0.9}))
    cuts = [{"score": "b", "ge": {"ref": "x"}}, {"score": "a", "ge": {"var": "x"}}]
    template = {"policy": "v1", "name": "p", "on_missing": "defect", "decide": {"all": cuts}}
    asked = sweep(bench, template=template, variables={"x": {"values": GRID}})
    with pytest.raises(InputError, match=r"sweep.json: template: 'x' is a variable .*another name"):
        run(bench, asked, thresholds=str(file))


def test_a_certificate_counts_one_image_of_each_group_that_chose_nothing(bench: Bench) -> None:
    table = rows(900)
    table["group_id"] = np.arange(len(table)) // 2
    table["is_defect"] = table["group_id"] % 2 == 0
    put(bench, table)
    told = run(
        bench,
        sweep(bench),
        guarantee="fnr<=0.2@0.9",
        roles=("validation", "test"),
        holdout={"by": "group"},
    )
    judges = side_of(table) & table["is_defect"]
    assert told["guarantee"]["of"] == table[judges]["group_id"].nunique()
    judged = next(iter(told["front"]))["hold_out"]
    assert judged["defects"] == judges.sum()


def test_which_image_of_a_group_comes_first_depends_on_all_files(bench: Bench) -> None:
    """So that what was kept of one night isn't taken for what it is among others."""
    config = EvaluateConfig.model_validate(
        bench.settings(policies=None, sweep="s", guarantee="fnr<=0.1@0.9", roles=("test",))
        | {"holdout": {"by": "group"}}
    )
    table = rows(60).assign(role="test")
    folder = bench.folder / "nights"
    folder.mkdir()
    for number in range(2):
        put(bench, table.assign(image_id=table["image_id"] + number))
        (folder / f"{number}.parquet").write_bytes(bench.table.read_bytes())
    alone, both = (
        sweep_sides(config, open_files(str(place), {})) for place in (bench.table, folder)
    )
    assert alone.says == both.says
    assert alone.identity != both.identity


def referring(bench: Bench) -> Path:
    """A sweep beside a bundle's threshold that validation rows chose; run `r` has its rows."""
    store = str(bench.store)
    bundle = make_bundle(store, {"gaussians": FIT_IDS, "classifier": [], "detector": []})
    make_run(store, bundle, usual_rows() + image_rows(6000, 8, "test", False))
    run_calibrate(CalibrateConfig(run_id="r", store=store))
    safe = {"score": "anomaly_score", "ge": {"ref": "anomaly_score.safe"}}
    cut = {"score": "defect_logit", "ge": {"var": "x"}}
    template = {"policy": "v1", "name": "p", "decide": {"any": [safe, cut]}}
    return sweep(bench, template=template, variables={"x": {"values": [0.0, 2.0]}})


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"roles": ("validation", "test")}, "validation rows chose the thresholds that templates"),
        (
            {"roles": ("test", "validation", "normal_calibration")},
            "validation and normal_calibration rows chose the thresholds",
        ),
        ({"roles": ("fit", "test")}, "fit rows trained the models"),
        (
            {"holdout": {"by": "role", "tuning": ("test",), "judging": ("validation",)}},
            "validation rows chose the thresholds",
        ),
        ({"holdout": {"judging": ("fit", "test")}}, "fit rows trained the models"),
    ],
)
def test_rows_that_had_a_say_certify_nothing(
    bench: Bench, settings: dict[str, Any], why: str
) -> None:
    file = referring(bench)
    given = {"table": None, "run_id": "r", **settings}
    with pytest.raises(InputError, match=f"guarantee: fnr<=0.5@0.9: {why}.*such as test certify"):
        run(bench, file, guarantee="fnr<=0.5@0.9", **given)
    # Without a certificate they are figures with a warning.
    first, *looked_up = run(bench, file, **given)["warnings"]
    assert first.startswith(why)
    assert all(one.startswith("rows that judge: in-sample: ") for one in looked_up)


@pytest.mark.parametrize("by", ["auto", "group"])
def test_rows_that_chose_no_threshold_certify_what_refers_to_one(bench: Bench, by: str) -> None:
    """Also where settings name judging roles that the hold-out by group doesn't use."""
    holdout = {"by": by, "judging": ("test",) if by == "auto" else ("fit",)}
    given = {"table": None, "run_id": "r", "holdout": holdout}
    told = run(bench, referring(bench), guarantee="fnr<=0.5@0.9", **given)
    assert told["warnings"] == []
    assert told["guarantee"]["of"] > 0


def test_a_guarantee_on_thresholds_of_unknown_rows_says_so(bench: Bench) -> None:
    put(bench, rows())
    file = bench.folder / "t.json"
    file.write_text(json.dumps({"mine": 0.9}))
    cuts = [{"score": "a", "ge": {"ref": "mine"}}, {"score": "a", "ge": {"var": "x"}}]
    template = {"policy": "v1", "name": "p", "decide": {"any": cuts}}
    asked = sweep(bench, template=template, variables={"x": {"values": GRID}})
    (warning,) = run(bench, asked, thresholds=str(file), guarantee="fnr<=0.3@0.9")["warnings"]
    assert warning.startswith("guarantee: whether rows that certify chose the thresholds of ")
    assert run(bench, asked, thresholds=str(file))["warnings"] == []


def test_what_cannot_be_certified_is_not_chosen_and_the_needed_number_is_told(bench: Bench) -> None:
    put(bench, rows())
    told = run(bench, sweep(bench), guarantee="fnr<=0.001@0.95")
    assert told["chosen"] is None
    assert "cannot be certified with" in told["guarantee"]["says"]
    assert told["guarantee"]["needed"] == 2995  # 0.999 ** 2995 <= 0.05


def reviewing(bench: Bench, **choose: Any) -> Path:
    """Flags from x on, reviews from y on; with y at 0 a person sees all that isn't flagged."""
    cuts = {
        name: {"score": "a", "ge": {"var": var}} for name, var in (("decide", "x"), ("review", "y"))
    }
    return sweep(
        bench,
        template={"policy": "v1", "name": "both", **cuts},
        variables={"x": {"values": [0.5, 0.6, 0.99]}, "y": {"values": [0.0, 0.3, 0.55]}},
        choose=choose,
    )


def test_a_certified_policy_keeps_the_budgets_on_tuning(bench: Bench) -> None:
    table = rows(1200)
    put(bench, table)
    wanted = "fnr<=0.5@0.95"
    alone = run(bench, reviewing(bench), guarantee=wanted)["chosen"]
    judged = table[table["role"] == "test"]
    # Without a budget on reviews, that a person sees nearly everything costs nothing.
    assert alone["variables"] == [{"x": 0.99, "y": 0.0}]
    assert alone["budgets"] == []
    choice = run(bench, reviewing(bench, budgets=["fnr<=0.5", "review<=0.2"]), guarantee=wanted)
    told = choice["chosen"]
    fnr, review = told["budgets"]
    assert (fnr["asked"], review["asked"]) == ("fnr<=0.5", "review<=0.2")
    (x, y), n = told["variables"][0].values(), len(judged)
    sent = {
        name: ((mine["a"] < np.float32(x)) & (mine["a"] >= np.float32(y))).sum()
        for name, mine in (("hold_out", judged), ("tuning", table[table["role"] != "test"]))
    }
    assert review["hold_out"] == {
        "hits": sent["hold_out"],
        "of": n,
        "kept": sent["hold_out"] <= n // 5,
    }
    assert review["tuning"]["hits"] == sent["tuning"]
    assert review["tuning"]["kept"] and fnr["tuning"]["kept"]
    assert told["met"]
    assert told["says"].endswith(
        "the candidates were those that keep fnr<=0.5 and review<=0.2 on tuning"
    )
    assert f"  review<=0.2: kept on tuning ({sent['tuning']} of" in "\n".join(sweep_lines(choice))


def test_whether_the_budgets_hold_where_it_is_judged_is_told(bench: Bench) -> None:
    """The rows that judge pick no candidate: they may well break a budget, and say so."""
    table = rows(1200)
    # Where it is judged, a person would see most of the images.
    table.loc[table["role"] == "test", "a"] = np.float32(0.58)
    put(bench, table)
    file = reviewing(bench, budgets=["fnr<=0.5", "review<=0.2"])
    told = run(bench, file, guarantee="fnr<=0.5@0.95")
    _, review = told["chosen"]["budgets"]
    assert (review["tuning"]["kept"], review["hold_out"]["kept"]) == (True, False)
    assert "not kept on hold-out" in "\n".join(sweep_lines(told))


def test_where_no_policy_keeps_the_budgets_there_is_none_to_certify(bench: Bench) -> None:
    put(bench, rows(1200))
    file = reviewing(bench, budgets=["fnr<=0", "review<=0"])
    told = run(bench, file, guarantee="fnr<=0.3@0.95")
    assert told["chosen"] is None
    assert told["guarantee"]["tested"] == 0
    assert told["guarantee"]["says"].startswith(
        "fnr<=0.3@0.95 is not certified, there is no candidate: on tuning none of 9 policies keeps "
        "fnr<=0 and review<=0; the nearest: "
    )


def test_an_oracle_is_counted_and_never_chosen(bench: Bench) -> None:
    put(bench, rows())
    decide = {"defect_type": ["dent", "hole"]}
    cut = {"score": "a", "ge": {"var": "x"}}
    oracle = {"policy": "v1", "name": "o", "oracle": True, "decide": {"any": [decide, cut]}}
    plain = {"policy": "v1", "name": "p", "decide": cut}
    document = {"sweep": "v1", "templates": [oracle, plain], "variables": {"x": {"values": GRID}}}
    file = bench.folder / "sweep.json"
    file.write_text(json.dumps(document | {"choose": {"budgets": ["fnr<=0"]}}))
    told = run(bench, file)
    found = bench.read("sweep")
    assert found[found["template"] == 0]["tuning_fn"].max() == 0
    assert all(point["variables"]["template"] == 1 for point in told["front"])
    assert told["chosen"]["variables"][0]["template"] == 1


@pytest.mark.parametrize("choose", [{"budgets": ["fnr<=0"]}, {"costs": COSTS}])
@pytest.mark.parametrize("per_category", [False, True])
def test_where_all_policies_are_oracles_none_is_chosen(
    bench: Bench, choose: dict[str, Any], per_category: bool
) -> None:
    put(bench, rows())
    oracle = {
        "policy": "v1",
        "name": "o",
        "oracle": True,
        "decide": {"any": [{"defect_type": ["dent"]}, {"score": "a", "ge": {"var": "x"}}]},
    }
    file = sweep(
        bench,
        template=oracle,
        variables={"x": {"values": GRID}},
        choose=choose | {"per_category": per_category},
    )
    with pytest.raises(InputError, match="none of 4 policies can be chosen: oracles"):
        run(bench, file)


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        (
            {"variables": {n: {"linspace": {"start": 0, "stop": 1, "num": 40_000}} for n in "xy"}},
            {},
            "1,600,000,000",
        ),
        ({"variables": {"x": {"values": GRID}}}, {}, "y"),
        ({"choose": {"budget": []}}, {}, "choose.budget: is unknown"),
        ({"choose": {"per_category": True}}, {}, "goes by costs, or by one budget"),
        ({"choose": {"budgets": ["fnr<2"]}}, {}, r"choose.budgets\[0\]: 'fnr<2' is no budget"),
        ({}, {"guarantee": "fnr<=0.01"}, "guarantee: .* is no guarantee"),
        ({}, {"holdout": {"by": "none"}, "guarantee": "fnr<=0.1@0.9", "roles": "test"}, "chose"),
        (
            {"choose": {"costs": COSTS}},
            {"guarantee": "fnr<=0.1@0.9"},
            "choose.costs: stands beside guarantee=fnr<=0.1@0.9",
        ),
        (
            {"choose": {"budgets": ["fnr<=0.1"], "per_category": True}},
            {"guarantee": "fnr<=0.1@0.9"},
            "choose.per_category: stands beside guarantee=fnr<=0.1@0.9",
        ),
        ({}, {"holdout": {"by": "role", "judging": ("validation",)}}, "is in holdout.tuning too"),
        ({}, {"holdout": {"by": "role", "tuning": ("fit",)}}, "tuning: has no"),
        ({}, {"holdout": {"by": "role"}, "roles": "test"}, "roles: with holdout.by=role"),
        ({}, {"roles": ("test", "tset")}, "roles: tset: no row of table.parquet has this role"),
    ],
)
def test_what_is_refused_with_its_reason(
    bench: Bench, changes: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    put(bench, rows())
    with pytest.raises(InputError, match=message):
        run(bench, sweep(bench, **changes), **settings)
    assert not bench.report.exists()


def test_a_score_that_rows_lack_is_refused_where_the_template_does_not_say(bench: Bench) -> None:
    put(bench, rows())
    template = {"policy": "v1", "name": "p", "decide": {"score": "b", "ge": {"var": "x"}}}
    file = sweep(bench, template=template, variables={"x": {"values": GRID}})
    with pytest.raises(InputError, match="doesn't say what a row without b is"):
        run(bench, file)


def test_roles_that_share_a_group_are_no_two_sides(bench: Bench) -> None:
    table = rows()
    table.loc[table.index[-1], "group_id"] = 0
    put(bench, table)
    assert len(set(table[table["group_id"] == 0]["role"])) == 2
    with pytest.raises(InputError, match="1 groups have rows on both sides, such as 0"):
        run(bench, sweep(bench), holdout={"by": "role"})


def test_an_image_that_stands_there_twice_proves_nothing_twice(bench: Bench) -> None:
    table = rows()
    put(bench, pd.concat([table, table]))
    everything = {"roles": ("validation", "test"), "holdout": {"by": "group"}}
    with pytest.raises(InputError, match=r"guarantee: .* an image proves nothing twice"):
        run(bench, sweep(bench), guarantee="fnr<=0.2@0.9", **everything)


@pytest.mark.parametrize("by", ["group", "role"])
def test_rows_that_may_be_alike_certify_nothing(bench: Bench, by: str) -> None:
    """Near-duplicates without a group would lie on both sides, and count as independent."""
    table = rows()
    table["image_id"] += 10_000
    table["group_id"] = table["group_id"].astype("Int64")
    table.loc[[3, 4, 7], "group_id"] = pd.NA
    put(bench, table.astype(object))
    given = {"holdout": {"by": by}} | ({} if by == "role" else {"roles": ("validation", "test")})
    with pytest.raises(InputError, match=r"guarantee: 3 of 400 rows of .* have no group_id"):
        run(bench, sweep(bench), guarantee="fnr<=0.3@0.9", **given)
    assert run(bench, sweep(bench), **given)["guarantee"] is None


def test_a_table_without_groups_certifies_where_it_is_told_that_images_are_parts(
    bench: Bench,
) -> None:
    bench.put(rows(1200).drop(columns="group_id"), SCHEMA)
    given = {"guarantee": "fnr<=0.3@0.9", "holdout": {"by": "role"}}
    with pytest.raises(InputError, match=r"1,200 of 1,200 rows of table\.parquet have no group_id"):
        run(bench, sweep(bench), **given)
    told = run(bench, sweep(bench), columns={"group_id": "image_id"}, **given)
    assert told["guarantee"]["of"] > 0


def test_rows_that_count_nowhere_need_no_group(bench: Bench) -> None:
    """Images of the line without a label, and rows of roles that take no part."""
    table = rows().astype({"group_id": "Int64", "is_defect": object})
    table["image_id"] += 10_000
    table.loc[table.index[-1], "role"] = "fit"
    table.loc[table.index[3:6], "is_defect"] = None
    lacking = [*table.index[3:6], table.index[-1]]
    assert set(table.loc[table.index[3:6], "role"]) == {"validation"}
    table.loc[lacking, "group_id"] = pd.NA
    put(bench, table.astype(object))
    holdout = {"by": "role", "tuning": ("test",), "judging": ("validation",)}
    told = run(bench, sweep(bench), guarantee="fnr<=0.3@0.9", holdout=holdout)
    assert told["guarantee"]["of"] > 0


def test_rows_without_group_and_image_are_on_no_side(bench: Bench) -> None:
    table = rows()
    table["group_id"] = table["group_id"].astype("Int64")
    table.loc[3, ["group_id", "image_id"]] = pd.NA
    put(bench, table.astype(object))
    with pytest.raises(InputError, match="1 rows have neither a group_id nor an image_id"):
        run(bench, sweep(bench), holdout={"by": "group"}, roles=("validation", "test"))


def test_a_category_that_says_nothing_of_an_error_is_named(bench: Bench) -> None:
    table = rows()
    lacking = (table["category"] == "bolt") & (table["role"] == "validation")
    put(bench, table[~(lacking & table["is_defect"])])
    file = sweep(bench, choose={"per_category": True, "budgets": ["fnr<=0.05"]})
    (warning,) = run(bench, file)["warnings"]
    assert warning.startswith("bolt: its tuning rows are ")
    assert "0 defects: its own policy rests on nothing there" in warning


def test_what_was_picked_by_the_rows_that_judge_says_so(bench: Bench) -> None:
    put(bench, rows(1200))
    told = run(bench, sweep(bench), guarantee="fnr<=0.3@0.9")
    (said,) = {row["measured_on"] for row in told["chosen"]["figures"]["hold_out"]}
    assert said.startswith("hold-out: picked here, the last of ")
