"""An archive that is gone in the night: the run stops, and the same command finishes it later."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config import IndexConfig, LimitsConfig
from pipeline.errors import RunError
from pipeline.scoring.outage import OutageGuard
from pipeline.scoring.prepare import options_for
from pipeline.stages.decode import MANIFEST_COLUMNS, prepare_block
from pipeline.stages.fit_worker import commit_features
from pipeline.stages.index import run_index
from pipeline.stages.score import run_score
from pipeline.stages.sink import commit_block
from pipeline.tables.ledger import read_commits
from pipeline.tables.runs import load_table
from pipeline.tables.schemas import MANIFEST
from tests.conftest import TINY_SIDE, TinyStore, save, write_archive

ONE_MODEL = {"detector": False, "features": False}


def test_a_few_lost_files_are_no_outage_and_a_share_of_many_is() -> None:
    small = OutageGuard(images=12, share=0.1)
    small.add(10)
    with pytest.raises(RunError, match=r"11 images .*missing.*0.1 of 12"):
        small.add(1)
    large = OutageGuard(images=1000, share=0.1)
    for _ in range(10):
        large.add(10)
    with pytest.raises(RunError, match=r"max_unreachable: the files of 101 images"):
        large.add(1)
    everything = OutageGuard(images=1000, share=1.0)
    everything.add(1000)


def test_files_that_could_not_be_indexed_are_no_outage_and_no_part_of_the_whole() -> None:
    guard = OutageGuard(images=200, share=0.1)
    guard.add(0, unread=80)
    guard.add(12)
    with pytest.raises(RunError, match=r"the files of 13 images .*more than 0\.1 of 120:"):
        guard.add(1)
    late = OutageGuard(images=200, share=0.1)
    late.add(13)
    with pytest.raises(RunError, match=r"the files of 13 images .*more than 0\.1 of 120:"):
        late.add(0, unread=80)


@pytest.mark.parametrize(
    "commit", [partial(commit_block, anomaly_score="cells", keep="none"), commit_features]
)
def test_a_commit_tells_lost_files_apart_by_what_the_index_knew(
    tmp_path: Path, commit: Callable[..., pa.Table]
) -> None:
    there = write_archive(tmp_path / "archive", good=1, test=1) / "bolt/train/good/000.png"
    denied = "permission_denied: access denied"
    files = [(there, None), (there, denied), ("a", None), ("b", denied), ("c", denied)]
    rows = pa.Table.from_pylist(
        [
            {"image_id": number, "uri": f"{tmp_path / file}", "index_error": error}
            for number, (file, error) in enumerate(files)
        ],
        schema=MANIFEST,
    ).select(MANIFEST_COLUMNS)
    block = prepare_block(rows, options_for(LimitsConfig()))
    told = commit(block, run_folder=str(tmp_path / "run")).to_pylist()[0]
    wanted = {"scored": 2, "failed": 3, "unreachable": 1, "unread": 3}
    assert wanted.items() <= told.items()
    written = next(read_commits(str(tmp_path / "run")))
    assert list(written.unreachable) == [2, 3, 4]  # a run that continues tries all of them


@pytest.mark.ray
@pytest.mark.timeout(200)
def test_files_that_are_denied_for_good_stop_no_night_and_hide_no_outage(
    tiny_store: TinyStore, tmp_path: Path
) -> None:
    archive = write_archive(tmp_path / "archive", good=6, test=3)
    for number in range(11):  # one more than a handful
        locked = archive / f"bolt/train/good/locked{number}.png"
        locked.write_bytes(b"%d" % number)
        locked.chmod(0)
    settings = {"source": str(archive), "store": str(tmp_path / "s"), "name": "m"}
    index = run_index(IndexConfig.model_validate(settings | {"max_unreachable": 1}))
    night = {"manifest": index["manifest"], "models": ONE_MODEL}
    first = run_score(tiny_store.score_config(tmp_path / "s", run_id="one", **night))
    assert {"manifest": 35, "scored": 24, "errors": 11}.items() <= first["images"].items()

    for number in range(12):
        new = np.full((TINY_SIDE, TINY_SIDE, 3), number, np.uint8)
        save(archive / f"bolt/train/good/new{number}.png", new)
    run_index(IndexConfig.model_validate(settings | {"since": "m"}))
    night |= {"run_id": "two", "skip_scored": True}
    config = tiny_store.score_config(tmp_path / "s", **night)
    away = archive.rename(tmp_path / "away")
    with pytest.raises(RunError, match=r"max_unreachable: the files of 1[12] images .*an outage"):
        run_score(config)
    away.rename(archive)
    second = run_score(config)
    assert {"manifest": 47, "scored": 12, "errors": 11}.items() <= second["images"].items()


@pytest.mark.ray
@pytest.mark.timeout(200)
def test_an_outage_stops_the_run_and_the_same_command_finishes_it(
    tiny_store: TinyStore, tmp_path: Path
) -> None:
    archive = write_archive(tmp_path / "archive", good=6, test=3)
    index = run_index(IndexConfig(source=str(archive), store=str(tmp_path / "s"), name="m"))
    assert index["images"] == 24
    config = tiny_store.score_config(
        tmp_path / "s", manifest=index["manifest"], run_id="night", models=ONE_MODEL
    )
    away = archive.rename(tmp_path / "away")
    with pytest.raises(RunError, match=r"max_unreachable: .*an outage.*same command"):
        run_score(config)
    assert not (tmp_path / "s/published").exists()
    assert not (tmp_path / "s/tables").exists()

    away.rename(archive)
    report = run_score(config)
    assert {"manifest": 24, "scored": 24, "errors": 0}.items() <= report["images"].items()
    assert report["resumed"] is True
    assert load_table(str(tmp_path / "s"), "night", "errors").num_rows == 0
    assert load_table(str(tmp_path / "s"), "night", "scores").num_rows == 24
