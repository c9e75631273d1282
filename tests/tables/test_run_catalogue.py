"""The list of runs shows every state, and damaged or foreign files as what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.run_catalogue import read_catalogue
from pipeline.tables.run_details import damaged_files, run_details
from pipeline.tables.run_files import list_files, owner
from tests.tables.stores import put_fit, put_published, put_unfinished


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def test_every_state_is_told_from_the_others(store: str) -> None:
    put_published(store, "monday")
    put_unfinished(store, "tuesday")
    lock = "locks/00000001.json"
    storage.write_json(storage.join(put_unfinished(store, "now").folder, lock), {"pid": 1})
    put_fit(store, "fit-1", "b1", "ab" * 32)
    storage.write_json(storage.join(put_published(store, "going").deletion), {})
    storage.write_bytes(f"{store}/published/broken.json", b"{")
    storage.write_json(f"{store}/published/list.json", [1])
    storage.write_json(f"{store}/published/other.json", {"tables": 3})
    storage.write_bytes(f"{store}/tables/scores/run=lost/part-0.parquet", b"x")
    found = {run.run_id: run.state for run in read_catalogue(store).runs}
    assert found == {
        "monday": "published",
        "tuesday": "unfinished",
        "now": "in use",
        "fit-1": "fitted",
        "going": "being deleted",
        "broken": "damaged",
        "list": "damaged",
        "other": "damaged",
        "lost": "leftover",
    }


def test_a_run_says_what_it_is(store: str) -> None:
    put_published(store, "monday")
    put_fit(store, "fit-1", "b1", "ab" * 32)
    catalogue = read_catalogue(store)
    run, fit = catalogue.find("monday"), catalogue.find("fit-1")
    assert run is not None
    assert (run.kind, run.images, run.errors) == ("score", 12, 1)
    assert (run.started_at, run.finished_at) == (
        "2026-03-01T01:00:00+00:00",
        "2026-03-01T02:00:00+00:00",
    )
    assert (run.manifest, run.bundle) == ("m.parquet", f"{store}/bundles/b1")
    # The truth by walking the disk.
    on_disk = [p for p in Path(store).rglob("*") if p.is_file() and "monday" in str(p)]
    assert run.bytes == sum(path.stat().st_size for path in on_disk)
    assert len(run.files) == len(on_disk) > 5
    assert fit is not None
    assert (fit.kind, fit.images, fit.errors, fit.state) == ("fit", 10, 1, "fitted")
    assert [r.run_id for r in catalogue.runs] == ["fit-1", "monday"]  # oldest first


def test_foreign_files_are_strays_and_never_runs(store: str) -> None:
    put_published(store, "monday")
    for path in ("runs/notes.txt", "published/.DS_Store", "tables/readme.md"):
        storage.write_bytes(f"{store}/{path}", b"hello")
    catalogue = read_catalogue(store)
    assert [run.run_id for run in catalogue.runs] == ["monday"]
    assert sorted(catalogue.strays) == ["published/.DS_Store", "runs/notes.txt", "tables/readme.md"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(
            ["tables", "scores", "errors", "rows", "files", "path", "kind", "identity", "bundle",
             "uri", "config", "since_run", "needs", "categories", "errors_by_type", "started_at",
             "finished_at", "images", "scorer_digest", "manifest"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=20,
)  # fmt: skip


@given(run=json_values, report=json_values, published=json_values)
def test_records_of_any_shape_are_listed_and_shown_without_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, run: object, report: object, published: object
) -> None:
    store = str(tmp_path_factory.mktemp("any"))
    storage.write_json(f"{store}/runs/r/run.json", run)
    storage.write_json(f"{store}/runs/r/report.json", report)
    storage.write_json(f"{store}/published/r.json", published)
    catalogue = read_catalogue(store)
    assert [one.run_id for one in catalogue.runs] == ["r"]
    run_details(catalogue, "r", verify=True)


@pytest.mark.parametrize(
    ("path", "run"),
    [
        ("runs/a/run.json", "a"),
        ("runs/a.b/parts/x.parquet", "a.b"),
        ("runs/a", None),
        ("published/a.json", "a"),
        ("published/a.json.1234.partial", None),
        ("tables/scores/run=ab/part-0.parquet", "ab"),
        ("tables/features/features=f/run=a/part-0.parquet", "a"),
        ("cells/run=a/aa/g.json", "a"),
        ("tables/scores/run=a", None),
        ("reports/run=a/x.json", None),
    ],
)
def test_a_file_belongs_to_the_run_whose_whole_id_is_in_its_path(
    path: str, run: str | None
) -> None:
    assert owner(path) == run


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^store: .*/none: there is no such folder"):
        read_catalogue(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    assert read_catalogue(str(tmp_path / "empty")).runs == ()


def test_files_that_changed_or_are_gone_are_found_by_their_digests(store: str) -> None:
    places = put_published(store, "monday")
    catalogue = read_catalogue(store)
    details = run_details(catalogue, "monday", verify=True)
    assert [file.found for file in details.files] == ["same"] * 3
    assert damaged_files(details) == []
    scores = Path(places.table("scores")) / "part-00000.parquet"
    scores.write_bytes(scores.read_bytes()[:-1] + b"!")
    (Path(places.table("errors")) / "part-00000.parquet").unlink()
    lines = damaged_files(run_details(catalogue, "monday", verify=True))
    assert lines == [
        "run monday: tables/scores/run=monday/part-00000.parquet: isn't what the record says "
        "(sha256)",
        "run monday: tables/errors/run=monday/part-00000.parquet: is gone",
    ]
    assert damaged_files(run_details(catalogue, "monday")) == []


def test_the_parts_of_an_unfinished_run_are_verified_too(store: str) -> None:
    places = put_unfinished(store, "tuesday")
    catalogue = read_catalogue(store)
    details = run_details(catalogue, "tuesday", verify=True)
    assert {file.found for file in details.files} == {"same"}
    part = next(Path(places.folder).glob("parts/*.scores.parquet"))
    part.write_bytes(b"")
    lines = damaged_files(run_details(catalogue, "tuesday", verify=True))
    assert lines == [
        f"run tuesday: runs/tuesday/parts/{part.name}: isn't what the record says (sha256)"
    ]


def test_a_record_that_names_a_file_elsewhere_has_it_not_read(store: str, tmp_path: Path) -> None:
    places = put_published(store, "monday")
    record = storage.read_json(places.published)
    record["tables"]["scores"]["files"][0]["path"] = "../secret"
    storage.write_json(places.published, record)
    (tmp_path / "secret").write_text("x")
    lines = damaged_files(run_details(read_catalogue(store), "monday", verify=True))
    assert "../secret: is named by the record, and no run's file can lie there" in lines[0]


def test_listing_a_folder_leaves_its_neighbours_out(tmp_path: Path) -> None:
    for name in ("a/1", "ab/2", "a.json"):
        storage.write_bytes(str(tmp_path / name), b"xx")
    assert list_files(str(tmp_path / "a")) == {"1": 2}
    assert list_files(str(tmp_path / "none")) == {}
