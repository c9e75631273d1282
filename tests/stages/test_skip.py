"""Nights that score only what is new: together their tables are those of one whole run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import score
from pipeline.config import IndexConfig
from pipeline.errors import InputError, RunError
from pipeline.stages import score as score_stage
from pipeline.stages import scoring_run
from pipeline.stages.index import run_index
from pipeline.stages.score import run_score
from pipeline.tables.manifest import write_manifest
from pipeline.tables.run_catalogue import read_catalogue
from pipeline.tables.run_deletion import delete, plan_deletion
from pipeline.tables.run_needs import store_needs
from pipeline.tables.runs import load_table
from tests.conftest import TinyStore, save
from tests.stages.test_reuse import variant

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ONLY = {"detector": False, "features": False}
IMAGES, BROKEN = 24, 2


@pytest.fixture(scope="module")
def nights(tiny_store: TinyStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive, manifests of its first 12 and 20 images and of all, a store.

    The first night is scored: 12 images, one of them broken and one of them gone.
    """
    folder = tmp_path_factory.mktemp("nights")
    rng = np.random.default_rng(2)
    for number in range(IMAGES - 1):
        save(folder / f"a/{number:02d}.png", rng.integers(0, 255, (64, 64, 3), np.uint8))
    (folder / "a/99.png").write_bytes(b"no image")
    whole = run_index(
        IndexConfig(source=str(folder / "a"), store=str(folder), name="all", category="tile")
    )["manifest"]
    table = pq.read_table(whole)
    broken = [uri.endswith("99.png") for uri in table["uri"].to_pylist()].index(True)
    rest = [row for row in range(IMAGES) if row != broken]
    for name, count in (("m12", 12), ("m20", 20), ("m24", 24)):
        chosen = table.take(pa.array(sorted([broken, *rest[: count - 1]])))
        write_manifest(str(folder / f"{name}.parquet"), chosen)
    gone = Path(table["uri"][rest[0]].as_py())
    gone.rename(folder / "aside.png")
    report = run(tiny_store, folder, "m12", run_id="night1")
    assert report["images"]["errors"] == 2
    (folder / "aside.png").rename(gone)
    run(tiny_store, folder, "m24", run_id="whole", store=folder / "calm", reuse=False)
    return folder


@pytest.fixture
def folder(nights: Path, tmp_path: Path) -> Path:
    """A copy of what the first night left; the images stay where they are."""
    shutil.copytree(nights, tmp_path / "n")
    return tmp_path / "n"


def run(tiny: TinyStore, folder: Path, manifest: str, **settings: Any) -> dict[str, Any]:
    settings = {"store": folder / "store", "models": ONLY} | settings
    store = settings.pop("store")
    place = str(folder / f"{manifest}.parquet")
    return run_score(tiny.score_config(store, manifest=place, **settings))


def rows(store: Path, runs: list[str], table: str) -> pa.Table:
    """Rows of several runs, as one table would have them."""
    found = pa.concat_tables(load_table(str(store), run_id, table) for run_id in runs)
    names = [name for name in found.schema.names if not name.endswith("origin")]
    return found.select(names).sort_by("image_id")


@pytest.mark.parametrize("how", ["skip_scored", pytest.param("since_run", marks=pytest.mark.slow)])
def test_three_nights_make_the_tables_of_one_whole_run(
    tiny_store: TinyStore, folder: Path, how: str
) -> None:
    store = folder / "store"
    before = {"night2": "night1", "night3": "night2", "night4": "night3"}
    images = {}
    for night, manifest in (("night2", "m20"), ("night3", "m24"), ("night4", "m24")):
        setting = {"skip_scored": True} if how == "skip_scored" else {"since_run": before[night]}
        report = run(tiny_store, folder, manifest, run_id=night, **setting)
        images[night] = report["images"]
    # The broken image is not tried again, the one that was gone is.
    assert [images[n]["skipped"] for n in before] == [11, 20, 24]
    assert [images[n]["decoded"] for n in before] == [9, 4, 0]
    assert [images[n]["errors"] for n in before] == [0, 0, 0]
    runs = ["night1", "night2", "night3", "night4"]
    assert rows(store, runs, "scores").equals(rows(folder / "calm", ["whole"], "scores"))
    errors = rows(store, runs, "errors")["error_type"].to_pylist()
    assert sorted(errors) == ["not_an_image", "not_found"]
    record = json.loads((store / "published/night3.json").read_text())
    assert sorted(record["needs"]) == ["night1", "night2"]
    assert json.loads((store / "published/night4.json").read_text())["tables"] == {}


def test_nothing_new_is_said_plainly_and_starts_no_cluster(
    tiny_store: TinyStore, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = folder / "store"
    run(tiny_store, folder, "m24", run_id="night2", skip_scored=True)
    arguments = [f"manifest={folder / 'm24.parquet'}", f"bundle={tiny_store.bundle}"]
    arguments += [f"store={store}", "run_id=night3", "models.detector=false"]
    # An address that nobody answers: Ray isn't asked.
    arguments += ["models.features=false", "--skip-scored"]
    assert score.main(arguments) == 0
    assert "24 skipped: nothing is new" in capsys.readouterr().out
    assert load_table(str(store), "night3", "scores").num_rows == 0


def test_the_set_of_runs_is_settled_when_a_run_starts(
    tiny_store: TinyStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends before it is published, another one in between, then it continues."""
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.stages.score.publish", refuse)
        with pytest.raises(RuntimeError):
            run(tiny_store, folder, "m24", run_id="night2", skip_scored=True)
    run(tiny_store, folder, "m24", run_id="between", reuse=False)
    report = run(tiny_store, folder, "m24", run_id="night2", skip_scored=True)
    assert report["images"]["skipped"] == 11
    assert report["images"]["scored"] == 13
    with pytest.raises(InputError, match=r"skip_scored was True, is now None"):
        run(tiny_store, folder, "m24", run_id="night2")


@pytest.mark.parametrize("how", ["deleted", pytest.param("damaged", marks=pytest.mark.slow)])
def test_a_run_that_continues_says_which_run_it_lost(
    tiny_store: TinyStore, folder: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.stages.score.publish", refuse)
        with pytest.raises(RuntimeError):
            run(tiny_store, folder, "m24", run_id="night2", skip_scored=True)
    if how == "deleted":
        (folder / "store/published/night1.json").unlink()
    else:
        next((folder / "store/tables/scores/run=night1").iterdir()).write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"run night1: .*(is gone|sha256|Parquet)"):
        run(tiny_store, folder, "m24", run_id="night2", skip_scored=True)


def refuse(*_: object) -> None:
    raise RuntimeError


def test_a_damaged_run_is_not_left_anything(tiny_store: TinyStore, folder: Path) -> None:
    file = next((folder / "store/tables/scores/run=night1").iterdir())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    report = run(tiny_store, folder, "m24", run_id="night2", skip_scored=True)
    assert (report["images"]["skipped"], report["images"]["decoded"]) == (0, 24)


def test_since_run_refuses_what_does_not_stand_for_this_run(
    tiny_store: TinyStore, folder: Path
) -> None:
    other = variant(tiny_store, folder / "store", ("classifier",))
    mine = json.loads((Path(other) / "bundle.json").read_text())["scorer_digest"]
    theirs = json.loads((Path(tiny_store.bundle) / "bundle.json").read_text())["scorer_digest"]
    with pytest.raises(InputError) as error:
        run(tiny_store, folder, "m24", bundle=other, since_run="night1")
    assert mine[:16] in str(error.value)
    assert theirs[:16] in str(error.value)
    with pytest.raises(InputError, match="ran without features"):
        run(tiny_store, folder, "m24", models={"detector": False}, since_run="night1")
    with pytest.raises(InputError, match="run nowhere: isn't in the store"):
        run(tiny_store, folder, "m24", since_run="nowhere")
    assert sorted(p.name for p in (folder / "store/runs").iterdir()) == ["night1"]


def test_an_image_whose_content_nobody_knows_is_never_left_to_a_run(
    tiny_store: TinyStore, folder: Path
) -> None:
    table = pq.read_table(str(folder / "m12.parquet"))
    place = table.schema.get_field_index("sha256")
    table = table.set_column(place, "sha256", pa.nulls(len(table), pa.string()))
    write_manifest(str(folder / "unread.parquet"), table)
    report = run(tiny_store, folder, "unread", run_id="night2", skip_scored=True)
    assert (report["images"]["skipped"], report["images"]["decoded"]) == (0, 12)


def test_a_run_that_is_deleted_while_another_waits_to_begin_is_not_leaned_on(
    tiny_store: TinyStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the record of a run keeps others from deleting what it needs."""
    store = folder / "store"

    def pools_of(*given: Any) -> Any:
        catalogue = read_catalogue(str(store))
        delete(plan_deletion(catalogue, store_needs(catalogue), ["night1"]), lambda _: None)
        return scoring_run.pools_of(*given)

    monkeypatch.setattr(score_stage, "pools_of", pools_of)
    says = "^run night2: takes from run night1, which was deleted while this one waited to begin"
    with pytest.raises(RunError, match=says):
        run(tiny_store, folder, "m20", run_id="night2", skip_scored=True)
    assert not (store / "published/night2.json").exists()
    monkeypatch.undo()
    images = run(tiny_store, folder, "m20", run_id="night2", skip_scored=True)["images"]
    assert (images["skipped"], images["scored"] + images["errors"]) == (0, 20)
