"""An archive that is gone in the night: the run stops, and the same command finishes it later."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import IndexConfig
from pipeline.errors import RunError
from pipeline.scoring.outage import OutageGuard
from pipeline.stages.index import run_index
from pipeline.stages.score import run_score
from pipeline.tables.runs import load_table
from tests.conftest import TinyStore, write_archive

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
