"""Which files an earlier index knows, against a reference that asks one question a file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tables import earlier
from pipeline.tables.earlier import (
    Earlier,
    Known,
    carried_over,
    compare,
    in_order,
    place_of,
    stamp,
)
from pipeline.tables.layout import Entry
from pipeline.tables.manifest import with_all_columns
from pipeline.tables.schemas import MANIFEST

TIME = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)

times = st.none() | st.integers(-3, 3).map(lambda us: TIME + timedelta(microseconds=us))
states = st.tuples(st.none() | st.integers(0, 2), st.none() | st.sampled_from(["e", "f"]), times)
listings = st.dictionaries(st.sampled_from("abcdefgh"), states)


@given(listings, listings, st.sets(st.sampled_from("abcdefgh")))
def test_a_file_is_taken_over_only_in_the_state_that_was_read(
    before: dict, now: dict, unread: set[str]
) -> None:
    files = {
        uri: Known(None if uri in unread else f"sha of {uri}", state[0], stamp(*state))
        for uri, state in before.items()
    }
    known_files = Earlier("m", MANIFEST.empty_table(), files)
    found = compare([Entry(uri, *state) for uri, state in now.items()], known_files)
    for (uri, state), known in zip(now.items(), found.known, strict=True):
        told = state[0] is not None and (state[1] is not None or state[2] is not None)
        same = uri in before and same_state(state, before[uri])
        taken = told and same and uri not in unread
        assert known == (files[uri] if taken else None)
    assert found.counts["new"] == len(now.keys() - before.keys())
    assert found.counts["gone"] == len(before.keys() - now.keys())
    assert found.counts["tried_again"] == len(now.keys() & before.keys() & unread)
    assert sum(found.counts.values()) == len(now.keys() | before.keys())


def same_state(one: tuple, other: tuple) -> bool:
    """Size and ETag where there is one, else size and time; never an order of times."""
    if one[1] is not None or other[1] is not None:
        return one[:2] == other[:2]
    return one == other


def test_an_etag_is_never_taken_for_a_time() -> None:
    instant = stamp(5, None, TIME)
    assert instant is not None
    assert stamp(5, instant.split(" ")[1].lstrip("@"), None) != instant


def manifest(**columns: list) -> pa.Table:
    return with_all_columns(
        pa.table({n: pa.array(v, MANIFEST.field(n).type) for n, v in columns.items()})
    )


given_columns = {
    "category": st.sampled_from(["bolt", "tile", None]),
    "is_defect": st.sampled_from([True, False, None]),
    "defect_type": st.sampled_from(["good", "dent", None]),
    "mask_uri": st.sampled_from(["m.png", None]),
    "role": st.sampled_from(["fit", "test", None]),
    "split": st.sampled_from(["train", None]),
    "fold": st.sampled_from([3, None]),
    "group_id": st.sampled_from([1, None]),
    "captured_at": st.sampled_from([TIME, None]),
    "line": st.sampled_from(["north", None]),
}
# No float holds them.
large_ids = st.integers((1 << 62) + 1, (1 << 62) + 6)
given_rows = st.dictionaries(large_ids, st.fixed_dictionaries(given_columns), max_size=6)


@given(given_rows, given_rows, st.frozensets(large_ids), st.integers(0, 6))
def test_each_row_gets_what_it_lacks_as_one_by_one(
    before: dict, now: dict, labelled: frozenset[int], cut: int
) -> None:
    def rows(known: dict) -> pa.Table:
        named = [{"image_id": n, "uri": f"{n}.png"} | facts for n, facts in known.items()]
        whole = pa.Table.from_pylist(named, schema=MANIFEST)
        return pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])

    wanted, changed = [], []
    for number, facts in now.items():
        old = before.get(number, {})
        pairs = [(facts[name], old.get(name)) for name in ("category", "is_defect")]
        if any(None not in pair and pair[0] != pair[1] for pair in pairs):
            changed.append(f"{number}.png")
            old = {}
        # What a person left open stays open; a good image has no mask.
        closed = {"is_defect", "defect_type"} if number in labelled else set()
        closed |= {"mask_uri"} if closed and facts["is_defect"] is False else set()
        wanted.append(
            {"image_id": number}
            | {
                name: old.get(name) if value is None and name not in closed else value
                for name, value in facts.items()
            }
        )
    found, relabelled = carried_over(rows(now), Earlier("m", rows(before), {}), labelled)
    wanted.sort(key=lambda row: (row["category"] is None, row["category"], row["image_id"]))
    assert found.select(["image_id", *given_columns]).to_pylist() == wanted
    assert relabelled == changed
    assert found.schema.equals(MANIFEST, check_metadata=True)


def test_rows_with_more_text_than_a_column_holds_come_in_the_same_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"{number * 37 % 100}" for number in range(100)]
    whole = manifest(
        image_id=[int(name) for name in names],
        uri=names,
        category=[None if int(name) % 5 == 0 else f"c{int(name) % 3}" for name in names],
        duplicate_uris=[[name] * (int(name) % 3) for name in names],
    )
    rows = pa.concat_tables([whole.slice(0, 30), whole.slice(30)])
    wanted = in_order(rows)
    monkeypatch.setattr(earlier, "_MOST_BYTES", 1000)
    monkeypatch.setattr(earlier, "_ROWS_A_STEP", 7)
    found = in_order(rows)
    assert found.equals(wanted)
    assert found.schema.equals(MANIFEST, check_metadata=True)
    assert found.column("uri").num_chunks == 15


def test_what_was_given_follows_the_content_where_the_truth_is_the_same() -> None:
    before = manifest(
        image_id=[1, 2, 3, 4],
        uri=["a", "b", "c", "d"],
        category=["bolt", "bolt", "bolt", None],
        is_defect=[False, False, None, None],
        role=["fit", "normal_calibration", "test", "fit"],
        group_id=[7, 8, 9, 10],
        fold=[0, 1, None, 2],
    )
    now = manifest(
        image_id=[1, 2, 3, 5, 4],
        uri=["moved", "b", "c", "new", "d"],
        category=["bolt", "bolt", "bolt", "bolt", None],
        is_defect=[False, True, True, None, None],
        role=["test", None, None, None, None],  # a list says so: it knows better
    )
    found, relabelled = carried_over(now, Earlier("m", before, {}))
    assert relabelled == ["b"]
    assert found.schema == MANIFEST
    assert found.select(["image_id", "role", "group_id", "fold", "is_defect"]).to_pylist() == [
        {"image_id": 1, "role": "test", "group_id": 7, "fold": 0, "is_defect": False},
        {"image_id": 2, "role": None, "group_id": None, "fold": None, "is_defect": True},
        {"image_id": 3, "role": "test", "group_id": 9, "fold": None, "is_defect": True},
        {"image_id": 5, "role": None, "group_id": None, "fold": None, "is_defect": None},
        {"image_id": 4, "role": "fit", "group_id": 10, "fold": 2, "is_defect": None},
    ]


def test_a_manifest_is_named_by_its_name_or_its_path(tmp_path: object) -> None:
    assert place_of("plant", "s3://b/store") == "s3://b/store/manifests/plant.parquet"
    assert place_of("s3://b/x.parquet", "/store") == "s3://b/x.parquet"
    assert place_of(f"{tmp_path}/x.parquet", "/store") == f"{tmp_path}/x.parquet"
