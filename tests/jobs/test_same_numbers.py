"""Same input, same numbers: whatever the pools, blocks and batches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.images.decode import decode
from pipeline.images.facts import image_facts
from pipeline.scoring.bundle import open_bundle
from pipeline.stages import reduce
from pipeline.stages.fit import run_fit
from pipeline.stages.score import run_score
from pipeline.tables.runs import load_table
from tests.conftest import TinyModels, TinyStore, tiny_fit_config

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

TABLES = ("scores", "detections")


# What the report says of the published tables.
FACTS = ("images", "rows", "errors_by_type", "categories", "distributions", "suspects")


@pytest.fixture(scope="module")
def one_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("one")


@pytest.fixture(scope="module")
def one_actor(tiny_store: TinyStore, one_store: Path) -> dict[str, pa.Table]:
    return tables(tiny_store, one_store, (1, 1, 1))


def facts(store: Path) -> dict[str, object]:
    report = json.loads((store / "runs/r/report.json").read_text())
    assert report["distributions"]
    return {name: report[name] for name in FACTS}


def tables(
    tiny: TinyStore, store: Path, sizes: tuple[int, int, int], **changes: object
) -> dict[str, pa.Table]:
    names = ("detector", "features", "classifier")
    pools = {name: {"size": size} for name, size in zip(names, sizes, strict=True)}
    changes |= {"fuse_models": False}
    run_score(tiny.score_config(store, run_id="r", pools=pools, **changes))
    return {name: load_table(str(store), "r", name) for name in TABLES}


@pytest.mark.parametrize(
    ("sizes", "block_rows"),
    [
        ((1, 3, 1), 5),
        pytest.param((2, 5, 1), 5, marks=pytest.mark.slow),
        pytest.param((2, 2, 2), 16, marks=pytest.mark.slow),
        pytest.param((5, 5, 5), 3, marks=pytest.mark.slow),
    ],
)
def test_tables_are_equal_for_any_number_of_actors(
    tiny_store: TinyStore,
    one_actor: dict[str, pa.Table],
    one_store: Path,
    tmp_path: Path,
    sizes: tuple[int, int, int],
    block_rows: int,
) -> None:
    found = tables(tiny_store, tmp_path, sizes, block_rows=block_rows, file_rows=15)
    for name in TABLES:
        assert found[name].equals(one_actor[name])
    assert facts(tmp_path) == facts(one_store)
    assert one_actor["scores"]["anomaly_cells"].null_count == 0
    assert len(one_actor["detections"]) > len(one_actor["scores"])


def test_actors_that_hold_all_models_give_the_same_tables_and_their_stages_times(
    tiny_store: TinyStore, one_actor: dict[str, pa.Table], one_store: Path, tmp_path: Path
) -> None:
    config = tiny_store.score_config(
        tmp_path, run_id="r", fuse_models=True, pools={"fused": {"size": 2}}, block_rows=5
    )
    report = run_score(config)
    assert list(report["pools"]) == ["fused"]
    for name in TABLES:
        assert load_table(str(tmp_path), "r", name).equals(one_actor[name])
    assert facts(tmp_path) == facts(one_store)
    alone = json.loads((one_store / "runs/r/report.json").read_text())["stages"]
    assert {(s["stage"], s["images"]) for s in report["stages"]} == {
        (s["stage"], s["images"]) for s in alone
    }


COLUMNS = {
    "detector": ["detection_count", "detection_max_confidence"],
    "features": ["anomaly_score", "anomaly_cells", "anomaly_pooled"],
    "classifier": ["defect_logit", "defect_probability"],
}


@pytest.mark.parametrize(
    "only",
    ["features", *(pytest.param(n, marks=pytest.mark.slow) for n in ("detector", "classifier"))],
)
def test_models_that_are_off_leave_null_columns_and_the_others_as_they_were(
    tiny_store: TinyStore, one_actor: dict[str, pa.Table], tmp_path: Path, only: str
) -> None:
    models = {name: name == only for name in COLUMNS}
    run_score(tiny_store.score_config(tmp_path, run_id="r", models=models))
    found = load_table(str(tmp_path), "r", "scores")
    for name, fields in COLUMNS.items():
        for field in fields:
            if name == only:
                assert found[field].equals(one_actor["scores"][field])
            else:
                assert found[field].null_count == len(found)


def test_every_image_has_its_bytes_and_the_facts_of_its_pixels(
    one_actor: dict[str, pa.Table],
) -> None:
    for row in one_actor["scores"].to_pylist():
        content = Path(row["uri"]).read_bytes()
        facts = image_facts(decode(content).pixels)
        assert row["bytes"] == len(content)
        for name in ("brightness", "contrast", "sharpness"):
            assert row[name] == np.float32(getattr(facts, name)), name


def test_moments_are_bit_equal_for_any_number_of_workers(
    tiny_store: TinyStore, tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Short lanes, so that the twelve images of a category make three of them.
    monkeypatch.setattr(reduce, "LANE_IMAGES", 5)
    bundles = []
    for size, block_rows in ((1, 8), (2, 3)):
        config = tiny_fit_config(
            tiny_store.manifest, tmp_path / f"{size}", tiny_models, block_rows=block_rows
        )
        config = config.model_copy(
            update={"features": config.features.model_copy(update={"size": size})}
        )
        bundles.append(open_bundle(run_fit(config)["bundle"], ""))
    assert len({bundle.scorer_digest for bundle in bundles}) == 1
    for score in ("cells", "pooled"):
        first = bundles[0].gaussian("tile", score)
        for bundle in bundles[1:]:
            assert np.array_equal(bundle.gaussian("tile", score).factor, first.factor)
