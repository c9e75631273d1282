"""Nested JSON as a tree that a page can show, whatever its size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Entries shown of one list or object, and levels; the report's JSON has all of them.
_MOST, _DEEPEST = 60, 8


@dataclass(frozen=True)
class Node:
    """A value with its name; `children` are those of a list or object.

    Attributes:
        name: the key; of a list's entries their place, from 1.
        text: of a plain value; None for lists and objects.
        children: those shown.
        left_out: how many more there are.
    """

    name: str
    text: str | None
    children: Sequence[Node] = ()
    left_out: int = 0


def tree(value: Any, name: str = "", depth: int = 0) -> Node:
    """A value of JSON and what is in it."""
    items: Iterable[tuple[Any, Any]]
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        items = enumerate(value, 1)
    else:
        return Node(name, _text(value))
    if not value:
        return Node(name, "none")
    if depth == _DEEPEST:
        return Node(name, None, (), len(value))
    pairs = [pair for pair, _ in zip(items, range(_MOST), strict=False)]
    children = [tree(child, str(key), depth + 1) for key, child in pairs]
    return Node(name, None, children, len(value) - len(children))


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
