"""Choosing and judging on different images: parts by hash, and cross-fitted selection.

An image's part depends on its group alone, so that near-duplicates and photographs of one part
never stand on both sides, and is the same on every machine, in every order, with or without other
rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.policy.choosing.confusion import Confusion, Flags, Ints, require_both_kinds
from pipeline.policy.choosing.measured import MeasuredOn
from pipeline.policy.choosing.per_category import picked

Words = npt.NDArray[np.uint64]

# Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators": SplitMix64.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
_LAST_SHIFT = np.uint64(31)


def group_words(groups: npt.NDArray[Any], seed: int = 0) -> Words:
    """A well-mixed 64-bit word for every group, the same on every machine.

    Args:
        groups: (N,) integers, or strings.
        seed: another one gives other words.

    Returns:
        (N,) uint64; equal where groups are equal.

    Raises:
        ValueError: groups of another type.
    """
    if np.issubdtype(groups.dtype, np.integer):
        words = groups.astype(np.int64).view(np.uint64)
    elif groups.dtype.kind in "UTO":
        words = _text_words(groups)
    else:
        raise ValueError(f"groups are {groups.dtype}, need integers or strings")
    # The seed is mixed first: two seeds must not be two shifts of one order.
    return _mixed(words ^ _mixed(np.array([seed], np.int64).view(np.uint64)))


def assigned(groups: npt.NDArray[Any], parts: int, seed: int = 0) -> Ints:
    """A part from 0 on for every image; images of a group share it.

    Args:
        groups: (N,) integers, or strings.
        parts: how many, at least 2.
        seed: another one gives another split.

    Raises:
        InputError: fewer than 2 parts.
    """
    if parts < 2:
        raise InputError(f"folds: {parts} can't be told apart from each other; use 2 or more")
    return (group_words(groups, seed) % np.uint64(parts)).astype(np.int64)


def held_out(groups: npt.NDArray[Any], share: float, seed: int = 0) -> Flags:
    """Which images are held out: about `share` of the groups.

    Args:
        groups: (N,) integers, or strings.
        share: in (0, 1).
        seed: another one gives another split.

    Raises:
        InputError: a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise InputError(f"hold-out: share is {share}, needs to be above 0 and below 1")
    return group_words(groups, seed) < np.uint64(int(share * 2.0**64))


@dataclass(frozen=True)
class Fold:
    """Counts of the images that choose, and of those that judge; shapes (P,) or (P, C)."""

    tuning: Confusion
    holdout: Confusion


def leave_one_out(parts: Mapping[int, Confusion]) -> Iterator[Fold]:
    """Every part as the hold-out of all others.

    Args:
        parts: counts by part, as `confusion.parts` makes them.

    Raises:
        InputError: fewer than two parts.
    """
    if len(parts) < 2:
        raise InputError(f"folds: the data has {len(parts)} of them; choosing and judging need 2")
    counts = list(parts.values())
    total = sum(counts[1:], start=counts[0])
    for fold in counts:
        yield Fold(total - fold, fold)


@dataclass(frozen=True)
class CrossFitted:
    """What the way of choosing does on images that had no say in the choice.

    Attributes:
        chosen: (F,) or (F, C) the policy of each fold.
        counts: () or (C,) of all hold-outs together: each image once.
        measured_on: says so.
    """

    chosen: Ints
    counts: Confusion
    measured_on: MeasuredOn


def cross_fitted(folds: Iterable[Fold], choose: Callable[[Confusion], int | Ints]) -> CrossFitted:
    """Chooses on every fold's tuning images and sums what the choices do on its hold-out.

    The figures are of the way of choosing; the policy that all images together choose is not
    measured by them, though it had a little more to go by.

    Args:
        folds: as of `leave_one_out`. Where thresholds are quantiles of the tuning images, each
            fold has its own grid, and its counts are of that grid.
        choose: of counts (P,) or (P, C) the policy, or one for each category (C,).

    Raises:
        InputError: a fold whose tuning images, or all hold-outs, lack defects or good images.
    """
    chosen: list[Ints] = []
    counts: Confusion | None = None
    for number, fold in enumerate(folds):
        require_both_kinds(fold.tuning, f"tuning part of fold {number}")
        choice = np.asarray(choose(fold.tuning), np.int64)
        found = judged(fold.holdout, choice)
        counts = found if counts is None else counts + found
        chosen.append(choice)
    if counts is None:
        raise ValueError("no folds")
    require_both_kinds(counts, "hold-out of all folds")
    return CrossFitted(np.stack(chosen), counts, MeasuredOn("cross-fitted"))


def judged(holdout: Confusion, chosen: int | Ints) -> Confusion:
    """Counts on the hold-out of a policy, or of one for each category.

    Args:
        holdout: (P,) or (P, C).
        chosen: a policy, or (C,) policies.

    Returns:
        Counts () or (C,).
    """
    return (
        picked(holdout, chosen)
        if isinstance(chosen, np.ndarray) and chosen.ndim
        else (holdout.at(chosen))
    )


def _mixed(words: Words) -> Words:
    mixed = words + _GAMMA
    for shift, factor in _MIX:
        mixed = (mixed ^ (mixed >> shift)) * factor
    return mixed ^ (mixed >> _LAST_SHIFT)


def _text_words(groups: npt.NDArray[Any]) -> Words:
    names, place = np.unique(groups, return_inverse=True)
    words = [hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in names.tolist()]
    return np.frombuffer(b"".join(words), "<u8").astype(np.uint64)[place]
