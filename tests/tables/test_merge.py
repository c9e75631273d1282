"""Files with the same content become one image, whatever their order."""

from __future__ import annotations

import hashlib
import random
import tracemalloc
from collections import defaultdict
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.tables.manifest import image_id, uri_id
from pipeline.tables.merge import merge_contents
from pipeline.tables.schemas import MANIFEST


def row(content: str | None, uri: str, **labels: Any) -> dict[str, Any]:
    digest = None if content is None else hashlib.sha256(content.encode()).hexdigest()
    number = image_id(digest) if digest else uri_id(uri)
    return {"image_id": number, "uri": uri, "sha256": digest, "duplicate_uris": []} | labels


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=MANIFEST)


def only(*rows: dict[str, Any]) -> dict[str, Any]:
    """The one row that these become."""
    merged, _ = merge_contents(table(*rows))
    assert merged.num_rows == 1
    found: dict[str, Any] = merged.to_pylist()[0]
    return found


def test_copies_become_a_note_on_one_row() -> None:
    merged, duplicates = merge_contents(
        table(row("x", "b.png"), row("y", "c.png"), row("x", "d.png"), row("x", "a.png"))
    )
    found = {r["uri"]: r["duplicate_uris"] for r in merged.to_pylist()}
    assert found == {"a.png": ["b.png", "d.png"], "c.png": []}
    assert duplicates.copies == 2
    assert duplicates.conflicts == []
    assert merged.schema.equals(MANIFEST, check_metadata=True)


def test_a_uri_that_is_listed_twice_is_not_its_own_copy() -> None:
    merged, duplicates = merge_contents(table(row("x", "a.png"), row("x", "a.png")))
    assert merged["duplicate_uris"].to_pylist() == [[]]
    assert duplicates.copies == 1


def test_a_defect_goes_before_good_wherever_it_lies() -> None:
    good = row("x", "a.png", split="test", defect_type="good", is_defect=False, category="bolt")
    dent = row("x", "b.png", split="train", defect_type="dent", is_defect=True, category="bolt")
    kept = only(good, dent)
    assert (kept["uri"], kept["defect_type"], kept["split"]) == ("b.png", "dent", "train")
    assert kept["duplicate_uris"] == ["a.png"]


def test_a_defect_goes_before_a_row_that_nobody_labelled() -> None:
    assert only(row("x", "a", is_defect=None), row("x", "b", is_defect=True))["is_defect"] is True


@pytest.mark.parametrize("split", ["test", "validation", None])
def test_anything_goes_before_train(split: str | None) -> None:
    kept = only(
        row("x", "a.png", split="train", is_defect=False),
        row("x", "b.png", split=split, is_defect=False),
    )
    assert (kept["uri"], kept["split"]) == ("b.png", split)


@pytest.mark.parametrize(
    "other",
    [
        {"category": "tile"},
        {"split": "test"},
        {"defect_type": "dent"},
        {"is_defect": True},
        {"category": None},
    ],
)
def test_copies_with_other_labels_are_told(other: dict[str, Any]) -> None:
    common = {"category": "bolt", "split": "train", "defect_type": "good", "is_defect": False}
    same = row("x", "a.png", **common), row("x", "b.png", **common)
    assert merge_contents(table(*same))[1].conflicts == []
    differ = row("x", "a.png", **common), row("x", "b.png", **(common | other))
    merged, duplicates = merge_contents(table(*differ))
    assert duplicates.conflicts == merged["uri"].to_pylist()


def test_rows_are_sorted_by_category_and_id_with_none_last() -> None:
    contents = [(str(i), [None, "tile", "bolt", ""][i % 4]) for i in range(40)]
    rows = [row(content, f"{content}.png", category=category) for content, category in contents]
    merged, _ = merge_contents(table(*rows))
    found = list(zip(merged["category"].to_pylist(), merged["image_id"].to_pylist(), strict=True))
    assert found == sorted(found, key=lambda key: (key[0] is None, key[0] or "", key[1]))
    assert [category for category, _ in found] == [""] * 10 + ["bolt"] * 10 + ["tile"] * 10 + [
        None
    ] * 10


def test_files_that_could_not_be_read_stay_apart() -> None:
    merged, duplicates = merge_contents(
        table(row(None, "a.png", index_error="not_found: a"), row(None, "b.png"))
    )
    assert sorted(merged["uri"].to_pylist()) == ["a.png", "b.png"]
    assert duplicates.copies == 0


def test_two_contents_with_one_id_are_refused() -> None:
    one, other = row("x", "a.png"), row("y", "b.png")
    with pytest.raises(InputError, match=r"^a\.png and b\.png differ but have the same image_id"):
        merge_contents(table(one, other | {"image_id": one["image_id"]}))


def test_an_unreadable_file_with_the_id_of_a_content_is_refused() -> None:
    one, other = row("x", "a.png"), row(None, "b.png")
    with pytest.raises(InputError, match="same image_id"):
        merge_contents(table(one, other | {"image_id": one["image_id"]}))


def test_nothing_stays_nothing() -> None:
    merged, duplicates = merge_contents(table())
    assert (merged.num_rows, duplicates.copies, duplicates.conflicts) == (0, 0, [])
    assert merged.schema == MANIFEST


labelled_rows = st.lists(
    st.builds(
        row,
        st.sampled_from(["x", "y", "z", "w", None]),
        st.sampled_from(["a", "b", "c", "ü d"]),
        category=st.sampled_from(["bolt", "tile", None]),
        split=st.sampled_from(["train", "test", None]),
        defect_type=st.sampled_from(["good", "dent", None]),
        is_defect=st.sampled_from([True, False, None]),
        line=st.sampled_from(["1", None]),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(rows=labelled_rows, seed=st.integers(0, 10))
def test_the_order_of_the_files_plays_no_part(rows: list[dict[str, Any]], seed: int) -> None:
    shuffled = random.Random(seed).sample(rows, len(rows))
    first, one = merge_contents(table(*rows))
    second, other = merge_contents(table(*shuffled))
    assert first.equals(second)
    assert one == other or (one.copies, sorted(one.conflicts)) == (
        other.copies, sorted(other.conflicts),
    )  # fmt: skip


def one_by_one(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """The merged rows, and which of them have copies with other labels, from every row as it is."""
    contents = defaultdict(list)
    for each in rows:
        contents[each["image_id"]].append(each)
    merged, conflicts = [], []
    for _, same in sorted(contents.items()):
        kept = min(
            same,
            key=lambda r: (not r["is_defect"], r["split"] == "train", r["uri"], str(r)),
        )
        stamps = {r["uri"]: f"{r['bytes']} {r['etag']}" for r in same}
        others = sorted(stamps.keys() - {kept["uri"]})
        seen = [stamps[uri] for uri in others]
        merged.append(kept | {"duplicate_uris": others, "duplicate_stamps": seen})
        labels = ("category", "split", "defect_type", "is_defect")
        if any(r[name] != kept[name] for r in same for name in labels):
            conflicts.append(kept["uri"])
    order = sorted(merged, key=lambda r: (r["category"] is None, r["category"], r["image_id"]))
    return order, conflicts


@settings(deadline=None)
@given(labelled_rows, st.integers(0, 12))
def test_the_rows_are_those_of_a_merge_one_by_one(rows: list[dict[str, Any]], cut: int) -> None:
    # A URI that is listed twice is one file.
    whole = table(*(r | {"bytes": 7, "etag": f"of {r['uri']}"} for r in rows))
    parts = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])
    found, duplicates = merge_contents(parts)
    assert (found.to_pylist(), duplicates.conflicts) == one_by_one(whole.to_pylist())
    assert found.schema.equals(MANIFEST, check_metadata=True)


def test_a_file_without_copies_costs_no_kilobyte() -> None:
    rows = table(*(row(str(number), f"{number}.png") for number in range(5000)))
    tracemalloc.start()
    try:
        merge_contents(rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200 * len(rows)


@settings(deadline=None)
@given(labelled_rows)
def test_every_content_stands_once_and_no_file_is_lost(rows: list[dict[str, Any]]) -> None:
    merged, duplicates = merge_contents(table(*rows))
    places = defaultdict(set)
    for each in rows:
        places[each["image_id"]].add(each["uri"])
    found = merged.to_pylist()
    assert sorted(r["image_id"] for r in found) == sorted(places)
    for each in found:
        assert {each["uri"], *each["duplicate_uris"]} == places[each["image_id"]]
        assert each["uri"] not in each["duplicate_uris"]
        mine = [r for r in rows if r["image_id"] == each["image_id"]]
        assert bool(each["is_defect"]) == any(r["is_defect"] for r in mine)
    assert duplicates.copies == len(rows) - len(found)
