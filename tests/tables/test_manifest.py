"""Manifests: what is written is read, and what can't be built on is refused with its place."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.manifest import (
    MANIFEST_ROW_GROUP,
    image_id,
    open_manifest,
    pieces,
    read_piece,
    require_unchanged,
    rows_at,
    uri_id,
    with_all_columns,
    write_manifest,
)
from pipeline.tables.schemas import MANIFEST

CATEGORIES = ["bolt", "tile", None]


def rows(count: int, **changes: list[Any]) -> pa.Table:
    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(count)]
    values = {
        "image_id": [image_id(digest) for digest in digests],
        "uri": [f"/archive/größe {i}.png" for i in range(count)],
        "duplicate_uris": [[f"/copy/{i}.png"] * (i % 2) for i in range(count)],
        "sha256": digests,
        "category": [CATEGORIES[i % 3] for i in range(count)],
        "is_defect": [[True, False, None][i % 3] for i in range(count)],
    }
    return with_all_columns(pa.table(values | changes))


def write(folder: Path, table: pa.Table, name: str = "m.parquet") -> str:
    """As another tool would write it: without the checks."""
    file = folder / name
    pq.write_table(table, file)
    return str(file)


def refusal(uri: str, field: str = "manifest") -> str:
    with pytest.raises(InputError) as error:
        open_manifest(uri, field)
    return str(error.value)


# --- ids ---


@settings(deadline=None)
@given(st.binary())
def test_an_id_is_the_first_63_bits_of_the_sha256(content: bytes) -> None:
    digest = hashlib.sha256(content)
    bits = "".join(f"{byte:08b}" for byte in digest.digest())
    found = image_id(digest.hexdigest())
    assert found == int(bits[:63], 2)
    assert 0 <= found < 2**63
    assert pa.array([found], pa.int64())[0].as_py() == found


def test_the_largest_digest_still_fits() -> None:
    assert image_id("f" * 64) == 2**63 - 1
    assert image_id("0" * 64) == 0


@settings(deadline=None)
@given(st.text())
def test_a_file_that_cannot_be_read_has_the_id_of_its_uri(uri: str) -> None:
    assert uri_id(uri) == image_id(hashlib.sha256(uri.encode()).hexdigest())


# --- the round trip ---


@pytest.mark.parametrize("count", [0, 1, 7 * MANIFEST_ROW_GROUP + 7])
def test_what_is_written_is_read(tmp_path: Path, count: int) -> None:
    uri = str(tmp_path / "manifests" / "demo.parquet")
    table = rows(count)
    write_manifest(uri, table)
    manifest = open_manifest(uri)
    assert (manifest.uri, manifest.rows) == (uri, count)
    assert manifest.image_ids.dtype == np.int64
    assert manifest.image_ids.tolist() == table["image_id"].to_pylist()
    assert manifest.categories == Counter(table["category"].to_pylist())
    assert manifest.digest == hashlib.sha256(Path(uri).read_bytes()).hexdigest()
    assert storage.read_parquet(uri).equals(table)
    assert storage.read_parquet(uri).schema.metadata == MANIFEST.metadata


def test_a_manifest_is_read_in_pieces(tmp_path: Path) -> None:
    uri = str(tmp_path / "m.parquet")
    write_manifest(uri, rows(MANIFEST_ROW_GROUP + 1))
    assert pq.ParquetFile(uri).metadata.num_row_groups == 2


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    places = [str(tmp_path / f"{name}.parquet") for name in "abc"]
    write_manifest(places[0], rows(5))
    write_manifest(places[1], rows(5))
    write_manifest(places[2], rows(5, category=["bolt"] * 5))
    first, same, other = (open_manifest(uri).digest for uri in places)
    assert first == same != other


def test_a_manifest_of_another_tool_may_leave_columns_out(tmp_path: Path) -> None:
    table = rows(4).select(["uri", "sha256", "category", "image_id"])
    manifest = open_manifest(write(tmp_path, table))
    assert manifest.image_ids.tolist() == table["image_id"].to_pylist()
    full = with_all_columns(table)
    assert full.schema.equals(MANIFEST, check_metadata=True)
    assert full["fold"].null_count == 4
    assert full["uri"].equals(table["uri"])


def test_a_column_that_is_null_throughout_needs_no_type(tmp_path: Path) -> None:
    table = rows(4).select(["image_id", "uri", "sha256"]).append_column("category", pa.nulls(4))
    table = table.append_column("split", pa.nulls(4))
    assert open_manifest(write(tmp_path, table)).categories == {None: 4}
    assert with_all_columns(table).schema == MANIFEST


# --- refusals ---


@pytest.mark.parametrize("name", ["image_id", "uri", "sha256", "category"])
def test_a_missing_column_is_named_beside_those_there_are(tmp_path: Path, name: str) -> None:
    uri = write(tmp_path, rows(3).drop_columns([name]))
    message = refusal(uri)
    assert message.startswith(f"manifest: {uri}: has no column {name!r} (it has ")
    assert message.endswith("; make the manifest with jobs/index.py")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("image_id", pa.string()), ("uri", pa.int64()), ("is_defect", pa.string()),
     ("group_id", pa.float64()), ("captured_at", pa.string())],
)  # fmt: skip
def test_a_column_of_another_type_is_named_with_both(
    tmp_path: Path, name: str, kind: pa.DataType
) -> None:
    table = rows(3)
    place = table.schema.get_field_index(name)
    other = pa.array([None if name not in ("image_id", "uri") else i for i in range(3)])
    uri = write(tmp_path, table.set_column(place, name, other.cast(kind)))
    wanted = MANIFEST.field(name).type
    assert refusal(uri) == (
        f"manifest: {uri}: column {name!r} is {kind}, where {wanted} belongs; "
        "convert it, or make the manifest with jobs/index.py"
    )


@pytest.mark.parametrize("name", ["image_id", "uri"])
@pytest.mark.parametrize("row", [0, 1, 70_003])
def test_a_null_is_named_with_its_row(tmp_path: Path, name: str, row: int) -> None:
    count = 70_010
    values: list[Any] = list(range(count)) if name == "image_id" else ["u"] * count
    values[row] = None
    kind = MANIFEST.field(name).type
    table = pa.table(
        {"image_id": pa.array(range(count)), "uri": ["u"] * count, "sha256": ["s"] * count,
         "category": ["c"] * count}
    )  # fmt: skip
    place = table.schema.get_field_index(name)
    uri = write(tmp_path, table.set_column(place, name, pa.array(values, kind)))
    assert refusal(uri) == (f"manifest: {uri}: row {row}: {name} is null; every image needs one")


def test_an_id_that_stands_twice_is_named(tmp_path: Path) -> None:
    ids = [5, 9, 7, 9, 9, 5]
    message = refusal(write(tmp_path, rows(6, image_id=ids)))
    assert "image_id 5 stands more than once (3 such rows)" in message
    assert "duplicate_uris" in message


@pytest.mark.parametrize("strange", [-1, -(2**63), 2**63 - 1])
def test_an_id_that_is_none_is_named(tmp_path: Path, strange: int) -> None:
    message = refusal(write(tmp_path, rows(3, image_id=[1, strange, 2])))
    assert f": image_id {strange} is not in [0, 2^63 - 1)" in message


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    file = tmp_path / "m.parquet"
    for content in (b"", b"image_id,uri\n", write_and_cut(tmp_path)):
        file.write_bytes(content)
        assert refusal(str(file)).startswith(f"manifest: {file}: can't be read as Parquet: ")


def write_and_cut(folder: Path) -> bytes:
    return Path(write(folder, rows(50), "whole.parquet")).read_bytes()[:-30]


def test_a_page_that_is_damaged(tmp_path: Path) -> None:
    file = Path(write(tmp_path, rows(50)))
    content = bytearray(file.read_bytes())
    content[6:30] = b"\xff" * 24
    file.write_bytes(content)
    assert refusal(str(file)).startswith(f"manifest: {file}: can't be read as Parquet: ")


def test_a_file_that_is_not_there_is_named_with_its_setting(tmp_path: Path) -> None:
    uri = f"{tmp_path}/absent.parquet"
    assert refusal(uri, "reference") == f"reference: {uri}: there is no such file or folder"
    assert refusal(str(tmp_path)) == f"manifest: {tmp_path}: Is a directory"


def test_a_manifest_that_pandas_or_polars_wrote_again_is_read(tmp_path: Path) -> None:
    import polars

    original = tmp_path / "original.parquet"
    write_manifest(str(original), rows(5))
    again = tmp_path / "again.parquet"
    polars.read_parquet(original).write_parquet(again)
    ids = [open_manifest(str(file)).image_ids.tolist() for file in (original, again)]
    assert ids[0] == ids[1]
    found = with_all_columns(pq.read_table(again))
    assert found.equals(with_all_columns(pq.read_table(original)))


def test_optional_columns_may_be_absent(tmp_path: Path) -> None:
    few = rows(4).select(["image_id", "uri", "sha256", "category"])
    pq.write_table(few, tmp_path / "few.parquet")
    assert open_manifest(str(tmp_path / "few.parquet")).rows == 4
    assert with_all_columns(few)["mask_uri"].null_count == 4


def test_pieces_are_all_the_rows_in_order(tmp_path: Path) -> None:
    uri = str(tmp_path / "m.parquet")
    whole = rows(11)
    pq.write_table(whole.drop_columns(["fold"]), uri, row_group_size=5)
    columns = ["image_id", "uri", "fold"]
    cut = pieces(uri, 3)
    assert cut == [(0, 0, 3), (0, 3, 2), (1, 0, 3), (1, 3, 2), (2, 0, 1)]
    found = pa.concat_tables([read_piece(uri, piece, columns) for piece in cut])
    assert whole["fold"].null_count == 11
    assert found.equals(whole.select(columns))


def test_a_piece_of_a_manifest_that_was_written_anew_is_told(tmp_path: Path) -> None:
    uri = str(tmp_path / "m.parquet")
    pq.write_table(rows(11), uri, row_group_size=5)
    cut = pieces(uri, 5)
    opened = open_manifest(uri)
    require_unchanged(opened)
    pq.write_table(rows(8), uri, row_group_size=5)
    told = r"m\.parquet: was written anew while this run read"
    with pytest.raises(InputError, match=told):
        require_unchanged(opened)
    assert read_piece(uri, cut[0], ["image_id"]).num_rows == 5
    for gone in cut[1:]:  # shorter, and not there
        with pytest.raises(InputError, match=told):
            read_piece(uri, gone, ["image_id"])
    assert rows_at(uri, np.array([6, 7]), ["image_id"]).num_rows == 2
    with pytest.raises(InputError, match=told):
        rows_at(uri, np.array([6, 8]), ["image_id"])
