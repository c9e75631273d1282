"""JSON text to plain values, with limits: what is hostile ends in an error, not in the machine."""

from __future__ import annotations

import json
from typing import Any

from pipeline.policy.language.where import Where, shown

# A policy with a rule for each of a thousand categories has a tenth of this.
MAX_CHARACTERS = 1_000_000


def read_json(text: str | bytes, where: Where, what: str = "policy") -> Any:
    """A JSON text's value; no key stands twice in an object. Numbers outside float64 are infinite.

    Args:
        text: of UTF-8 where it is bytes.
        where: it stands.
        what: it is meant to be, for errors.

    Raises:
        InputError: not JSON in UTF-8, too long, nested without end, or a key given twice.
    """
    if len(text) > MAX_CHARACTERS:
        raise where.error(
            f"has {len(text):,} characters; a {what} has at most {MAX_CHARACTERS:,}: split it"
        )

    def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise where.error(f"the key {shown(key)} stands twice in one object; leave one")
            found[key] = value
        return found

    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return json.loads(decoded, object_pairs_hook=as_object, parse_int=_whole)
    except RecursionError:
        raise where.error(f"is nested without end; no {what} needs that") from None
    except UnicodeDecodeError as error:
        raise where.error(f"is not UTF-8: {error}") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise where.error(f"is not JSON: {error.msg} at {place}") from None


def _whole(digits: str) -> int | float:
    # Python refuses whole numbers of many digits; as a float such a one is infinite at worst,
    # which is refused where it stands.
    return int(digits) if len(digits) < 20 else float(digits)
