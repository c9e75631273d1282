"""From commits to published files: every image once, in order, whatever was killed or run twice."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.tables import storage
from pipeline.tables.ledger import (
    DamagedPartError,
    Span,
    commit_tables,
    drop_commit,
    read_commits,
)
from pipeline.tables.publication import (
    FileLimits,
    FilePlan,
    PublishedFile,
    build_file,
    plan_files,
    published_record,
    split_ranges,
)
from pipeline.tables.schemas import FEATURES, RUN_TABLES, SCORES
from pipeline.tables.tally import Tally
from tests.tables.rows import (
    Image,
    commit,
    detections,
    errors,
    images,
    in_order,
    keys,
    scores,
)

NOTHING = np.empty(0, np.int64)


def plans(run: str, table: str, file_rows: int = 10) -> list[FilePlan]:
    limits = FileLimits(file_rows, memory=2**40)
    tally = whole(run)
    commits = tally.take(read_commits(run))
    return plan_files(commits, table, storage.join(run, "tables", table), limits, tally.repeated)


def whole(run: str) -> Tally:
    """An empty tally of all images that a run has committed."""
    return Tally(np.unique([i for c in read_commits(run) for i in (*c.scored, *c.failed)]))


def recovered(run: str) -> np.ndarray:
    tally = whole(run)
    tally.take(read_commits(run))
    return tally.recovered


def publish(run: str, table: str, file_rows: int = 10) -> list[PublishedFile]:
    """As the stages do: errors without those that were scored in the end."""
    excluded = recovered(run) if table == "errors" else NOTHING
    built = [build_file(run, plan, excluded) for plan in plans(run, table, file_rows)]
    return [file for file in built if file is not None]


def published_keys(files: list[PublishedFile]) -> list[tuple[str | None, int]]:
    return [key for file in files for key in keys(storage.read_parquet(file.uri))]


# --- the whole way, against the naive truth ---

categories = st.sampled_from(["bolt", "tile", "ü", "", None])
archives = st.lists(
    st.builds(Image, st.integers(0, 2**63 - 2), categories), max_size=40, unique_by=lambda i: i.id
)
# What happened to an image: scored; failed; failed first, scored later.
FATES = ("scored", "failed", "recovered")


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Image], dict[int, str], list[tuple[list[Image], ...]]]:
    """An archive, the fate of each image, and the commits (scored, failed) in any order."""
    archive = draw(archives)
    fates = {image.id: draw(st.sampled_from(FATES)) for image in archive}
    commits: list[tuple[list[Image], ...]] = []
    # A second time, in other batches: tasks that were run twice.
    again = draw(st.lists(st.sampled_from(archive), unique=True)) if archive else []
    for some in (archive, again):
        commits += [
            (
                [image for image in batch if fates[image.id] != "failed"],
                [image for image in batch if fates[image.id] == "failed"],
            )
            for batch in batches(draw(st.permutations(some)), draw(st.integers(1, 15)))
        ]
    lost = [image for image in archive if fates[image.id] == "recovered"]
    commits += [([], batch) for batch in batches(lost, draw(st.integers(1, 15)))]
    return archive, fates, draw(st.permutations(commits))


def batches(found: list[Image], size: int) -> Iterator[list[Image]]:
    for start in range(0, len(found), size):
        yield found[start : start + size]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories(), file_rows=st.integers(1, 50))
def test_every_image_is_published_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    history: tuple[list[Image], dict[int, str], list[tuple[list[Image], ...]]],
    file_rows: int,
) -> None:
    archive, fates, commits = history
    run = str(tmp_path_factory.mktemp("run"))
    for scored, failed in commits:
        commit(run, scored, failed)
    good = [image for image in archive if fates[image.id] != "failed"]
    bad = [image for image in archive if fates[image.id] == "failed"]
    boxes = [image for image in good for _ in range(image.boxes)]

    assert published_keys(publish(run, "scores", file_rows)) == in_order(good)
    assert published_keys(publish(run, "errors", file_rows)) == in_order(bad)
    found = publish(run, "detections", file_rows)
    assert published_keys(found) == in_order(boxes)
    for file in found:
        rows = storage.read_parquet(file.uri)
        ids = rows["image_id"].to_pylist()
        running = [ids[:place].count(number) for place, number in enumerate(ids)]
        assert rows["box_index"].to_pylist() == running
    shutil.rmtree(run)


def test_the_rows_are_those_that_were_committed(tmp_path: Path) -> None:
    run, found = str(tmp_path), images(30)
    commit(run, found[20:], found[:4])
    commit(run, found[4:20])
    for name, make, rows in (
        ("scores", scores, found[4:]),
        ("detections", detections, found[4:]),
        ("errors", errors, found[:4]),
    ):
        expected = make(sorted(rows, key=lambda i: (i.category is None, i.category or "", i.id)))
        tables = [storage.read_parquet(file.uri) for file in publish(run, name, 100)]
        assert len(tables) == 1
        assert tables[0].equals(expected)
        assert tables[0].schema.metadata == RUN_TABLES[name].metadata


def test_the_columns_of_features_are_kept(tmp_path: Path) -> None:
    rows = [
        {"image_id": i, "category": "a", "pooled": [i / 2, 1.0], "cells": bytes([i] * 8)}
        for i in range(5)
    ]
    table = RUN_TABLES["features"].empty_table().from_pylist(rows, schema=RUN_TABLES["features"])
    commit_tables(str(tmp_path), {"features": table}, primary="features")
    (file,) = publish(str(tmp_path), "features", 100)
    assert storage.read_parquet(file.uri).equals(table)


def test_of_two_rows_of_one_image_one_and_the_same_is_kept(tmp_path: Path) -> None:
    """A task that ran twice: which row is kept depends on the commits' names alone."""
    run = str(tmp_path)
    for value in (1.0, 2.0):
        table = scores([Image(7, "a")])
        place = table.schema.get_field_index("anomaly_score")
        column = pa.array([value], pa.float32())
        table = table.set_column(place, table.schema.field(place), column)
        commit_tables(run, {"scores": table})
    first = next(read_commits(run))
    kept = storage.read_parquet(storage.join(run, "parts", first.parts["scores"].file))
    for _ in range(2):
        (file,) = publish(run, "scores")
        rows = storage.read_parquet(file.uri)
        assert rows["anomaly_score"].to_pylist() == kept["anomaly_score"].to_pylist()


def test_score_and_boxes_of_an_image_come_from_one_commit(tmp_path: Path) -> None:
    """A task that ran twice and found, by a rounding, other boxes the second time."""
    run = str(tmp_path)
    twice = [Image(2**62 + 4 * number + 3, "a") for number in range(8)]  # 3 boxes each
    commit(run, [], [Image(2**62, "a")])
    # The commits' order is that of their random names: each image has its own.
    for image, confidence in itertools.product(twice, (0.5, 0.4, 0.3)):
        batch = [image]
        table = scores(batch)
        boxes = detections(batch).filter(pc.field("box_index") < round(confidence * 10 - 2))
        for name, column in (("detection_max_confidence", confidence), ("detection_count", 0)):
            table = table.drop_columns([name]).append_column(name, pa.array([column] * len(batch)))
        commit_tables(run, {"scores": table.select(SCORES.names).cast(SCORES), "detections": boxes})
    (file,) = publish(run, "scores", 100)
    (boxes_file,) = publish(run, "detections", 100)
    boxes = Counter(storage.read_parquet(boxes_file.uri)["image_id"].to_pylist())
    for row in storage.read_parquet(file.uri).to_pylist():
        assert boxes[row["image_id"]] == round(row["detection_max_confidence"] * 10 - 2)


# --- files ---


def test_files_are_about_as_large_as_asked(tmp_path: Path) -> None:
    run = str(tmp_path)
    found = images(3000, ["bolt"] * 7 + ["tile"] * 2 + [None])
    for batch in batches(found, 500):
        commit(run, batch)
    files = publish(run, "scores", 400)
    assert published_keys(files) == in_order(found)
    assert [file.uri.rsplit("/", 1)[-1] for file in files] == [
        f"part-{number:05d}.parquet" for number in range(len(files))
    ]
    # 2100, 600 and 300 rows: 6 of 350, 2 of 300, 1 of 300.
    assert [file.rows for file in files] == pytest.approx([350] * 6 + [300] * 3, abs=5)


def test_rows_that_take_much_memory_are_in_smaller_files(tmp_path: Path) -> None:
    run = str(tmp_path)
    found = images(200, ["bolt"])
    rows = [{"image_id": i.id, "category": i.category, "cells": bytes(4000)} for i in found]
    for start in range(0, 200, 20):
        batch = pa.Table.from_pylist(rows[start : start + 20], schema=FEATURES)
        commit_tables(run, {"features": batch}, primary="features")
    limits = FileLimits(rows=150, memory=100_000)
    built = [
        build_file(run, plan, NOTHING)
        for plan in plan_files(
            list(read_commits(run)), "features", storage.join(run, "t"), limits, {}
        )
    ]
    files = [file for file in built if file is not None]
    assert published_keys(files) == in_order(found)
    sizes = [storage.read_parquet(file.uri).nbytes for file in files]
    assert max(sizes) < 2 * limits.memory  # ids are spread evenly, not exactly
    assert sum(sizes) > 7 * limits.memory


def test_small_categories_share_a_file(tmp_path: Path) -> None:
    run = str(tmp_path)
    found = images(100, [f"c{i:02d}" for i in range(20)])
    commit(run, found)
    files = publish(run, "scores", 50)
    assert [file.rows for file in files] == [50, 50]
    assert published_keys(files) == in_order(found)


def test_an_image_on_the_border_of_two_files_is_in_one(tmp_path: Path) -> None:
    run = str(tmp_path)
    middle = (2**63 - 1) // 2
    found = [Image(number, "a") for number in (0, middle - 1, middle, 2**63 - 2)]
    for image in found:
        commit(run, [image])
    files = publish(run, "scores", 2)
    assert [keys(storage.read_parquet(file.uri)) for file in files] == [
        [("a", 0), ("a", middle - 1)],
        [("a", middle), ("a", 2**63 - 2)],
    ]


def test_digest_size_and_rows_are_those_of_the_file(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    commit(run, images(40), images(50)[40:])
    for table in ("scores", "errors", "detections"):
        for file in publish(run, table):
            content = Path(file.uri).read_bytes()
            assert (file.table, file.bytes) == (table, len(content))
            assert file.sha256 == hashlib.sha256(content).hexdigest()
            assert file.rows == pq.ParquetFile(file.uri).metadata.num_rows


def test_publishing_again_writes_the_same_bytes(tmp_path: Path) -> None:
    run = str(tmp_path)
    for batch in batches(images(60), 7):
        commit(run, batch)
    assert publish(run, "scores") == publish(run, "scores")


def test_a_file_without_rows_is_not_written(tmp_path: Path) -> None:
    run, found = str(tmp_path), images(20, ["a"])
    commit(run, found[:10])
    commit(run, [], found[:10])
    (plan,) = plans(run, "errors", 100)
    assert build_file(run, plan, recovered(run)) is None
    assert not Path(plan.uri).exists()


def test_nothing_committed_is_nothing_published(tmp_path: Path) -> None:
    assert plans(str(tmp_path), "scores") == []


def test_a_file_reads_only_the_parts_that_it_needs(tmp_path: Path) -> None:
    run = str(tmp_path)
    found = sorted(images(100, ["a", "b"]), key=lambda image: (str(image.category), image.id))
    for batch in batches(found, 10):  # each commit lies in one narrow range
        commit(run, batch)
    for plan in plans(run, "scores", 25):
        read = {source.commit for source in plan.sources}
        assert 0 < len(read) <= 4
        assert storage.read_parquet(
            build_file(run, plan, NOTHING).uri  # type: ignore[union-attr]
        ).num_rows


spans = st.lists(
    st.builds(
        Span,
        categories,
        st.integers(0, 2**62),
        st.integers(2**62, 2**63 - 2),
        st.integers(1, 10**6),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(spans, st.integers(1, 10**6), st.lists(st.integers(0, 2**63 - 2), max_size=5))
def test_the_ranges_of_a_category_cover_every_id_once(
    spans: list[Span], file_rows: int, ids: list[int]
) -> None:
    counts: dict[str | None, int] = {}
    for span in spans:
        counts[span.category] = counts.get(span.category, 0) + span.rows
    if sum(counts.values()) > 1000 * file_rows:
        file_rows = sum(counts.values()) // 1000
    files = split_ranges(spans, file_rows)
    ranges = [each for file in files for each in file]
    ordered = sorted(counts, key=lambda name: (name is None, name or ""))
    assert list(dict.fromkeys(each.category for each in ranges)) == ordered
    for category in counts:
        mine = [each for each in ranges if each.category == category]
        assert (mine[0].low, mine[-1].high) == (0, 2**63 - 1)
        assert all(a.high == b.low for a, b in itertools.pairwise(mine))
        for number in ids:
            assert sum(each.low <= number < each.high for each in mine) == 1
    pieces = {name: sum(r.category == name for r in ranges) for name in counts}
    for file in files:
        rows = sum(counts[each.category] / pieces[each.category] for each in file)
        assert rows <= file_rows


# --- damage ---


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_a_damaged_part_stops_the_file_and_names_part_and_commit(tmp_path: Path, how: str) -> None:
    run, found = str(tmp_path), images(20, ["a"])
    commit(run, found[:10])
    bad = commit(run, found[10:])
    file = Path(storage.join(run, "parts", bad.parts["scores"].file))
    if how == "gone":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    (plan,) = plans(run, "scores", 100)
    with pytest.raises(DamagedPartError) as error:
        build_file(run, plan, NOTHING)
    assert (error.value.file, error.value.commit) == (str(file), bad.name)
    assert not Path(plan.uri).exists()

    drop_commit(run, bad.name)
    commit(run, found[10:])  # scored again
    assert published_keys(publish(run, "scores", 100)) == in_order(found)


# --- the record ---


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_record_names_files_relative_to_the_store(slash: str) -> None:
    files = [
        PublishedFile("scores", "s3://b/store/tables/scores/run=r/part-00000.parquet", 7, 70, "a"),
        PublishedFile("scores", "s3://b/store/tables/scores/run=r/part-00001.parquet", 5, 50, "b"),
        PublishedFile("errors", "s3://b/store/tables/errors/run=r/part-00000.parquet", 1, 10, "c"),
    ]
    record = published_record(f"s3://b/store{slash}", files, {"run_id": "r"})
    assert record["run_id"] == "r"
    assert {name: table["rows"] for name, table in record["tables"].items()} == {
        "scores": 12, "errors": 1,
    }  # fmt: skip
    assert record["tables"]["scores"]["files"] == [
        {"path": f"tables/scores/run=r/part-0000{number}.parquet", "rows": rows,
         "bytes": size, "sha256": digest}
        for number, rows, size, digest in ((0, 7, 70, "a"), (1, 5, 50, "b"))
    ]  # fmt: skip
