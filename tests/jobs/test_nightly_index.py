"""An index of what is new: the rows of a full one, the roles of the earlier one, few reads."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.config import IndexConfig
from pipeline.errors import InputError, RunError
from pipeline.stages.index import run_index
from pipeline.tables import storage
from pipeline.tables.earlier import read_earlier
from pipeline.tables.manifest import write_manifest
from pipeline.tables.schemas import MANIFEST
from tests.conftest import run_job, write_archive
from tests.faulty_proxy import FaultyProxy, faulty_proxy
from tests.s3_server import access_to, files_below, new_bucket

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]

GIVEN = ["role", "fold", "group_id"]


@pytest.fixture
def archive(cluster: str, tmp_path: Path) -> Path:
    return write_archive(tmp_path / "archive", good=4, test=2, side=16)


def index(archive: object, tmp_path: Path, name: str = "plant", **changes: object) -> dict:
    config = {"source": str(archive), "store": str(tmp_path / "store"), "name": name} | changes
    return run_index(IndexConfig.model_validate(config))


def rows(report: dict) -> pa.Table:
    return storage.read_parquet(report["manifest"])


def split(report: dict, name: str = "plant") -> str:
    """A manifest in which every row has a role, a fold and a group."""
    table = rows(report)
    count = table.num_rows
    given = {
        "role": [("fit", "validation", "test")[i % 3] for i in range(count)],
        "fold": [i % 2 for i in range(count)],
        "group_id": [1000 + i for i in range(count)],
    }
    for column, values in given.items():
        place = table.schema.get_field_index(column)
        table = table.set_column(place, column, pa.array(values, MANIFEST.field(column).type))
    uri = f"{report['manifest'].rsplit('/', 1)[0]}/{name}.parquet"
    write_manifest(uri, table)
    return uri


def counts(report: dict) -> dict[str, int]:
    return {name: count for name, count in report["since"]["files"].items() if count}


def test_a_night_reads_what_is_new_and_keeps_the_roles(archive: Path, tmp_path: Path) -> None:
    shutil.copy(archive / "bolt/train/good/000.png", archive / "bolt/train/good/copy.png")
    (archive / "tile/train/good/broken.png").write_bytes(b"")
    os.chmod(archive / "tile/train/good/broken.png", 0)
    first = index(archive, tmp_path, since="plant")
    assert first["since"] is None  # there was none before
    before = {row["image_id"]: row for row in storage.read_parquet(split(first)).to_pylist()}

    os.chmod(archive / "tile/train/good/broken.png", 0o644)
    write_archive(tmp_path / "more", good=5, test=2, side=24)
    shutil.copy(tmp_path / "more/bolt/train/good/004.png", archive / "bolt/train/good/004.png")
    (archive / "bolt/test/dent/001.png").unlink()
    # The same size and another time: backwards, as after a clock that was wrong.
    changed = archive / "tile/test/good/000.png"
    content = bytearray(changed.read_bytes())
    content[-5] ^= 1
    changed.write_bytes(content)
    os.utime(changed, (1e9, 1e9))
    # And one that only says another time: read, and found to be the same image.
    os.utime(archive / "tile/test/good/001.png", (1.1e9, 1.1e9))

    second = index(archive, tmp_path, since="plant")
    assert counts(second) == {
        "new": 1, "changed": 2, "unchanged": 14, "tried_again": 1, "gone": 1,
    }  # fmt: skip
    full = index(archive, tmp_path, name="full")
    assert rows(second).drop_columns(GIVEN).equals(rows(full).drop_columns(GIVEN))
    given = rows(second).select(["image_id", *GIVEN]).to_pylist()
    for row in given:
        old = before.get(row["image_id"], {})
        assert [row[name] for name in GIVEN] == [old.get(name) for name in GIVEN]
    assert sum(row["role"] is None for row in given) == 3  # new, changed, readable now


def test_a_night_without_news_reads_nothing(archive: Path, tmp_path: Path) -> None:
    shutil.copy(archive / "bolt/train/good/000.png", archive / "bolt/train/good/copy.png")
    first = index(archive, tmp_path)
    split(first)
    before = rows(first)
    images = list(archive.rglob("*.png"))
    for path in images:
        path.chmod(0)  # whoever reads one now finds it denied
    second = index(archive, tmp_path, since=first["manifest"])
    assert counts(second) == {"unchanged": 17}
    assert rows(second).equals(before)


def test_a_relabelled_image_loses_its_role_and_a_moved_one_keeps_it(
    archive: Path, tmp_path: Path
) -> None:
    first = index(archive, tmp_path)
    split(first)
    role_of = dict(
        zip(rows(first)["sha256"].to_pylist(), rows(first)["role"].to_pylist(), strict=True)
    )
    (archive / "bolt/train/good/000.png").rename(archive / "bolt/test/dent/900.png")
    (archive / "bolt/train/good/001.png").rename(archive / "bolt/train/good/renamed.png")
    second = index(archive, tmp_path, since="plant")
    assert counts(second) == {"new": 2, "unchanged": 14, "gone": 2}
    assert second["since"]["relabelled"] == [str(archive / "bolt/test/dent/900.png")]
    for row in rows(second).to_pylist():
        moved = row["uri"].endswith("dent/900.png")
        assert row["role"] == (None if moved else role_of[row["sha256"]])


def test_what_people_said_of_a_folders_images_is_kept(cluster: str, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive", good=3, test=1, side=16) / "bolt/train/good"
    first = index(archive, tmp_path, category="bolt")
    table = rows(first)
    place = table.schema.get_field_index("is_defect")
    write_manifest(
        first["manifest"], table.set_column(place, "is_defect", pa.array([True, False, None]))
    )
    second = index(archive, tmp_path, category="bolt", since="plant")
    assert rows(second)["is_defect"].to_pylist() == [True, False, None]


def test_most_files_gone_are_an_outage(archive: Path, tmp_path: Path) -> None:
    write_archive(archive / "x", good=10, test=1, side=16)
    first = index(archive, tmp_path, layout="folder", category="all")
    before = storage.read_bytes(first["manifest"])
    shutil.rmtree(archive / "x")
    settings = {"layout": "folder", "category": "all", "since": "plant"}
    with pytest.raises(InputError, match=r"since: 26 of the 46 files .* are gone.*max_gone=0.2"):
        index(archive, tmp_path, **settings)
    assert storage.read_bytes(first["manifest"]) == before
    assert counts(index(archive, tmp_path, max_gone=1, **settings)) == {"unchanged": 20, "gone": 26}


def links(folder: Path, away: Path, count: int) -> None:
    """Links to files of a folder that is away: a listing tells them, and nobody can read them."""
    for number in range(count):
        (folder / f"new{number}.png").symlink_to(away / f"{number}.png")


def test_files_that_can_be_listed_and_not_read_are_an_outage(archive: Path, tmp_path: Path) -> None:
    first = index(archive, tmp_path)
    before = storage.read_bytes(first["manifest"])
    away = tmp_path / "away"
    links(archive / "bolt/train/good", away, 14)
    says = r"max_unreachable: the files of 14 images .*more than 0\.2 of 14: .*No manifest was wri"
    with pytest.raises(RunError, match=says):
        index(archive, tmp_path, since="plant")
    assert storage.read_bytes(first["manifest"]) == before
    taken = index(archive, tmp_path, since="plant", max_unreachable=1)
    assert len(taken["unreadable"]) == 14

    # Known for lost, they stop no later night; ten others are a handful, and eleven an outage.
    links(archive / "tile/train/good", away, 10)
    assert counts(index(archive, tmp_path, since="plant")) == {
        "new": 10, "unchanged": 16, "tried_again": 14,
    }  # fmt: skip
    (archive / "tile/train/good/there.png").write_bytes(b"there")
    links(archive / "tile/test/good", away, 11)
    with pytest.raises(RunError, match=r"files of 11 images .*more than 0\.2 of 12"):
        index(archive, tmp_path, since="plant")
    away.mkdir()
    for number in range(14):
        (away / f"{number}.png").write_bytes(b"back %d" % number)
    assert index(archive, tmp_path, since="plant")["unreadable"] == []


def test_an_image_whose_path_is_not_utf8_is_left_out_and_told(
    cluster: str, archive: Path, tmp_path: Path
) -> None:
    names = [b"bolt/train/good/\xfc.png", b"gr\xf6sse/train/good/0.png", b"a.txt", b"b.txt"]
    for name in (*names, b"c.txt", b"\xfc.txt"):
        file = os.path.join(os.fsencode(archive), name)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        shutil.copy(archive / "bolt/train/good/000.png", file)
    settings = (f"source={archive}", f"store={tmp_path / 'store'}", "name=m")
    done = run_job("index", *settings, address=cluster)
    assert done.returncode == 0, done.stderr
    told = next(line for line in done.stdout.splitlines() if "not UTF-8" in line)
    assert told.startswith("2 warning: images left out")
    assert f"{archive}/bolt/train/good/\\xfc.png, {archive}/gr\\xf6sse/train/good/0.png" in told
    assert "4 stray files, left out: " in done.stdout
    report = index(archive, tmp_path, name="m")
    assert rows(report).num_rows == 16
    assert f"{archive}/\\xfc.txt" in [stray["uri"] for stray in report["stray"]]

    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(archive / "bolt/train/good/000.png", os.path.join(os.fsencode(alone), b"\xfc.png"))
    for source in (str(alone), f"{archive}/gr\udcf6sse"):
        done = run_job("index", f"source={source}", *settings[1:], address=cluster)
        assert done.returncode == 2
        assert "not UTF-8" in done.stderr
        assert "rename" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("since", "message"),
    [
        ("other", r"^since: .*/manifests/other.parquet: there is no such file"),
        ("not.parquet", r"^since: .*not.parquet: can't be read as Parquet"),
    ],
)
def test_an_earlier_manifest_that_is_none(
    archive: Path, tmp_path: Path, since: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("not.parquet").write_text("nothing")
    with pytest.raises(InputError, match=message):
        index(archive, tmp_path, since=since)


def test_a_manifest_of_an_older_version_is_taken_over(archive: Path, tmp_path: Path) -> None:
    """It doesn't know the state of its copies, which are read once more."""
    shutil.copy(archive / "bolt/train/good/000.png", archive / "bolt/train/good/copy.png")
    first = index(archive, tmp_path)
    old = rows(first).drop_columns(["duplicate_stamps"])
    storage.write_bytes(first["manifest"], storage.parquet_bytes(old))
    assert len(read_earlier(first["manifest"]).files) == 17
    second = index(archive, tmp_path, since="plant")
    assert counts(second) == {"changed": 1, "unchanged": 16}
    assert rows(second).drop_columns(["duplicate_stamps"]).equals(old)
    assert counts(index(archive, tmp_path, since="plant")) == {"unchanged": 17}


@pytest.fixture
def bucket(
    archive: Path, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[FaultyProxy, str]]:
    """The archive in a bucket, the proxy that counts what is read of it."""
    uri = new_bucket(s3_server, f"plant-{uuid.uuid4().hex[:8]}", files_below(archive, "april/"))
    with faulty_proxy(s3_server) as proxy:
        for name, value in access_to(proxy.url).items():
            monkeypatch.setenv(name, value)
        yield proxy, uri


def test_a_night_over_a_bucket_reads_no_object_that_it_knows(
    bucket: tuple[FaultyProxy, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, uri = bucket
    store = f"{uri}/store"
    # The workers of the session's cluster don't know the bucket: this process reads it itself.
    monkeypatch.setattr("pipeline.stages.index._hash_all", hash_here)
    first = index(f"{uri}/april", tmp_path, store=store)
    assert first["images"] == 16
    proxy.requests.clear()
    second = index(f"{uri}/april", tmp_path, store=store, since="plant")
    assert counts(second) == {"unchanged": 16}
    assert [path for path in proxy.reads() if path.endswith(".png")] == []
    content = storage.read_bytes(f"{uri}/april/bolt/test/good/001.png")
    storage.write_bytes(f"{uri}/april/bolt/test/good/000.png", content)
    proxy.requests.clear()
    third = index(f"{uri}/april", tmp_path, store=store, since="plant")
    assert counts(third) == {"changed": 1, "unchanged": 15}
    assert [path.rsplit("/", 1)[-1] for path in proxy.reads(".png")] == ["000.png"]
    assert rows(third).equals(rows(index(f"{uri}/april", tmp_path, store=store, name="full")))
    assert third["duplicates"] == 1


def hash_here(unread: pa.Table, config: IndexConfig) -> pa.Table:
    from pipeline.stages.index import _HASHES, _hash_block

    return _hash_block(unread, config.max_bytes).cast(_HASHES)
