"""What a store refuses the driver of an index, a split or a training is an error in words."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jobs import index, split, train_classifier, train_detector
from pipeline.config import IndexConfig
from tests.conftest import TinyModels, save
from tests.detection import manifest, small_archive


def refused(
    job: Callable[[list[str]], int], settings: list[str], capsys: pytest.CaptureFixture[str]
) -> str:
    """The one line that a job says as it fails."""
    assert job(settings) == 1
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.endswith("; what is committed is safe, and the same command continues")
    return said


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver does, without tasks."""
    for stage in ("index", "split"):
        monkeypatch.setattr(f"pipeline.stages.{stage}.connected", lambda _: nullcontext())
    monkeypatch.setattr("pipeline.stages.index._hash_all", hash_here)


def hash_here(unread: pa.Table, config: IndexConfig) -> pa.Table:
    from pipeline.stages.index import _HASHES, _hash_block

    return _hash_block(unread, config.max_bytes).cast(_HASHES)


def in_the_way(folder: Path, place: str) -> None:
    """A folder where a file should be, which a disk refuses to read and to write, root's too."""
    (folder / "store" / place / "x").mkdir(parents=True)


@pytest.mark.usefixtures("no_cluster")
def test_an_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "archive/a.png", np.zeros((32, 32, 3), np.uint8))
    in_the_way(tmp_path, "manifests/line.parquet")
    settings = [f"source={tmp_path / 'archive'}", f"store={tmp_path / 'store'}", "name=line"]
    assert "error: index line: IsADirectoryError: " in refused(index.main, settings, capsys)


@pytest.mark.usefixtures("no_cluster")
def test_an_index_of_a_source_that_breaks_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr("pipeline.tables.layout._walk", broken)
    settings = [f"source={tmp_path}", f"store={tmp_path / 'store'}", "name=line"]
    said = refused(index.main, settings, capsys)
    assert "error: index line: OSError: [Errno 116] Stale file handle; " in said


@pytest.mark.usefixtures("no_cluster")
def test_a_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = manifest(tmp_path, small_archive(tmp_path / "archive"))
    in_the_way(tmp_path, "manifests/roles.parquet")
    settings = [f"manifest={uri}", f"store={tmp_path / 'store'}", "name=roles"]
    settings += ["near_duplicates.find=false", "smallest_stratum=1"]
    assert "error: split roles: IsADirectoryError: " in refused(split.main, settings, capsys)


@pytest.mark.parametrize("kind", ["classifier", "detector"])
def test_a_training(
    tmp_path: Path, tiny_models: TinyModels, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    uri = manifest(tmp_path, small_archive(tmp_path / "archive"))
    in_the_way(tmp_path, "models/april/training.json")
    settings = [f"manifest={uri}", f"store={tmp_path / 'store'}", "name=april"]
    if kind == "classifier":
        settings += [f"weights={tiny_models.backbone}", "image_size=64"]
    job = {"classifier": train_classifier.main, "detector": train_detector.main}[kind]
    assert f"error: {kind} april: IsADirectoryError: " in refused(job, settings, capsys)
