"""Fields of a JSON object, checked one by one."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from pipeline.policy.language.where import Where, alternatives, kind, listed, shown

# As everything in linescore that has a name: fit for a file's name on any system.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def fields(value: Any, allowed: Collection[str], where: Where) -> dict[str, Any]:
    """An object that has none but the allowed keys.

    Raises:
        InputError: no object, or an unknown key.
    """
    if not isinstance(value, dict):
        raise where.error(f"is {kind(value)}; an object belongs here, with {listed(allowed)}")
    for key in value:
        if key not in allowed:
            raise where.key(key).error(
                f"unknown key, with {kind(value[key])}; {alternatives(key, allowed)}"
            )
    return value


def text(value: Any, where: Where) -> str:
    """A text that isn't empty.

    Raises:
        InputError: anything else.
    """
    if not isinstance(value, str) or not value.strip():
        raise where.error(f"is {kind(value)}; a text belongs here")
    return value


def name(value: Any, where: Where) -> str:
    """A name of letters, digits, dots, dashes and underscores.

    Raises:
        InputError: anything else.
    """
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise where.error(
            f"is {kind(value)}; a name belongs here: letters, digits, . _ -, at most 100"
        )
    return value


def one_of(value: Any, allowed: Collection[str], where: Where) -> str:
    """One of some words.

    Raises:
        InputError: anything else.
    """
    if not isinstance(value, str) or value not in allowed:
        hint = alternatives(value, allowed) if isinstance(value, str) else listed(allowed)
        raise where.error(f"is {kind(value)}; one of {listed(allowed)} belongs here; {hint}")
    return value


def flag(value: Any, where: Where) -> bool:
    """True or false.

    Raises:
        InputError: anything else.
    """
    if not isinstance(value, bool):
        raise where.error(f"is {kind(value)}; true or false belongs here")
    return value


def items(value: Any, what: str, where: Where) -> list[Any]:
    """A list with one element or more.

    Raises:
        InputError: anything else.
    """
    if not isinstance(value, list) or not value:
        raise where.error(f"is {kind(value)}; a list of one or more {what} belongs here")
    return value


def texts(value: Any, what: str, where: Where) -> list[str]:
    """A list of different texts.

    Raises:
        InputError: anything else.
    """
    found = [text(item, where.item(at)) for at, item in enumerate(items(value, what, where))]
    seen: set[str] = set()
    for at, item in enumerate(found):
        if item in seen:
            raise where.item(at).error(f"{shown(item)} stands in the list twice; leave one")
        seen.add(item)
    return found


def finite(value: Any, where: Where) -> float:
    """A finite number; true and false are none.

    Raises:
        InputError: anything else.
    """
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise where.error(f"is {kind(value)}; a threshold is a finite number")
    return number


def needed(values: Mapping[str, Any], key: str, where: Where) -> Any:
    """The value of a key that must be there.

    Raises:
        InputError: it isn't.
    """
    if key not in values:
        has = f"there is {listed(values)}" if values else "the object is empty"
        raise where.error(f"needs the key {key}; {has}")
    return values[key]
