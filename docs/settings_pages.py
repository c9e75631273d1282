"""The reference of settings, from the pydantic models of pipeline.config."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

import pipeline.config
from jobs.cli import summaries, verbs
from pipeline.config import Section

ROOT = Path(__file__).resolve().parents[1]
_PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_HEAD = "| key | type | default | meaning |\n|---|---|---|---|"
_INTRODUCTION = """# Settings of every job

Given in a YAML file (`--config FILE`), as `KEY=VALUE` behind it, or both; keys of a section are
joined with dots (`ray.num_cpus=4`). *Empty* is null. Unknown keys, infinity and NaN are refused.
Sections that several jobs have stand once, [below](#sections-that-several-jobs-have)."""


def model(verb: str) -> type[Section]:
    """The settings of a job."""
    found: type[Section] = getattr(pipeline.config, verb.title().replace("_", "") + "Config")
    return found


def settings_page() -> str:
    """The page, in Markdown."""
    jobs = {verb: model(verb) for verb in verbs()}
    uses = Counter(kind for job in jobs.values() for kind in _sections(job))
    shared = {kind for kind, times in uses.items() if times > 1}
    text = [_INTRODUCTION]
    for verb, settings in jobs.items():
        text += [f"## {verb}", f"{summaries()[verb]} {_example(verb)}".strip()]
        text.append(_table(settings, shared))
    text.append("## Sections that several jobs have")
    for kind in sorted(shared, key=_title):
        text += [f"### {_title(kind)}", (kind.__doc__ or "").partition("\n")[0]]
        text.append(_table(kind, shared))
    return "\n\n".join(text)


def _example(verb: str) -> str:
    file = f"configs/{verb}.yaml"
    return f"Example: [`{file}`](../../{file})." if (ROOT / file).exists() else ""


def _sections(settings: type[Section]) -> Iterator[type[Section]]:
    for field in settings.model_fields.values():
        inner = _section(field.annotation)
        if inner is not None:
            yield inner
            yield from _sections(inner)


def _section(annotation: Any) -> type[Section] | None:
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def _title(kind: type[Section]) -> str:
    return f"Section {kind.__name__.removesuffix('Config')}"


def _table(settings: type[Section], shared: set[type[Section]]) -> str:
    rows = [" | ".join(plain(text) for text in row) for row in _rows(settings, shared, "", False)]
    return "\n".join([_HEAD, *(f"| {row} |" for row in rows)])


def plain(text: str) -> str:
    """Text for a cell of a table: what Markdown would read as more stays as it is."""
    spans = " ".join(text.split()).replace("|", r"\|").split("`")
    spans[::2] = [re.sub(r"<(?=\S)|\*", r"\\\g<0>", span) for span in spans[::2]]
    return "`".join(spans)


def _rows(
    settings: type[Section], shared: set[type[Section]], prefix: str, optional: bool
) -> Iterator[tuple[str, str, str, str]]:
    for name, field in settings.model_fields.items():
        key, inner = f"{prefix}{name}", _section(field.annotation)
        if inner is None:
            yield f"`{key}`", _kind(field), _default(field, optional), field.description or ""
        elif inner in shared:
            anchor = _title(inner).lower().replace(" ", "-")
            kind = f"[{_title(inner)}](#{anchor})"
            yield f"`{key}.…`", kind, _section_default(field), field.description or ""
        else:
            yield from _rows(inner, shared, f"{key}.", optional or field.default is None)


def _section_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return "empty"
    given = field.default.model_dump(exclude_defaults=True, mode="json")
    return f"`{json.dumps(given)}`" if given else ""


def _default(field: FieldInfo, optional: bool) -> str:
    if field.is_required():
        return "required where there is one" if optional else "required"
    if field.default is None:
        return "empty"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, str):
        return f"`{value}`"
    value = list(value) if isinstance(value, tuple) else value
    return f"`{json.dumps(value, default=str)}`"


def _kind(field: FieldInfo) -> str:
    limits = [
        f"{sign} {_number(getattr(limit, word))}"
        for limit in field.metadata
        for word, sign in _BOUNDS.items()
        if getattr(limit, word, None) is not None
    ]
    patterns = [f"`{m.pattern}`" for m in field.metadata if getattr(m, "pattern", None)]
    return ", ".join([_words(field.annotation), *limits, *patterns])


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _words(annotation: Any) -> str:
    """A type as people say it; that it may be empty is seen in its default."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(inner[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(_words(kind) for kind in inner if kind is not type(None))
    if origin is tuple:
        return f"list of {_words(inner[0])}"
    if origin is dict:
        return f"mapping of names to {_words(inner[1])}"
    return _PLAIN.get(annotation, str(annotation))
