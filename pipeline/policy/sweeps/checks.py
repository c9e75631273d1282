"""Strict reading of JSON values; every message has the path inside the document."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.errors import InputError


def an_object(value: object, path: str, known: Iterable[str]) -> Mapping[str, Any]:
    """An object with known keys only.

    Raises:
        InputError: another type, or an unknown key.
    """
    names = tuple(known)
    if not isinstance(value, Mapping):
        raise InputError(f"{path}: is {value!r}, needs to be an object with {', '.join(names)}")
    for key in value:
        if key not in names:
            raise InputError(f"{path}.{key}: is unknown; known are {', '.join(names)}")
    return value


def needed(value: Mapping[str, Any], path: str, *keys: str) -> None:
    """Refuses an object without these keys.

    Raises:
        InputError: one is missing.
    """
    for key in keys:
        if key not in value:
            raise InputError(f"{path}.{key}: is missing")


def one_key(value: object, path: str, known: Iterable[str]) -> tuple[str, Any]:
    """The only key of an object, and what it holds.

    Raises:
        InputError: another type, an unknown key, none or several.
    """
    names = tuple(known)
    given = an_object(value, path, names)
    if len(given) != 1:
        raise InputError(
            f"{path}: has {', '.join(given) or 'no key'}; needs exactly one of {', '.join(names)}"
        )
    return next(iter(given.items()))


def a_number(value: object, path: str) -> float:
    """A finite number; true and false are none.

    Raises:
        InputError: another type, NaN, infinite, or too large for a float.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{path}: is {value!r}, needs to be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{path}: is {number}, needs to be a finite number")
    return number


def a_count(value: object, path: str, least: int) -> int:
    """A whole number.

    Raises:
        InputError: another type, or below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{path}: is {value!r}, needs to be a whole number of {least} or more")
    return value


def a_text(value: object, path: str, known: Iterable[str] = ()) -> str:
    """A string, one of the known where there are any.

    Raises:
        InputError: another type, empty, or unknown.
    """
    names = tuple(known)
    if not isinstance(value, str) or not value:
        raise InputError(f"{path}: is {value!r}, needs to be a name")
    if names and value not in names:
        raise InputError(f"{path}: is {value!r}; known are {', '.join(names)}")
    return value


def a_list(value: object, path: str) -> list[Any]:
    """A list with something in it.

    Raises:
        InputError: another type, or empty.
    """
    if not isinstance(value, list) or not value:
        raise InputError(f"{path}: is {value!r}, needs to be a list of one or more")
    return value
