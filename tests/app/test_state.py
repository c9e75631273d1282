"""A view travels in the page's address, there and back; what is no view is left out and told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.app.state import KINDS, PAGES, View, from_query, to_query

NAMES = st.none() | st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1, max_size=40
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VIEWS = st.builds(
    View,
    page=st.sampled_from(PAGES),
    run=NAMES,
    category=NAMES,
    policy=NAMES,
    score=NAMES,
    moves=st.dictionaries(st.integers(0, 1000), NUMBERS, max_size=4).map(
        lambda moves: tuple(sorted(moves.items()))
    ),
    labels=st.booleans(),
    kind=st.sampled_from(KINDS),
    defect_type=NAMES,
    low=st.none() | NUMBERS,
    high=st.none() | NUMBERS,
    sheet=st.integers(1, 10**6),
    image=st.none() | st.integers(0, 2**63 - 1),
    boxes=st.booleans(),
    mask=st.booleans(),
    other_policy=NAMES,
    other_run=NAMES,
)


@given(VIEWS)
def test_a_view_comes_back_from_its_address_as_it_was(view: View) -> None:
    assert from_query(to_query(view)) == (view, [])


@pytest.mark.parametrize("name", ["Teil\u00a0A", "左\u3000側", "a\u202eb", "मो\u200dर", "\ue000"])
def test_a_name_with_other_spaces_and_marks_can_be_sent(name: str) -> None:
    view = View(run=name, category=name, defect_type=name)
    assert from_query(to_query(view)) == (view, [])


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\x00b", "a\x85b", "a\ud800b"])
def test_what_no_page_can_hold_is_no_name(name: str) -> None:
    view, problems = from_query({"category": name})
    assert view == View()
    assert problems == [f"category: {name!r}: is no name"]


def test_the_usual_view_has_a_plain_address() -> None:
    assert to_query(View()) == {}


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=400), max_size=6))
def test_no_address_is_an_error(query: dict[str, str]) -> None:
    view, _ = from_query(query)
    assert view.page in PAGES
    assert view.kind in KINDS
    assert view.sheet >= 1


def test_what_is_no_part_of_a_view_is_told() -> None:
    query = {
        "page": "settings",
        "image": "../../etc/passwd",
        "sheet": "0",
        "low": "nan",
        "move0": "inf",
        "moveX": "1",
        "labels": "2",
        "run": "a\nb",
        "x": "1",
        "policy": "p" * 301,
    }
    view, problems = from_query(query | {"category": "tile"})
    assert view == View(category="tile")
    assert sorted(problem.partition(":")[0] for problem in problems) == sorted(query)
