"""Near-duplicates of real tiles: found by content, and no group straddles a role."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.config import IndexConfig, SplitConfig
from pipeline.stages.index import run_index
from pipeline.stages.split import run_split

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

# Frames of one tile under several exposures, as the eye tells; frames of other tiles though
# their numbers follow one another; and other tiles though one lamp lights both.
ONE_TILE = [
    ("exp1_num_308015", "exp4_num_308078"), ("exp5_num_937", "exp3_num_853"),
    ("exp1_num_126299", "exp6_num_126419"), ("exp1_num_195647", "exp6_num_195761"),
    ("exp2_num_186858", "exp3_num_186885"), ("exp4_num_249762", "exp3_num_249637"),
    ("exp1_num_20362", "exp2_num_20390"), ("exp4_num_98305", "exp6_num_98402"),
    ("exp1_num_155300", "exp6_num_155478"), ("exp1_num_10181", "exp6_num_10280"),
]  # fmt: skip
OTHER_TILES = [
    ("exp4_num_933", "exp5_num_937"), ("exp5_num_117030", "exp5_num_117033"),
    ("exp2_num_304307", "exp1_num_304290"), ("exp4_num_319357", "exp4_num_319469"),
    ("exp3_num_338885", "exp4_num_355680"), ("exp4_num_6552", "exp6_num_351520"),
    ("exp3_num_354417", "exp5_num_355692"), ("exp1_num_6984", "exp3_num_354417"),
]  # fmt: skip


@pytest.fixture(scope="module")
def split(shared: Path, cluster: str, tmp_path_factory: pytest.TempPathFactory) -> dict:
    store = str(tmp_path_factory.mktemp("groups"))
    index = run_index(IndexConfig(source=str(shared / "real"), store=store, name="real"))
    return run_split(SplitConfig(manifest=index["manifest"], store=store, name="split", folds=5))


def test_tiles_are_told_by_what_is_on_them(split: dict) -> None:
    rows = pq.read_table(split["manifest"]).to_pylist()
    groups = {Path(row["uri"]).stem: row["group_id"] for row in rows}
    assert [pair for pair in ONE_TILE if groups[pair[0]] != groups[pair[1]]] == []
    assert [pair for pair in OTHER_TILES if groups[pair[0]] == groups[pair[1]]] == []


def test_no_component_swallows_a_category(split: dict) -> None:
    facts = {entry["category"]: entry for entry in split["groups"]}
    assert {name: entry["largest"] for name, entry in facts.items()} == {
        "grid": 1,
        "hazelnut": 1,
        "magnetic_tile": 7,
    }
    assert facts["magnetic_tile"]["groups"] == 167
    assert facts["magnetic_tile"]["max_distance_from"] == "images"


def test_good_test_tiles_have_twins_in_train_and_none_across_roles_afterwards(split: dict) -> None:
    leaks = {entry["category"]: entry for entry in split["leaks"]}
    assert leaks["magnetic_tile"]["with_twin_in_train"] == 18
    assert leaks["magnetic_tile"]["good_test_images"] == 45
    for column in ("role", "fold"):
        values: dict[int, set] = {}
        for row in pq.read_table(split["manifest"]).to_pylist():
            values.setdefault(row["group_id"], set()).add(row[column])
        assert {len(found) for found in values.values()} == {1}


def test_shares_of_real_strata_are_met(split: dict) -> None:
    good = {entry["category"]: entry for entry in split["counts"] if entry["defect_type"] == "good"}
    for entry in good.values():
        for role, share in SplitConfig.model_fields["good"].default.model_dump().items():
            assert abs(entry[role] - share * entry["images"]) <= 2
