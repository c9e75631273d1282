"""A store and an archive in a bucket: shown as a folder is, through the project's own client."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest

from pipeline.app.deciding import figures
from pipeline.app.desk import Desk
from pipeline.tables.labels import Label, append_label, labels_folder, read_labels
from tests.app.stores import Place, small_store
from tests.s3_server import access_to, new_bucket


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in access_to(s3_server).items():
        monkeypatch.setenv(name, value)
    return new_bucket(s3_server, f"app-{uuid.uuid4().hex[:8]}", {})


def test_a_bucket_shows_what_a_folder_shows(bucket: str, tmp_path: Path) -> None:
    here = small_store(tmp_path / "here", size=32)
    there = Desk(small_store(tmp_path / "there", size=32, bucket=bucket).config())
    local = Desk(here.config())
    assert there.store.startswith("s3://")
    assert [run.run_id for run in there.runs()] == [run.run_id for run in local.runs()]
    told = []
    for desk in (local, there):
        held = desk.held("monday")
        policy = desk.policies("monday").resolved["either"]
        told.append(repr(figures(policy, held, desk.outcome("monday", "either"))))
    assert told[0] == told[1]
    held = there.held("monday")
    defects = [n for n in range(len(held.group)) if held.groups[int(held.group[n])].is_defect]
    shown = there.shown("monday", held, np.array(defects[:3], np.intp))
    pictures = there.thumbnails.of([one.uri for one in shown])
    assert all(uri.startswith("s3://") for uri in pictures)
    assert all(isinstance(one, bytes) for one in pictures.values())
    assert len(there.boxes("monday", shown[0])) == 2
    assert str(there.mask("monday", shown[0])).startswith(f"{bucket}/archive/")


def test_labels_are_added_to_a_bucket(bucket: str, tmp_path: Path) -> None:
    place = small_store(tmp_path, size=32, bucket=bucket)
    desk = Desk(place.config())
    before = desk.held("monday")
    image = int(before.image_id[0])
    append_label(place.store, Label(image, "unsure"))
    append_label(place.store, Label(image, "defect", "crack"))
    assert read_labels(labels_folder(place.store)).label.to_pylist() == ["defect"]
    after = desk.held("monday", labelled=True)
    group = after.groups[int(after.group[after.row_of(image) or 0])]
    assert (group.is_defect, group.defect_type) == (True, "crack")


def test_a_store_that_is_not_there_is_told(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs.app import main

    for store in (f"{bucket}/nothing", str(tmp_path / "nothing")):
        assert main([f"store={store}"]) == 2
        assert "there is no such folder or prefix" in capsys.readouterr().err
    assert Place(tmp_path).config().address == "127.0.0.1"
