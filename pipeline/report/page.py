"""What the HTML pages share: one environment that escapes everything, and one security policy."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from pipeline.report.evaluation_page import words

# No network, no script: whatever a name from the data holds, it can't become either.
SECURITY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
# Control characters and lone surrogates: HTML forbids the ones, UTF-8 can't write the others.
_UNPRINTABLE = ("Cc", "Cs")


def environment(templates: Mapping[str, str]) -> Environment:
    """Everything that templates print is escaped; a name that they don't know is an error."""
    found = Environment(
        loader=DictLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["words"] = words
    return found


def printable(value: Any) -> Any:
    """Text without what HTML can't hold; what is markup already stays."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    if value.isprintable():
        return value
    return "".join(
        "\ufffd" if unicodedata.category(c) in _UNPRINTABLE and c not in "\n\t" else c
        for c in value
    )
