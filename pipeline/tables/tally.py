"""What a run's commits hold together: a byte an image, however many commits there are."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from pipeline.tables.ledger import Commit, Spent, Work, read_commits

_SCORED, _FAILED, _FINAL = 1, 2, 4
_KINDS = ("decoded", "reused", "carried")
# Images looked at together, so that what is computed of each in between takes little.
_STEP = 1 << 18


class Tally:
    """Adds commits up, one by one, and counts an image once.

    Args:
        ids: (N,) int64 ids of the run's images, sorted, each once.

    Attributes:
        ids: the same.
        strange: ids that were committed and are not among them.
        repeated: per commit, its ids that one before it scored too, sorted.
        making: images that were decoded, reused and carried, each counted in its first commit.
    """

    def __init__(self, ids: np.ndarray) -> None:
        self.ids = ids
        self.strange: set[int] = set()
        self.repeated: dict[str, tuple[int, ...]] = {}
        self.making = dict.fromkeys(_KINDS, 0)
        self._state = np.zeros(len(ids), np.uint8)
        self._spent: dict[str, tuple[float, int]] = {}
        self._bytes = 0

    def take(self, commits: Iterable[Commit]) -> list[Commit]:
        """Adds commits, and gives them back without their ids and their work."""
        return [self.add(commit) for commit in commits]

    def add(self, commit: Commit) -> Commit:
        """Adds one."""
        scored, failed = self._places(commit.scored), self._places(commit.failed)
        before = self._state[scored]
        again = scored[before & _SCORED > 0]
        if len(again):
            self.repeated[commit.name] = tuple(self.ids[again].tolist())
        first = np.count_nonzero(before == 0)
        self._state[scored] |= _SCORED
        first += np.count_nonzero(self._state[failed] == 0)
        self._state[failed] |= _FAILED
        final = np.setdiff1d(np.asarray(commit.failed), np.asarray(commit.unreachable))
        self._state[self._places(final)] |= _FINAL
        self.making[commit.made] += int(first)
        self._add_work(commit.work)
        nothing = array("q")
        return replace(commit, scored=nothing, failed=nothing, unreachable=nothing, work=Work())

    def _add_work(self, work: Work) -> None:
        self._bytes += work.bytes
        for spent in work.spent:
            seconds, images = self._spent.get(spent.stage, (0.0, 0))
            self._spent[spent.stage] = (seconds + spent.seconds, images + spent.images)

    def _places(self, ids: Iterable[int]) -> np.ndarray:
        """Where ids stand; those that stand nowhere are strange."""
        wanted = np.asarray(ids, np.int64)
        if not len(self.ids):
            self.strange.update(wanted.tolist())
            return np.empty(0, np.int64)
        places = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        found = self.ids[places] == wanted
        self.strange.update(wanted[~found].tolist())
        there: np.ndarray = np.unique(places[found])
        return there

    @property
    def work(self) -> Work:
        """What all commits took, by stage in the order of the chain."""
        return Work([Spent(stage, *both) for stage, both in self._spent.items()], self._bytes)

    @property
    def scored(self) -> np.ndarray:
        """(N,) bool: has a row in the primary table."""
        return self._has(_SCORED)

    @property
    def committed(self) -> np.ndarray:
        """(N,) bool: has a row in the primary table, or an error."""
        return self._has(_SCORED | _FAILED)

    @property
    def settled(self) -> np.ndarray:
        """(N,) bool: a run that continues has no reason to try it again.

        Files that could not be had are tried again: an outage may have passed.
        """
        return self._has(_SCORED | _FINAL)

    @property
    def recovered(self) -> np.ndarray:
        """Ids that failed in one commit and have a score in another, sorted.

        A file that could not be read before a kill may be readable after it.
        """
        both = _SCORED | _FAILED
        return self._ids_where(lambda here: self._state[here] & both == both)

    def unaccounted(self, skipped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids that are lost, and ids that were committed and shouldn't have been; both sorted.

        Args:
            skipped: (N,) bool: images that are left to other runs.
        """

        def committed(here: slice) -> np.ndarray:
            there: np.ndarray = self._state[here] & (_SCORED | _FAILED) > 0
            return there

        lost = self._ids_where(lambda here: ~(committed(here) | skipped[here]))
        twice = self._ids_where(lambda here: committed(here) & skipped[here])
        return lost, np.sort(np.concatenate([np.array([*self.strange], np.int64), twice]))

    def _ids_where(self, holds: Callable[[slice], np.ndarray]) -> np.ndarray:
        steps = [slice(start, start + _STEP) for start in range(0, len(self.ids), _STEP)]
        found = [self.ids[here][holds(here)] for here in steps]
        return np.concatenate([np.empty(0, np.int64), *found])

    def _has(self, bits: int) -> np.ndarray:
        has = self._state & bits
        # In place, as a run has millions of images.
        answer: np.ndarray = np.not_equal(has, 0, out=has.view(np.bool_))
        return answer


def images_committed(run_folder: str) -> int:
    """Images of a run that are safe, each counted once, where nobody knows which it has.

    Raises:
        InputError: a commit that can't be understood.
    """
    ids = [np.empty(0, np.int64)]
    for commit in read_commits(run_folder):
        ids += [np.asarray(commit.scored), np.asarray(commit.failed)]
    return len(np.unique(np.concatenate(ids)))
