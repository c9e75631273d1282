"""Where in a policy's document something stands, and how to say what is wrong there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import InputError

# A longer value is cut: the message must stay one that is read.
_SHOWN = 80
_LISTED = 12
_PLAIN_KEY = re.compile(r"[@\w-]{1,80}", re.ASCII)


@dataclass(frozen=True)
class Where:
    """A place in a document.

    Attributes:
        source: what the document is called, such as its file.
        path: the place in it, such as `decide.any[1].score`; empty: the whole.
    """

    source: str
    path: str = ""

    def key(self, name: str) -> Where:
        """The place of a key in the object here."""
        if not _PLAIN_KEY.fullmatch(name):
            return replace(self, path=f"{self.path}[{shown(name)}]")
        return replace(self, path=f"{self.path}.{name}" if self.path else name)

    def item(self, place: int) -> Where:
        """The place of an element in the list here."""
        return replace(self, path=f"{self.path}[{place}]")

    def error(self, says: str) -> InputError:
        """An error about what stands here."""
        return InputError(": ".join(part for part in (self.source, self.path, says) if part))


def shown(value: Any) -> str:
    """A value as it is quoted in an error: escaped, and cut where it is long."""
    # Of a long text or list only the head is rendered.
    head = value[: _SHOWN + 1] if isinstance(value, str | list) else value
    try:
        text = repr(head)
    except (ValueError, RecursionError):
        # Of thousands of digits, or nested as deep as Python goes.
        text = "…"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def kind(value: Any) -> str:
    """What a JSON value is, in JSON's words, with the value."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    names = {dict: "an object", list: "a list", str: "the text", int: "the number"}
    name = names.get(type(value), "the number")
    return name if isinstance(value, dict) else f"{name} {shown(value)}"


def alternatives(name: str, known: Iterable[str]) -> str:
    """What was perhaps meant by a name that isn't known, else what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name[:_SHOWN], names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {listed(names)}" if names else "there are none"


def listed(names: Iterable[str]) -> str:
    """Names with commas; of many the first, and how many more."""
    every = list(names)
    more = f" and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return ", ".join(every[:_LISTED]) + more
