"""The groups that rows are counted in: category, defect type, label, side of a hold-out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import RunError
from pipeline.evaluation.table import ScoredTable
from pipeline.tables.labels import truth_codes

Codes = npt.NDArray[np.int64]
Columns = Mapping[str, pa.Array]
LABELS = ("category", "defect_type", "is_defect")
LABEL_CODES = {None: -1, False: 0, True: 1}


@dataclass(frozen=True, order=True)
class Group:
    """Rows that are counted together.

    Attributes:
        category: their category; None: they have none, which may stand as an empty text too.
        defect_type: their true type; None: not known.
        is_defect: their label; None: nobody knows.
        side: of the hold-out; empty: there is none.
    """

    category: str | None
    defect_type: str | None
    is_defect: bool | None
    side: str


@dataclass(frozen=True)
class Sides:
    """How rows are told apart for choosing and judging.

    Attributes:
        names: of the sides.
        meanings: the columns that decide it.
        side_of: from these columns (N,) numbers of sides, -1 for rows that take no part.
        says: in words.
        depends_on: what else a row's side follows from, such as other rows of the table.
    """

    names: tuple[str, ...] = ("",)
    meanings: tuple[str, ...] = ()
    side_of: Callable[[Columns], Codes] | None = None
    says: str = "all rows"
    depends_on: str = ""

    @property
    def identity(self) -> str:
        """Equal ones tell every row apart alike."""
        return repr((self.names, self.says, self.depends_on))


@dataclass
class _Vocabulary:
    """Strings and their numbers, in the order in which they came; 0 is null."""

    words: dict[str | None, int] = field(default_factory=lambda: {None: 0})

    def codes(self, column: pa.Array, *, grow: bool) -> Codes:
        """(N,) numbers; unseen strings get the next one, or -1 where it may not grow."""
        if pa.types.is_null(column.type):
            return np.zeros(len(column), np.int64)
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        words = column.dictionary.cast(pa.string()).to_pylist()
        numbers = np.array([0, *(self._number(word, grow=grow) for word in words)], np.int64)
        places = pc.fill_null(column.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        codes: Codes = numbers[places + 1]
        return codes

    def _number(self, word: str | None, *, grow: bool) -> int:
        return self.words.setdefault(word, len(self.words)) if grow else self.words.get(word, -1)


@dataclass
class Grouping:
    """The groups of a table, and which group each row is in.

    Attributes:
        groups: in order of category, type, label and side.
        counts: (groups,) rows of each.
        excluded: rows that take no part.
    """

    groups: tuple[Group, ...]
    counts: Codes
    excluded: int
    _sides: Sides
    _types: bool
    _vocabularies: tuple[_Vocabulary, _Vocabulary]
    _numbers: dict[tuple[int, int, int, int], int]
    _table: npt.NDArray[np.int64] | None = None

    @classmethod
    def of(cls, table: ScoredTable, sides: Sides, *, types: bool = True) -> Grouping:
        """Looks through the labels of a table once.

        Args:
            table: the rows.
            sides: which rows take part, and for what.
            types: keep defect types apart.

        Raises:
            InputError: a label that is neither 0 nor 1.
        """
        return cls.from_counts(group_counts(table, sides, types=types), sides, types=types)

    @classmethod
    def from_counts(
        cls, counts: Mapping[Group | None, int], sides: Sides, *, types: bool = True
    ) -> Grouping:
        """The same from what `group_counts` found, in one table or added over several."""
        merged: Counter[Group] = Counter()
        for group, count in counts.items():
            if group is not None:
                merged[replace(group, category=group.category or None)] += count
        groups = sorted(merged, key=_sortable)
        words = (
            dict.fromkeys([None, *(group.category for group in groups)]),
            dict.fromkeys([None, *(group.defect_type for group in groups)]),
        )
        vocabularies = (_numbered(words[0]), _numbered(words[1]))
        # Tables that went through CSV have an empty text where others have null.
        vocabularies[0].words[""] = vocabularies[0].words[None]
        numbers = {
            (
                vocabularies[0].words[group.category],
                vocabularies[1].words[group.defect_type],
                LABEL_CODES[group.is_defect] + 1,
                sides.names.index(group.side),
            ): place
            for place, group in enumerate(groups)
        }
        found = np.array([merged[group] for group in groups], np.int64)
        return cls(tuple(groups), found, counts.get(None, 0), sides, types, vocabularies, numbers)

    @property
    def meanings(self) -> tuple[str, ...]:
        """The columns that `codes` reads."""
        return (*LABELS, *self._sides.meanings)

    @property
    def identity(self) -> str:
        """Of how rows are told apart."""
        return repr((self._sides.identity, self._types))

    @property
    def sides(self) -> tuple[str, ...]:
        """Names of the sides, in order."""
        return self._sides.names

    @property
    def categories(self) -> tuple[str | None, ...]:
        """All categories, sorted; None last."""
        return tuple(dict.fromkeys(group.category for group in self.groups))

    def codes(self, columns: Columns) -> Codes:
        """(N,) numbers of groups, -1 for rows that take no part.

        Raises:
            RunError: a row is of no group that was seen.
        """
        keys = _keys(columns, self._vocabularies, self._sides, types=self._types, grow=False)
        shape = self._shape
        if self._table is None:
            self._table = np.full(int(np.prod(shape)), -1, np.int64)
            for key, number in self._numbers.items():
                self._table[np.ravel_multi_index(key, shape)] = number
        flat = np.ravel_multi_index(tuple(np.maximum(part, 0) for part in keys), shape)
        unseen = (keys[0] < 0) | (keys[1] < 0)
        codes = np.where(unseen, -1, self._table[flat])
        if (codes[keys[3] >= 0] < 0).any():
            raise RunError("the table changed while it was read; evaluate again")
        return np.where(keys[3] < 0, -1, codes)

    @property
    def _shape(self) -> tuple[int, int, int, int]:
        categories, types = (len(v.words) for v in self._vocabularies)
        return categories, types, 3, len(self._sides.names)


def group_counts(
    table: ScoredTable, sides: Sides, *, types: bool = True
) -> dict[Group | None, int]:
    """How many rows of a table are in each group; under None those that take no part.

    Raises:
        InputError: a label that is neither 0 nor 1.
    """
    vocabularies = (_Vocabulary(), _Vocabulary())
    found: dict[tuple[int, int, int, int], int] = {}
    excluded = 0
    for columns in table.batches([*LABELS, *sides.meanings]):
        keys = _keys(columns, vocabularies, sides, types=types, grow=True)
        excluded += int((keys[3] < 0).sum())
        for key, count in _counted([part[keys[3] >= 0] for part in keys]):
            found[key] = found.get(key, 0) + count
    words = [list(vocabulary.words) for vocabulary in vocabularies]
    labels = {code + 1: label for label, code in LABEL_CODES.items()}
    groups: dict[Group | None, int] = {
        Group(words[0][c], words[1][t], labels[y], sides.names[s]): count
        for (c, t, y, s), count in found.items()
    }
    return groups | {None: excluded}


def _numbered(words: Mapping[str | None, None]) -> _Vocabulary:
    return _Vocabulary({word: number for number, word in enumerate(words)})


def _sortable(group: Group) -> tuple[Any, ...]:
    """Nulls last, and good before the defect types."""
    return (
        group.category is None,
        group.category or "",
        group.defect_type is None,
        group.is_defect is not False,
        group.defect_type or "",
        group.is_defect is None,
        group.side,
    )


def _keys(
    columns: Columns, vocabularies: Sequence[_Vocabulary], sides: Sides, *, types: bool, grow: bool
) -> tuple[Codes, Codes, Codes, Codes]:
    category, kind = (
        vocabulary.codes(columns[name], grow=grow)
        for vocabulary, name in zip(vocabularies, LABELS, strict=False)
    )
    if not types:
        kind = np.zeros_like(kind)
    label = _labels(columns["is_defect"])
    side = np.zeros(len(label), np.int64) if sides.side_of is None else sides.side_of(columns)
    return category, kind, label, side


def _labels(column: pa.Array) -> Codes:
    """(N,) 0 for not known, 1 for good, 2 for a defect.

    Raises:
        InputError: a number that is neither 0 nor 1.
    """
    labels: Codes = truth_codes(column) + 1
    return labels


def _counted(keys: Sequence[Codes]) -> Iterator[tuple[tuple[int, int, int, int], int]]:
    if not len(keys[0]):
        return
    shape = tuple(int(part.max()) + 1 for part in keys)
    counts = np.bincount(np.ravel_multi_index(tuple(keys), shape))
    for flat in np.flatnonzero(counts):
        c, t, y, s = (int(part) for part in np.unravel_index(flat, shape))
        yield (c, t, y, s), int(counts[flat])
