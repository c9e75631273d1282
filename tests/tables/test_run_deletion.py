"""Deleting runs: what is needed stays, a kill anywhere is mended, no other run is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError, RunError
from pipeline.tables import storage
from pipeline.tables.lock import locked
from pipeline.tables.run_catalogue import read_catalogue
from pipeline.tables.run_deletion import DeletionPlan, delete, plan_deletion, refusal
from pipeline.tables.run_files import list_files
from pipeline.tables.run_needs import store_needs
from pipeline.tables.runs import RunPlaces, load_table, start_or_continue
from tests.tables.stores import (
    IDENTITY,
    content,
    of_run,
    put_fit,
    put_published,
    put_unfinished,
)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def plan(store: str, *run_ids: str, force: bool = False) -> DeletionPlan:
    catalogue = read_catalogue(store)
    return plan_deletion(catalogue, store_needs(catalogue), run_ids, force=force)


def nothing(_: str) -> None:
    """Nobody listens."""


def why(store: str, *run_ids: str) -> str:
    """Why the runs are kept; they must be."""
    found = refusal(plan(store, *run_ids))
    assert found is not None
    return found


def test_a_plan_says_what_goes_and_touches_nothing(store: str) -> None:
    put_published(store, "monday")
    before = content(store)
    found = plan(store, "monday")
    assert content(store) == before
    assert refusal(found) is None
    (one,) = found.deletions
    assert [(step.what, step.path) for step in one.steps] == [
        ("the published record", "published/monday.json"),
        ("kept counts", "cells/run=monday"),
        ("detections", "tables/detections/run=monday"),
        ("errors", "tables/errors/run=monday"),
        ("features", "tables/features/features=f00dfacef00dface/run=monday"),
        ("scores", "tables/scores/run=monday"),
        ("record and work in progress", "runs/monday"),
    ]
    assert one.bytes == sum(len(data) for data in before.values())
    assert sum(step.files for step in one.steps) == len(before)


def test_a_run_goes_whole_and_its_namesakes_stay(store: str) -> None:
    others = ("night", "night-1.1", "night-10", "a-night-1", "night-1x")
    for run_id in (*others, "night-1"):
        put_published(store, run_id)
    put_unfinished(store, "night-1-rest")
    before = {
        path: data for path, data in content(store).items() if path not in of(store, "night-1")
    }
    told: list[str] = []
    delete(plan(store, "night-1"), told.append)
    assert told == ["night-1"]
    assert content(store) == before
    assert not (Path(store) / "runs" / "night-1").exists()
    for run_id in others:
        assert load_table(store, run_id, "scores").num_rows == 11


def of(store: str, run_id: str) -> set[str]:
    return set(of_run(store, run_id))


class Killed(BaseException):
    """A kill: nothing may catch it."""


def kill_after(files: int) -> Callable[[str], None]:
    """A `remove` that takes file by file, in any order it likes, and is killed on the way."""
    left = [files]

    def remove(uri: str) -> None:
        there = list_files(uri)
        targets = [storage.join(uri, name) for name in sorted(there)] if there else [uri]
        for target in targets:
            if left[0] == 0:
                raise Killed
            if Path(target).is_file():
                left[0] -= 1
                Path(target).unlink()

    return remove


def test_a_deletion_killed_after_any_file_is_finished_by_the_same_command(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_published(store, "night-10")
    put_published(store, "other")
    others = content(store)
    total = len(of_run_after(store))
    seen = set()
    for files in range(total + 1):
        if not of_run(store, "night-1"):
            put_published(store, "night-1")
        with monkeypatch.context() as patched:
            patched.setattr(storage, "remove", kill_after(files))
            with pytest.raises(Killed):
                delete(plan(store, "night-1"), nothing)
        entry = read_catalogue(store).find("night-1")
        assert entry is not None
        assert entry.state == "being deleted"
        visible = (Path(store) / "published/night-1.json").exists()
        seen.add(visible)
        if visible:  # what a reader sees is whole
            assert load_table(store, "night-1", "scores").num_rows == 11
        with pytest.raises(InputError, match="run_id night-1: is being deleted"):
            start_or_continue(RunPlaces(store, "night-1"), IDENTITY, {})
        delete(plan(store, "night-1"), nothing)
        assert of_run(store, "night-1") == []
        assert content(store) == others
    assert seen == {True, False}


def of_run_after(store: str) -> list[str]:
    """The files of a run that has just been published."""
    put_published(store, "night-1")
    return of_run(store, "night-1")


def test_a_run_that_another_one_needs_is_kept_and_both_may_go(store: str) -> None:
    put_published(store, "monday")
    put_published(store, "tuesday", needs=["monday"])
    put_published(store, "wednesday", needs=["tuesday"])
    assert why(store, "monday").startswith("run monday: is kept: run tuesday needs it")
    # tuesday is held by wednesday, so monday is held too, though tuesday was to go.
    found = plan(store, "monday", "tuesday")
    assert set(found.kept) == {"monday", "tuesday"}
    assert found.deletions == ()
    whole = plan(store, "monday", "tuesday", "wednesday")
    # A kill between two leaves none without what it needs.
    assert [one.run_id for one in whole.deletions] == ["wednesday", "tuesday", "monday"]


def test_a_record_that_names_files_of_a_run_needs_it(store: str) -> None:
    put_published(store, "monday")
    places = put_published(store, "tuesday")
    record = storage.read_json(places.published)
    files = storage.read_json(RunPlaces(store, "monday").published)["tables"]["scores"]["files"]
    record["tables"]["features"] = {"rows": 1, "files": files}
    storage.write_json(places.published, record)
    assert "run tuesday needs it: its published record names files of it" in why(store, "monday")


def test_an_unfinished_run_keeps_what_it_was_begun_with(store: str) -> None:
    put_published(store, "monday")
    record = storage.read_json(put_unfinished(store, "tuesday").record)
    record["config"]["since_run"] = "monday"
    storage.write_json(RunPlaces(store, "tuesday").record, record)
    assert "run tuesday needs it: it was begun with since_run" in why(store, "monday")


def test_an_unfinished_run_keeps_what_it_leans_on_until_it_is_published(store: str) -> None:
    put_published(store, "monday")
    record = storage.read_json(put_unfinished(store, "tuesday").record)
    storage.write_json(RunPlaces(store, "tuesday").record, record | {"needs": ["monday"]})
    put_published(store, "wednesday")
    place = RunPlaces(store, "wednesday").record
    begun = storage.read_json(place) if storage.exists(place) else {}
    storage.write_json(place, begun | {"needs": ["monday"]})
    said = why(store, "monday")
    assert "run tuesday needs it" in said
    assert "wednesday" not in said


@pytest.mark.parametrize(
    ("path", "record", "says"),
    [
        (
            "bundles/b7/thresholds.json",
            {"provenance": {"run": {"run_id": "monday"}}},
            "bundle b7 was calibrated on it",
        ),
        ("references/line.json", {"needs": ["monday"]}, "references/line.json compares with it"),
        ("reports/drift/d.json", {"needs": ["monday"]}, "reports/drift/d.json compares with it"),
    ],
)
def test_what_bundles_and_references_need_is_kept(
    store: str, path: str, record: dict[str, Any], says: str
) -> None:
    put_published(store, "monday")
    put_published(store, "mon")
    storage.write_json(f"{store}/{path}", record)
    assert says in why(store, "monday")
    assert refusal(plan(store, "mon")) is None


@pytest.mark.parametrize(
    "report",
    [
        {"table": {"runs": ["monday"]}},
        {"run": {"run_id": "monday"}, "reference": {"run_id": "monday"}},
    ],
)
def test_a_report_made_from_a_run_stands_by_itself(store: str, report: dict[str, Any]) -> None:
    put_published(store, "monday")
    storage.write_json(f"{store}/reports/e/evaluation.json", report)
    found = plan(store, "monday")
    assert refusal(found) is None
    assert found.deletions[0].remarks == ("reports/e was made from it, and stays",)
    delete(found, nothing)
    assert (Path(store) / "reports/e/evaluation.json").exists()


def test_a_record_that_can_not_be_read_may_need_anything(store: str) -> None:
    put_published(store, "monday")
    storage.write_bytes(f"{store}/published/tuesday.json", b"{")
    assert "published/tuesday.json: is damaged" in why(store, "monday")
    assert "what it needs is not known" in why(store, "monday")
    assert refusal(plan(store, "tuesday")) is None
    delete(plan(store, "monday", "tuesday"), nothing)
    assert content(store) == {}


def test_a_calibration_that_can_not_be_read_may_be_on_any_run(store: str) -> None:
    put_published(store, "monday")
    storage.write_json(f"{store}/reports/e/list.json", ["monday"])  # no record, and no matter
    assert refusal(plan(store, "monday")) is None
    storage.write_bytes(f"{store}/bundles/b7/thresholds.json", b"{")
    assert "bundles/b7/thresholds.json: can't be read as JSON" in why(store, "monday")


def test_a_run_that_a_process_works_on_is_kept_unless_forced(store: str) -> None:
    lock = "locks/00000003.json"
    storage.write_json(storage.join(put_unfinished(store, "now").folder, lock), {"pid": 1})
    put_published(store, "monday")
    assert f"runs/now/{lock}" in why(store, "monday", "now")
    forced = plan(store, "now", force=True)
    assert refusal(forced) is None
    delete(forced, nothing)
    assert of_run(store, "now") == []


def test_the_lock_of_a_process_that_is_gone_keeps_nothing(store: str) -> None:
    folder = put_unfinished(store, "now").folder
    with locked(folder, "now"):
        assert "runs/now/locks/" in why(store, "now")
        (name,) = storage.list_names(f"{folder}/locks")
        record = storage.read_json(f"{folder}/locks/{name}")
    # As a killed process leaves it: its id is another's by now.
    storage.write_json(f"{folder}/locks/{name}", record | {"process_start": "1"})
    assert refusal(plan(store, "now")) is None


def test_a_fit_takes_its_bundle_with_it_unless_that_is_used(store: str) -> None:
    put_fit(store, "fit-1", "b1", "ef" * 32)
    put_fit(store, "fit-2", "b2", "ab" * 32)
    storage.write_json(f"{store}/bundles/latest.json", {"bundle": "b2"})
    put_published(store, "monday")  # scored with the scorer abab…
    assert "its bundle b2 is the latest one" in why(store, "fit-2")
    assert "run monday was scored with its bundle b2" in why(store, "fit-2")
    # monday's record gives its bundle's place too: b1 by name.
    assert "run monday was scored with its bundle b1" in why(store, "fit-1")
    delete(plan(store, "monday"), nothing)
    put_fit(store, "fit-3", "b1", "ef" * 32)
    assert "fit fit-3 made the same bundle b1" in why(store, "fit-1")
    both = plan(store, "fit-1", "fit-3")
    assert refusal(both) is None
    assert ("the bundle that it made", "bundles/b1") in [
        (step.what, step.path) for step in both.deletions[0].steps
    ]
    delete(both, nothing)
    assert set(content(store, ["bundles"])) == {
        "bundles/latest.json",
        "bundles/b2/bundle.json",
        "bundles/b2/backbone.safetensors",
    }


def test_runs_that_are_not_there(store: str) -> None:
    put_published(store, "monday")
    assert why(store, "monda") == f"run monda: isn't in the store {store}"
    some = plan(store, "monda", "monday")
    assert (some.absent, len(some.deletions)) == (("monda",), 1)


def test_what_can_not_be_removed_is_told_and_continues_later(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_published(store, "a")
    put_published(store, "b")
    told: list[str] = []

    def refused(uri: str) -> None:
        if "scores/run=b" in uri:
            raise PermissionError(13, "Permission denied", uri)
        real(uri)

    real = storage.remove
    with monkeypatch.context() as patched:
        patched.setattr(storage, "remove", refused)
        with pytest.raises(RunError, match=r"run b: can't be deleted: .*access denied.*: b; the"):
            delete(plan(store, "a", "b"), told.append)
    assert told == ["a"]
    delete(plan(store, "a", "b"), told.append)
    assert told == ["a", "b"]
    assert content(store) == {}
