"""Counts by column against a count of images one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.policy.choosing import confusion as module
from pipeline.policy.choosing.confusion import (
    Confusion,
    Population,
    by_category,
    by_defect_type,
    confusion,
    load,
    parts,
    require_both_kinds,
)
from tests.policy.choosing.counting import Images, counts_of, decided, random_images


def one_by_one(images: Images, policy: int, chosen: np.ndarray) -> dict[str, int]:
    found = dict.fromkeys(("tp", "fp", "tn", "fn", "review_defects", "review_goods"), 0)
    for place in np.flatnonzero(chosen).tolist():
        truth, decision = int(images.defect[place]), int(images.decision[policy, place])
        if truth >= 0:
            names = (("fp", "review_goods", "tn"), ("tp", "review_defects", "fn"))
            found[names[truth][decision]] += 1
    return found


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_every_column_counts_its_images(seed: int, known: bool) -> None:
    images = random_images(seed, known=known)
    engine = decided(images)
    for columns in (by_category(engine.population), by_defect_type(engine.population)):
        counts = confusion(engine, columns)
        for k, (category, kind) in enumerate(
            zip(columns.category, columns.defect_type, strict=True)
        ):
            chosen = images.category == category
            if kind is not None:
                chosen &= images.defect_type == kind
            for policy in range(len(images.decision)):
                for name, number in one_by_one(images, policy, chosen).items():
                    assert getattr(counts, name)[policy, k] == number, name


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_parts_add_up_to_the_whole(seed: int) -> None:
    engine = decided(random_images(seed))
    columns = by_category(engine.population)
    one, two, three = parts(engine, columns).values()
    whole, summed = confusion(engine, columns), one + two + three
    for name in ("fn", "fp", "review_defects", "review_goods", "defects", "goods"):
        np.testing.assert_array_equal(getattr(summed, name), getattr(whole, name))
        np.testing.assert_array_equal(getattr(whole - one, name), getattr(two + three, name))


def test_counting_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = decided(random_images(5))
    columns = by_category(engine.population)
    whole = confusion(engine, columns)
    monkeypatch.setattr(module, "BLOCK", 2)
    np.testing.assert_array_equal(confusion(engine, columns).fp, whole.fp)


def test_unlabelled_images_have_a_load_and_no_errors() -> None:
    images = random_images(3, known=False)
    engine = decided(images)
    columns = by_category(engine.population)
    found = load(engine, columns, engine.population.defect < 0)
    unknown = images.defect < 0
    for k, category in enumerate(columns.category):
        of = images.decision[:, unknown & (images.category == category)]
        np.testing.assert_array_equal(found.flagged[:, k], (of == 0).sum(1))
        np.testing.assert_array_equal(found.reviewed[:, k], (of == 1).sum(1))
        assert (found.images[:, k] == of.shape[1]).all()
    assert confusion(engine, columns).total().defects[0] == (images.defect == 1).sum()


def test_review_by_a_person_or_as_a_flag() -> None:
    counts = Confusion(*(np.array(n) for n in (1, 2, 3, 4, 10, 20)))
    person, flagged = counts.with_review("person"), counts.with_review("flagged")
    assert [int(n) for n in (person.tp, person.fp, person.tn, person.fn)] == [9, 2, 18, 1]
    assert [int(n) for n in (flagged.tp, flagged.fp, flagged.tn, flagged.fn)] == [9, 6, 14, 1]
    assert [int(n) for n in (counts.tp, counts.tn, counts.reviewed)] == [6, 14, 7]


def test_policies_without_review_need_no_array_of_it() -> None:
    images = random_images(4)
    engine = decided(images, review=False)
    counts = confusion(engine, by_category(engine.population))
    assert not counts.reviewed.any()
    assert counts.at(0).shape == (3,)
    assert counts.at([2, 1]).total().fp.tolist() == counts.fp[[2, 1]].sum(1).tolist()


@pytest.mark.parametrize(
    ("defects", "goods", "says"),
    [
        (0, 5, "hold-out: has no defects (0 defects, 5 good"),
        (5, 0, "hold-out: has no good images (5 defects, 0 good"),
        (0, 0, "hold-out: has no defects and no good images"),
    ],
)
def test_a_part_without_one_kind_is_refused(defects: int, goods: int, says: str) -> None:
    with pytest.raises(InputError) as caught:
        require_both_kinds(counts_of([0, 0], [0, 0], defects, goods), "hold-out")
    assert says in str(caught.value)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="need all the same"):
        Confusion(*(np.zeros(n, np.int64) for n in (2, 2, 2, 2, 2, 3)))
    with pytest.raises(ValueError, match="equally many"):
        Population(["a"], np.array([1, 0]), np.array([1, 1]), ["x", "y"], np.array([0, 0]))
    with pytest.raises(ValueError, match="-1 where nobody knows"):
        Population(["a"], np.array([2]), np.array([1]), ["x"], np.array([0]))
