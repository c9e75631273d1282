"""Rows of published tables by id: all of them, none else, and nothing out of a damaged file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.tables import storage
from pipeline.tables.lookup import (
    DamagedTableError,
    TableFile,
    Wanted,
    columns_of,
    found_rows,
    listed_ids,
    pieces_of,
    rows_of,
    wanted,
)

NAMES = ("bolt", "tile", None)


def publish(folder: Path, rows: Sequence[tuple[str | None, int]], files: int) -> list[TableFile]:
    """Sorted rows in a few files of tiny row groups."""
    ordered = sorted(rows, key=lambda row: (row[0] is None, row[0] or "", row[1]))
    table = pa.table(
        {
            "image_id": pa.array([i for _, i in ordered], pa.int64()),
            "category": pa.array([c for c, _ in ordered], pa.string()),
            "value": pa.array([i * 2 for _, i in ordered], pa.int64()),
        }
    )
    found = []
    edges = np.linspace(0, len(rows), files + 1).astype(int)
    for number in range(files):
        part = table.slice(edges[number], edges[number + 1] - edges[number])
        content = storage.parquet_bytes(part, row_group_rows=3)
        uri = str(folder / f"{number}.parquet")
        storage.write_bytes(uri, content)
        found.append(TableFile("r", uri, hashlib.sha256(content).hexdigest()))
    return found


ROWS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 200)), min_size=1, max_size=40,
    unique_by=lambda row: row[1],
)  # fmt: skip


@given(ROWS, st.lists(st.integers(0, 200), max_size=40, unique=True), st.integers(1, 3), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_rows_are_found_wherever_they_are_thought_to_stand(
    tmp_path: Path,
    rows: list[tuple[str | None, int]],
    ids: list[int],
    files: int,
    data: st.DataObject,
) -> None:
    there = publish(tmp_path, rows, files)
    thought = [data.draw(st.sampled_from(NAMES)) for _ in ids]
    found = rows_of(there, wanted(np.array(ids, np.int64), thought), ["image_id", "value"])
    expected = sorted(i for _, i in rows if i in ids)
    assert sorted(found["image_id"].to_pylist()) == expected
    if expected:
        assert found["value"].to_pylist() == [2 * i for i in found["image_id"].to_pylist()]


def test_row_groups_that_hold_none_of_the_images_are_not_read(tmp_path: Path) -> None:
    rows = [("bolt", i) for i in range(30)] + [("tile", 100 + i) for i in range(30)]
    (file,) = publish(tmp_path, rows, 1)
    ids = np.arange(104, 107)
    groups = list(pieces_of(file, wanted(ids, ["tile"] * 3), ["image_id"]))
    assert [group["image_id"].to_pylist() for group in groups] == [[104, 105], [106]]
    # Of another category nothing is read at first, and then everything.
    assert list(pieces_of(file, wanted(ids, ["bolt"] * 3), ["image_id"])) == []
    assert sum(map(len, found_rows([file], wanted(ids, ["bolt"] * 3), ["image_id"]))) == 3


@pytest.mark.parametrize("place", [4, 0.5, -9])
def test_one_changed_byte_is_damage(tmp_path: Path, place: float) -> None:
    (file,) = publish(tmp_path, [("bolt", i) for i in range(30)], 1)
    content = bytearray(Path(file.uri).read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 4
    Path(file.uri).write_bytes(content)
    with pytest.raises(DamagedTableError) as error:
        rows_of([file], Wanted(np.arange(3), {"bolt": (0, 2)}), ["image_id", "value"])
    assert (error.value.run_id, error.value.file) == ("r", file.uri)
    with pytest.raises(DamagedTableError):
        list(columns_of(file, ["value"]))


def test_a_file_that_is_gone_is_damage(tmp_path: Path) -> None:
    gone = TableFile("r", str(tmp_path / "gone.parquet"), "0")
    for read in (
        lambda: rows_of([gone], wanted(np.arange(2), [None, None]), ["image_id"]),
        lambda: list(columns_of(gone, ["image_id"])),
        lambda: listed_ids(gone),
    ):
        with pytest.raises(DamagedTableError, match="is gone"):
            read()
