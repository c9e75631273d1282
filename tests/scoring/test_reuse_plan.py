"""Which images are taken from which run: against a naive plan, image by image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.config import ScoreConfig
from pipeline.errors import InputError
from pipeline.scoring.reuse.earlier import KEPT, EarlierRun, Terms
from pipeline.scoring.reuse.images import Images, read_ids, read_images
from pipeline.scoring.reuse.plan import BITS, MODELS, NOBODY, Offers, Task, compute_all, take_from
from pipeline.scoring.reuse.settle import settle
from pipeline.scoring.reuse.skip import gives_all, skip_images
from pipeline.tables import storage
from pipeline.tables.lookup import DamagedTableError, TableFile
from pipeline.tables.manifest import ID_END, write_manifest
from pipeline.tables.publication import PublishedFile, published_record
from pipeline.tables.runs import RunPlaces
from pipeline.tables.schemas import ERRORS, FEATURES, MANIFEST, SCORES

CATEGORIES = ("bolt", "tile", None)
LIMITS = {"max_pixels": 100, "max_bytes": 1000, "min_side": 16}
IDS = st.integers(0, 30)


@dataclass(frozen=True)
class Row:
    """An image of an earlier run."""

    category: str | None
    cells: bool
    kept: bool


@dataclass(frozen=True)
class Run:
    """An earlier run, as a test draws it."""

    terms: Terms
    rows: dict[int, Row]


COMPONENTS = st.fixed_dictionaries(
    {
        "features": st.sampled_from(["f1", "f2"]),
        "gaussians": st.fixed_dictionaries(
            {"bolt": st.sampled_from(["b1", "b2"])},
            optional={"tile": st.sampled_from(["t1", "t2"])},
        ),
        "classifier": st.sampled_from(["c1", "c2"]),
        "detector": st.sampled_from(["d1", "d2"]),
    }
)
TERMS = st.builds(
    Terms,
    scorer_digest=st.just("s"),
    models=st.sets(st.sampled_from(MODELS), min_size=1).map(
        lambda names: tuple(name for name in MODELS if name in names)
    ),
    components=COMPONENTS,
    limits=st.sampled_from([LIMITS, LIMITS | {"min_side": 8}]),
    verified=st.booleans(),
    kept=st.sampled_from(KEPT),
)
RUNS = st.lists(
    st.builds(
        Run,
        TERMS,
        st.dictionaries(
            IDS, st.builds(Row, st.sampled_from(CATEGORIES), st.booleans(), st.booleans())
        ),
    ),
    max_size=4,
)
WANTED = st.dictionaries(IDS, st.tuples(st.sampled_from(CATEGORIES), st.booleans()), min_size=1)


def published(folder: Path, run: Run, number: int) -> EarlierRun:
    """Its tables, as far as planning reads them."""
    kept = run.terms.kept != "none" and "features" in run.terms.models
    tables = {
        "scores": pa.Table.from_pylist(
            [
                {
                    "image_id": i,
                    "uri": "u",
                    "category": row.category,
                    "anomaly_cells": 1.0 if row.cells else None,
                    "anomaly_pooled": 1.0,
                }
                for i, row in sorted(run.rows.items())
            ],
            schema=SCORES,
        ),
        "features": pa.Table.from_pylist(
            [{"image_id": i} for i, row in sorted(run.rows.items()) if row.kept and kept],
            schema=FEATURES,
        ),
        "errors": ERRORS.empty_table(),
    }
    files = {}
    for name, table in tables.items():
        content = storage.parquet_bytes(table)
        uri = str(folder / f"{number}-{name}.parquet")
        storage.write_bytes(uri, content)
        digest = hashlib.sha256(content).hexdigest()
        files[name] = (TableFile(f"r{number}", uri, digest),) if table.num_rows else ()
    return EarlierRun(f"r{number}", "", run.terms, (), files)


def images(wanted: dict[int, tuple[str | None, bool]]) -> Images:
    ids = sorted(wanted)
    return Images(
        np.array(ids, np.int64),
        np.arange(len(ids), dtype=np.int32),
        np.array([CATEGORIES.index(wanted[i][0]) for i in ids], np.int32),
        CATEGORIES,
        np.array([wanted[i][1] for i in ids], bool),
    )


def refuse(error: DamagedTableError) -> None:
    raise error


def two_without_a_gaussian() -> tuple[list[Run], Terms]:
    """An earlier run and a later one: all that both have is another, and `tile` neither has."""
    components = {"features": "f", "gaussians": {"bolt": "b1"}, "classifier": "c", "detector": "d1"}
    later = Terms("s", ("detector", "features"), components, LIMITS, False, "none")
    other = components | {"gaussians": {"bolt": "b2"}, "detector": "d2"}
    return [Run(replace(later, components=other), {0: Row("tile", False, False)})], later


@given(RUNS, TERMS, WANTED, st.sampled_from(["cells", "pooled"]))
@example(*two_without_a_gaussian(), {0: ("tile", True)}, "cells")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
def test_nothing_is_taken_that_would_come_out_otherwise_and_nothing_computed_that_is_there(
    tmp_path: Path,
    runs: list[Run],
    terms: Terms,
    wanted: dict[int, tuple[str | None, bool]],
    anomaly_score: str,
) -> None:
    earlier = [published(tmp_path, run, number) for number, run in enumerate(runs)]
    fit = tuple(run for run in earlier if run.terms.serves(terms))
    task = Task(terms, anomaly_score)
    plan = take_from(compute_all(images(wanted), task), task, Offers(fit, refuse))
    for place, (image, (category, known)) in enumerate(sorted(wanted.items())):
        carry, features = int(plan.carry[place]), int(plan.features[place])
        computed = {name for name in MODELS if plan.compute[place] & BITS[name]}
        assert computed <= set(terms.models)
        from_run = source(runs, plan.runs[carry].run_id) if carry != NOBODY else None
        kept_in = source(runs, plan.runs[features].run_id) if features != NOBODY else None
        context = (image, category, computed, from_run, kept_in)
        for model in set(terms.models) - computed:
            if model == "features" and kept_in is not None:
                assert holds_features(kept_in, image, terms, anomaly_score), context
            else:
                assert from_run is not None, context
                assert gives(from_run, image, category, model, terms, anomaly_score), context
        serving = [run for run in runs if run.terms.serves(terms)] if known else []
        if not any(
            gives(run, image, category, model, terms, anomaly_score)
            for run in serving
            for model in terms.models
        ) and not any(holds_features(run, image, terms, anomaly_score) for run in serving):
            assert computed == set(terms.models), context
        if len(serving) == 1:
            there = {
                model
                for model in terms.models
                if gives(serving[0], image, category, model, terms, anomaly_score)
            }
            keeps = holds_features(serving[0], image, terms, "pooled")
            if not keeps and terms.kept != "none":
                there -= {"features"}
            elif holds_features(serving[0], image, terms, anomaly_score):
                there |= {"features"}
            assert computed == set(terms.models) - there, context


def source(runs: list[Run], run_id: str) -> Run:
    return runs[int(run_id[1:])]


def gives(
    run: Run, image: int, category: str | None, model: str, terms: Terms, anomaly_score: str
) -> bool:
    """Whether a run's row of an image has the columns that a model would give now."""
    if image not in run.rows or model not in run.terms.models:
        return False
    mine, theirs = terms.components, run.terms.components
    if model != "features":
        return mine[model] == theirs[model]
    row = run.rows[image]
    there = anomaly_score == "pooled" or row.cells or category not in mine["gaussians"]
    same = mine["gaussians"].get(category) == theirs["gaussians"].get(category)
    return mine["features"] == theirs["features"] and same and there and row.category == category


def holds_features(run: Run, image: int, terms: Terms, anomaly_score: str) -> bool:
    """Whether a run keeps the features of an image that its distances start from."""
    there = image in run.rows and run.rows[image].kept and "features" in run.terms.models
    least = max(KEPT.index(terms.kept), KEPT.index(anomaly_score))
    enough = KEPT.index(run.terms.kept) >= least
    return there and enough and run.terms.components["features"] == terms.components["features"]


@pytest.mark.parametrize(
    ("earlier", "later", "serves"),
    [
        ({}, {}, True),
        ({"limits": LIMITS | {"min_side": 8}}, {}, False),
        ({"limits": LIMITS | {"min_side": 32}}, {}, True),
        ({"limits": LIMITS | {"max_pixels": 101}}, {}, False),
        ({"limits": LIMITS | {"max_bytes": 1001}}, {}, False),
        ({"verified": False}, {}, False),
        ({"verified": False}, {"verified": False}, True),
    ],
)
def test_a_run_serves_one_whose_conditions_its_images_met(
    earlier: dict[str, Any], later: dict[str, Any], serves: bool
) -> None:
    assert terms_of(**earlier).serves(terms_of(**later)) is serves


def terms_of(**changes: Any) -> Terms:
    values: dict[str, Any] = {
        "scorer_digest": "s",
        "models": MODELS,
        "components": {},
        "limits": LIMITS,
        "verified": True,
        "kept": "none",
    }
    return Terms(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "gives"),
    [
        ({}, True),
        ({"scorer_digest": "t"}, False),
        ({"models": ("detector", "features")}, False),
        ({"verified": False}, False),
        ({"limits": LIMITS | {"min_side": 8}}, False),
        ({"limits": LIMITS | {"max_pixels": 101}}, False),
        ({"limits": LIMITS | {"max_bytes": 1001}}, False),
        ({"limits": {"max_pixels": 99, "max_bytes": 999, "min_side": 17}}, True),
        ({"kept": "none"}, False),
        ({"kept": "cells"}, True),
    ],
)
def test_only_a_run_that_gives_all_that_this_one_would_is_skipped_by(
    changes: dict[str, Any], gives: bool
) -> None:
    later = terms_of(kept="pooled")
    earlier = terms_of(**({"kept": "pooled"} | changes))
    assert gives_all(EarlierRun("r", "", earlier, (), {}), later) is gives


def scored_under(store: str, run_id: str, skipped_by: tuple[str, ...] = (), **changes: Any) -> None:
    """Publishes a run of one image, whose id is the run's length, under some terms."""
    row = {"image_id": len(run_id), "uri": "u", "category": "bolt"}
    content = storage.parquet_bytes(pa.Table.from_pylist([row], schema=SCORES))
    uri = storage.join(RunPlaces(store, run_id).table("scores"), "0.parquet")
    storage.write_bytes(uri, content)
    file = PublishedFile("scores", uri, 1, len(content), hashlib.sha256(content).hexdigest())
    terms = terms_of(**changes)
    facts = {
        "schema_version": "1",
        "run_id": run_id,
        "kind": "score",
        "finished_at": "2026-01-02T00:00:00+00:00",
        "scorer_digest": terms.scorer_digest,
        "skipped_by": list(skipped_by),
    }
    record = published_record(store, [file], facts | terms.as_facts())
    storage.write_json(RunPlaces(store, run_id).published, record)


COMPONENTS_OF_ONE = {"features": "f", "gaussians": {}, "classifier": "c", "detector": "d"}


@pytest.mark.parametrize(
    ("earlier", "later", "says"),
    [
        (
            {"limits": LIMITS | {"min_side": 8}},
            {},
            r"looser limits, limits\.min_side=8 \(now 16\): it has images that are refused now",
        ),
        ({"kept": "pooled"}, {"kept": "cells"}, "ran with keep_features=pooled, .* keep cells"),
    ],
)
def test_images_are_left_to_no_run_of_looser_limits_or_fewer_features(
    tmp_path: Path, earlier: dict[str, Any], later: dict[str, Any], says: str
) -> None:
    """Of two runs one would give the same now; the other is leaned on by the former."""
    store, manifest = str(tmp_path), str(tmp_path / "m.parquet")
    both = {"components": COMPONENTS_OF_ONE}
    scored_under(store, "r", **both | earlier)
    scored_under(store, "rr", ("r",), **both | later)
    rows = [{"image_id": i, "uri": f"{i}", "sha256": "x", "category": "bolt"} for i in (1, 2)]
    write_manifest(manifest, pa.Table.from_pylist(rows, schema=MANIFEST))
    task = Task(terms_of(**both | later), "cells")
    given = {"manifest": manifest, "bundle": "b", "store": store, "reuse": False}
    found = settle(ScoreConfig.model_validate(given | {"skip_scored": True}), task, None)
    assert found.plan.skipped.tolist() == [False, True]
    assert found.skipped_by == ("rr",)
    for since in ("r", "rr"):
        with pytest.raises(InputError, match=rf"since_run: r: .*{says}"):
            settle(ScoreConfig.model_validate(given | {"since_run": since}), task, None)
    task = Task(terms_of(**both | earlier), "cells")  # under the looser ones both serve
    found = settle(ScoreConfig.model_validate(given | {"since_run": "rr"}), task, None)
    assert found.plan.skipped.tolist() == [True, True]


def test_final_errors_are_skipped_and_those_that_may_pass_are_not(tmp_path: Path) -> None:
    kinds = ["decode_error", "not_found", "content_changed", "read_error", "decode_error"]
    kinds += ["worker_crash", "out_of_memory"]
    rows = [
        {"image_id": i, "uri": "u", "error_type": kind, "error_message": "m"}
        for i, kind in enumerate(kinds)
    ]
    content = storage.parquet_bytes(pa.Table.from_pylist(rows, schema=ERRORS))
    storage.write_bytes(str(tmp_path / "e.parquet"), content)
    file = TableFile("r", str(tmp_path / "e.parquet"), hashlib.sha256(content).hexdigest())
    wanted = {i: ("bolt", i != 4) for i in range(8)}
    for limits, skipped in ((LIMITS, [0]), (LIMITS | {"min_side": 1}, [])):
        run = EarlierRun("r", "", terms_of(limits=limits), (), {"scores": (), "errors": (file,)})
        task = Task(terms_of(), "cells")
        plan, used = skip_images(compute_all(images(wanted), task), task, [run])
        assert np.flatnonzero(plan.skipped).tolist() == skipped
        assert used == (("r",) if skipped else ())


def test_an_image_that_was_moved_to_another_category_is_not_left_to_the_run(
    tmp_path: Path,
) -> None:
    found = ["bolt", "tile", None, "bolt"]
    rows = [{"image_id": i, "uri": "u", "category": name} for i, name in enumerate(found)]
    content = storage.parquet_bytes(pa.Table.from_pylist(rows, schema=SCORES))
    storage.write_bytes(str(tmp_path / "s.parquet"), content)
    file = TableFile("r", str(tmp_path / "s.parquet"), hashlib.sha256(content).hexdigest())
    run = EarlierRun("r", "", terms_of(), (), {"scores": (file,), "errors": ()})
    wanted = {0: ("bolt", True), 1: ("bolt", True), 2: ("bolt", True), 3: (None, True)}
    task = Task(terms_of(), "cells")
    plan, used = skip_images(compute_all(images(wanted), task), task, [run])
    assert np.flatnonzero(plan.skipped).tolist() == [0]
    assert used == ("r",)


def test_a_run_of_another_arithmetic_is_not_skipped_by() -> None:
    earlier = terms_of()
    other = replace(earlier, components=dict(earlier.components) | {"arithmetic": 1})
    assert gives_all(EarlierRun("r", "", other, (), {}), earlier) is False


# The ends of the id space, and of the parts in which it is sorted.
manifest_ids = st.one_of(
    st.integers(0, ID_END - 1),
    st.sampled_from([0, 1, 2**59 - 1, 2**59, 2**62, 15 * 2**59, ID_END - 1]),
)


@settings(deadline=None)
@given(st.lists(manifest_ids, max_size=300, unique=True), st.integers(1, 40), st.integers(1, 300))
def test_images_of_any_manifest_are_in_the_order_of_their_ids(
    tmp_path_factory: pytest.TempPathFactory, ids: list[int], group: int, names: int
) -> None:
    rows = [
        {"image_id": i, "uri": "a", "sha256": "x" if i % 3 else None, "category": f"c{i % names}"}
        for i in ids
    ]
    uri = str(tmp_path_factory.getbasetemp() / "any.parquet")
    pq.write_table(pa.Table.from_pylist(rows, schema=MANIFEST), uri, row_group_size=group)
    found = read_images(uri)
    order = np.argsort(np.array(ids, np.int64))
    assert found.ids.tolist() == sorted(ids)
    assert found.places.tolist() == order.tolist()
    assert [found.categories[code] for code in found.category] == [
        rows[row]["category"] for row in order
    ]
    assert found.known.tolist() == [rows[row]["sha256"] is not None for row in order]
    assert read_ids(uri).ids.tolist() == sorted(ids)


def test_a_manifests_images_are_read_in_the_order_of_their_ids(tmp_path: Path) -> None:
    rows = [
        {"image_id": 9, "uri": "a", "sha256": "x", "category": "tile"},
        {"image_id": 4, "uri": "b", "sha256": None, "category": None},
        {"image_id": 7, "uri": "c", "sha256": "y", "category": "bolt"},
    ]
    write_manifest(str(tmp_path / "m.parquet"), pa.Table.from_pylist(rows, schema=MANIFEST))
    found = read_images(str(tmp_path / "m.parquet"))
    assert found.ids.tolist() == [4, 7, 9]
    assert found.places.tolist() == [1, 2, 0]
    assert [found.categories[code] for code in found.category] == [None, "bolt", "tile"]
    assert found.known.tolist() == [False, True, True]
