"""Columns of several earlier runs beside rows of a manifest: each image its own, in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.scoring.reuse.earlier import EarlierRun, Terms
from pipeline.scoring.reuse.join import Given, with_given
from pipeline.scoring.reuse.plan import MODELS, NOBODY
from pipeline.tables.ledger import commit_tables, read_commits
from pipeline.tables.lookup import DamagedTableError, table_files
from pipeline.tables.publication import FileLimits, build_file, plan_files, published_record
from pipeline.tables.schemas import IMAGE_FACTS
from tests.tables.rows import Image, detections, images, scores

IMAGES = images(40)
TERMS = Terms("s", MODELS, {}, {}, True, "none")


def publish(store: Path, run_id: str, found: list[Image], shift: float) -> EarlierRun:
    """A published run whose scores tell that they are its own."""
    folder = str(store / run_id)
    table = scores(found)
    for name in ("anomaly_score", "defect_probability"):
        values = pa.array(table[name].to_numpy() + shift, pa.float32())
        table = table.set_column(table.schema.get_field_index(name), name, values)
    logit = pa.array(np.arange(len(found)) + shift, pa.float32())
    table = table.set_column(table.schema.get_field_index("defect_logit"), "defect_logit", logit)
    commit_tables(folder, {"scores": table, "detections": detections(found)})
    files = []
    for name in ("scores", "detections"):
        plans = plan_files(
            list(read_commits(folder)), name, f"{folder}/{name}", FileLimits(7, 2**30), {}
        )
        files += [build_file(folder, plan, np.empty(0, np.int64)) for plan in plans]
    record = published_record(str(store), [f for f in files if f], {"run_id": run_id})
    tables = {name: table_files(str(store), record, name) for name in ("scores", "detections")}
    return EarlierRun(run_id, "", TERMS, (), tables)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, EarlierRun]:
    store = tmp_path_factory.mktemp("store")
    return {
        0: publish(store, "even", IMAGES[::2] + IMAGES[1:4:2], 0.25),
        3: publish(store, "odd", IMAGES[1::2], 0.5),
    }


def rows_of(found: list[Image]) -> pa.Table:
    return pa.table(
        {
            "image_id": pa.array([image.id for image in found], pa.int64()),
            "category": pa.array([image.category for image in found], pa.string()),
        }
    )


@given(st.permutations(range(40)), st.integers(0, 40), st.booleans(), st.data())
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=15,
)
def test_every_image_gets_the_row_of_its_own_run(
    runs: dict[int, EarlierRun], order: list[int], count: int, facts: bool, data: st.DataObject
) -> None:
    order = order[:count]
    found = [IMAGES[number] for number in order]
    # Odd images 1 and 3 stand in both runs.
    both = [n for n in order if n in (1, 3)]
    chosen = {n: data.draw(st.sampled_from([0, 3])) for n in both}
    carry = np.array([chosen.get(n, 3 if n % 2 else 0) for n in order], np.int16)
    rows = rows_of(found)
    nobody = np.full(len(found), NOBODY, np.int16)
    result = with_given(rows, Given(runs, ("detector", "classifier"), facts, carry, nobody), None)
    assert result.select(rows.schema.names).equals(rows)
    assert set(IMAGE_FACTS) <= set(result.schema.names) or not facts
    boxes = result["boxes"].to_pylist()
    for place, (image, number) in enumerate(zip(found, carry.tolist(), strict=True)):
        shift = {0: 0.25, 3: 0.5}[number]
        expected = np.float32(image.id % 100 / 100 + shift)
        assert result["defect_probability"][place].as_py() == pytest.approx(expected, abs=1e-6)
        assert result["origin"][place].as_py() == runs[number].run_id
        assert len(boxes[place]) == image.boxes
        assert [box["x_min"] for box in boxes[place]] == [1.5 * b for b in range(image.boxes)]
        if facts:
            assert result["width"][place].as_py() == 640


def test_an_image_that_a_run_lost_is_damage(runs: dict[int, EarlierRun]) -> None:
    rows = rows_of([IMAGES[0], IMAGES[5]])
    nobody = np.full(2, NOBODY, np.int16)
    given_ = Given(runs, ("classifier",), True, np.array([0, 0], np.int16), nobody)
    with pytest.raises(DamagedTableError) as error:
        with_given(rows, given_, None)
    assert str(IMAGES[5].id) in error.value.reason


def test_boxes_that_are_not_counted_are_damage(runs: dict[int, EarlierRun], tmp_path: Path) -> None:
    """The boxes of one run beside the scores of another, as a mixed-up store would have them."""
    poor = publish(tmp_path, "poor", [image for image in IMAGES if image.boxes < 2], 0)
    mixed = EarlierRun(
        "even",
        "",
        TERMS,
        (),
        {"scores": runs[0].tables["scores"], "detections": poor.tables["detections"]},
    )
    rows = rows_of(IMAGES[::2])
    carry = np.zeros(len(rows), np.int16)
    nobody = np.full(len(rows), NOBODY, np.int16)
    with pytest.raises(DamagedTableError, match="counts other boxes"):
        with_given(rows, Given({0: mixed}, ("detector",), True, carry, nobody), None)
