"""Commits: rows count from the moment when their record exists, and not before."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.ledger import (
    DamagedPartError,
    Part,
    Span,
    commit_tables,
    drop_commit,
    read_commits,
    read_part,
    remove_work,
    rows_in,
)
from pipeline.tables.schemas import SCORES
from tests.tables.rows import Image, commit, detections, errors, images, keys, scores

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["local", "remote"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A run's folder, on a disk and on something like S3."""
    folder = str(tmp_path / "run")
    if request.param == "remote":
        folder = f"memory://run-{uuid.uuid4().hex[:8]}"
    yield folder
    storage.remove(folder)


def test_what_is_committed_is_read(run: str) -> None:
    found = images(12)
    written = commit(run, found[:9], found[9:])
    assert list(read_commits(run)) == [written]
    assert list(written.scored) == [image.id for image in found[:9]]
    assert list(written.failed) == [image.id for image in found[9:]]
    # Their files were not found: a run that continues tries again.
    assert list(written.unreachable) == list(written.failed)
    assert set(written.parts) == {"scores", "errors", "detections"}
    for name, table in (
        ("scores", scores(found[:9])),
        ("errors", errors(found[9:])),
        ("detections", detections(found[:9])),
    ):
        assert read_part(run, written.name, written.parts[name]).equals(table)
        assert written.parts[name].rows == table.num_rows
        assert written.parts[name].memory == table.nbytes


def test_the_parts_digests_are_those_of_the_files(run: str) -> None:
    written = commit(run, images(5))
    for part in written.parts.values():
        content = storage.read_bytes(storage.join(run, "parts", part.file))
        assert part.sha256 == hashlib.sha256(content).hexdigest()


def test_a_table_without_rows_has_no_part(run: str) -> None:
    nothing_found = [Image(4, "bolt"), Image(8, None)]  # ids of images without boxes
    written = commit(run, nothing_found)
    assert set(written.parts) == {"scores"}
    assert storage.list_names(storage.join(run, "parts")) == [written.parts["scores"].file]


def test_the_spans_are_those_of_every_category(run: str) -> None:
    found = [Image(5, "b"), Image(3, None), Image(9, "b"), Image(7, "a"), Image(1, None)]
    written = commit(run, found[:3], found[3:])
    assert sorted(written.spans, key=str) == sorted(
        [Span("b", 5, 9, 2), Span(None, 3, 3, 1), Span("a", 7, 7, 1), Span(None, 1, 1, 1)], key=str
    )


def test_another_table_may_be_the_primary_one(run: str) -> None:
    table = scores(images(3))
    written = commit_tables(run, {"features": table}, primary="features")
    assert list(written.scored) == table["image_id"].to_pylist()
    assert sum(span.rows for span in written.spans) == 3


def test_parts_without_a_commit_are_not_seen(run: str) -> None:
    assert list(read_commits(run)) == []
    commit(run, images(6))
    lost = commit(run, [Image(17, "bolt")], [Image(18, "bolt")])
    storage.remove(storage.join(run, "commits", lost.name))
    assert [c.name for c in read_commits(run)] != []
    assert not {17, 18} & {i for c in read_commits(run) for i in (*c.scored, *c.failed)}


KILLED = """
import os, sys
from pathlib import Path
from pipeline.tables import storage
from tests.tables.rows import commit, images
run, writes = sys.argv[1], int(sys.argv[2])
renames = []
def count(event, _):
    if event == "os.rename":
        renames.append(event)
        if len(renames) > writes:
            os._exit(9)
sys.addaudithook(count)
commit(run, images(12)[:9], images(12)[9:])
"""


@pytest.mark.parametrize("writes", range(4))
def test_a_writer_killed_at_any_step_commits_nothing(tmp_path: Path, writes: int) -> None:
    """Three parts and the record: killed before each of their renames."""
    run = str(tmp_path / "run")
    earlier = commit(run, [Image(1, "bolt")])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, run, str(writes)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 9, done.stderr
    assert list(read_commits(run)) == [earlier]
    assert len(storage.list_names(storage.join(run, "parts"))) == len(earlier.parts) + writes


def test_a_dropped_commit_does_not_count_and_the_others_do(run: str) -> None:
    first, second = commit(run, [Image(1, "a")]), commit(run, [Image(2, "a")])
    drop_commit(run, first.name)
    assert list(read_commits(run)) == [second]
    drop_commit(run, first.name)  # another publisher may have been faster
    assert [list(c.scored) for c in read_commits(run)] == [[2]]


def test_the_work_can_be_removed(run: str) -> None:
    commit(run, images(4))
    storage.write_json(storage.join(run, "run.json"), {})
    remove_work(run)
    assert list(read_commits(run)) == []
    assert storage.list_names(run) == ["run.json"]
    assert storage.list_names(storage.join(run, "parts")) == []
    remove_work(run)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"parts": [], "scored": [], "failed": [], "spans": []},
        {"parts": {"scores": {"file": "x"}}, "scored": [], "failed": [], "spans": []},
        {"parts": {}, "scored": [], "failed": []},
        {"parts": {}, "scored": [], "failed": [], "spans": [{"low": 1}]},
    ],
)
def test_a_commit_of_another_version_is_named(tmp_path: Path, content: object) -> None:
    run = str(tmp_path)
    uri = storage.join(run, "commits", "old.json")
    storage.write_bytes(uri, json.dumps(content).encode())
    with pytest.raises(InputError, match=f"^{uri}: is no commit of this version .*remove it"):
        list(read_commits(run))


def test_a_commit_that_is_no_json_is_named(tmp_path: Path) -> None:
    uri = storage.join(str(tmp_path), "commits", "cut.json")
    storage.write_bytes(uri, b'{"parts": ')
    with pytest.raises(InputError, match=f"^{uri}: is damaged: not JSON"):
        list(read_commits(str(tmp_path)))


def test_many_commits_are_read_in_a_fixed_order(tmp_path: Path) -> None:
    written = [commit(str(tmp_path), [Image(i + 1, "a")]) for i in range(40)]
    assert list(read_commits(str(tmp_path))) == sorted(written, key=lambda c: c.name)


# --- damaged parts ---


def damaged(run: str, part: Part, commit_name: str) -> DamagedPartError:
    with pytest.raises(DamagedPartError) as error:
        read_part(run, commit_name, part)
    assert error.value.file == storage.join(run, "parts", part.file)
    assert error.value.commit == commit_name
    for value in (error.value.file, error.value.commit, error.value.reason):
        assert value in str(error.value)
    return error.value


def test_a_part_that_is_gone(run: str) -> None:
    written = commit(run, images(4))
    part = written.parts["scores"]
    storage.remove(storage.join(run, "parts", part.file))
    assert damaged(run, part, written.name).reason == "is gone"


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_part_with_one_other_byte(run: str, place: int) -> None:
    written = commit(run, images(4))
    part = written.parts["scores"]
    uri = storage.join(run, "parts", part.file)
    content = bytearray(storage.read_bytes(uri))
    content[place] ^= 1
    storage.write_bytes(uri, bytes(content))
    assert "sha256" in damaged(run, part, written.name).reason


def test_a_part_that_was_cut(run: str) -> None:
    written = commit(run, images(4))
    part = written.parts["detections"]
    uri = storage.join(run, "parts", part.file)
    storage.write_bytes(uri, storage.read_bytes(uri)[:-1])
    assert "sha256" in damaged(run, part, written.name).reason


# --- rows and ids, against the naive way ---

ids = st.integers(0, 20)
categories = st.sampled_from(["a", "b", "", None])
found_images = st.lists(st.builds(Image, ids, categories), max_size=20, unique_by=lambda i: i.id)


@settings(deadline=None)
@given(found_images, categories, ids, ids)
def test_rows_of_a_range(found: list[Image], category: str | None, low: int, high: int) -> None:
    expected = [
        (image.category, image.id)
        for image in found
        if image.category == category and low <= image.id < high
    ]
    assert keys(rows_in(scores(found), category, low, high)) == expected


def test_no_rows_have_no_range() -> None:
    assert rows_in(SCORES.empty_table(), None, 0, 10).num_rows == 0
