"""Writes docs/reference/ from the code: settings, tables, verbs, error types, the policy language.

    python docs/generate.py

A test compares what this makes with the files that are committed.
"""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from settings_pages import plain, settings_page  # noqa: E402

import pipeline.tables  # noqa: E402
from jobs import command  # noqa: E402
from jobs.cli import summaries, verbs  # noqa: E402
from pipeline.images.decode import ERROR_TYPES  # noqa: E402
from pipeline.tables.schemas import (  # noqa: E402
    FETCH_ERRORS,
    NOT_FINITE,
    OUT_OF_MEMORY,
    UNREACHABLE_ERRORS,
    WORKER_CRASH,
)

FOLDER = ROOT / "docs" / "reference"
MADE = "<!-- Made by docs/generate.py from the code; `make reference` writes it anew. -->"
# What the code says by name alone: a status or an error type that is missing here, or gone from
# the code, stops the generator.
TITLES = {
    "schemas": "The store's tables",
    "evaluation_schemas": "An evaluation's tables",
    "drift_schemas": "The monitor's tables",
}
STATUSES = {
    "SUCCESS": "done",
    "FAILED": "the work failed, or its accounting doesn't add up; the same command tries again",
    "BAD_INPUT": "something given was wrong: one line says what, where, which value, and the way "
    "out; trying again without a change is no use",
    "DRIFT": "the monitor found drift in at least one category",
    "NO_VERDICT": "there were too few images to evaluate or to compare",
    "INTERRUPTED": "interrupted (Ctrl-C, SIGTERM); the same command with the same run id continues",
}
ERRORS = {
    "not_found": "there is no such file",
    "permission_denied": "the file may not be read",
    "read_error": "reading failed otherwise",
    "broken_body": "a store sends less than it announces",
    "content_changed": "the file isn't what was indexed",
    "not_a_file": "a folder, a pipe, a device",
    "empty_file": "a file of no bytes",
    "not_an_image": "its content is of no format that is read",
    "truncated": "the file ends too early",
    "decode_failed": "its content is damaged otherwise",
    "too_large": "above `limits.max_pixels` or `limits.max_bytes`",
    "too_small": "a side below `limits.min_side`",
    "animated": "more than one picture in a file",
    "unsupported_pixels": "a kind of pixel that has no plain meaning in 8 bits",
    NOT_FINITE: "a network gave no number for it",
    WORKER_CRASH: "decoding it kills its process",
    OUT_OF_MEMORY: "a model finds no memory for it even alone",
}


def pages() -> dict[str, str]:
    """Every page of the reference by its file name."""
    made = {
        "settings": settings_page(),
        "tables": _tables(),
        "cli": _cli(),
        "errors": _errors(),
        "policy": _policy(),
    }
    return {f"{name}.md": f"{MADE}\n\n{text.strip()}\n" for name, text in made.items()}


def main() -> None:
    """Writes the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


# --- tables ---


def _tables() -> str:
    text = [
        "# Tables: every column",
        "Name, type, unit and meaning stand in each file's own Arrow schema too "
        "(`pyarrow.parquet.read_schema(file).field(name).metadata`). Null means: not computed, or "
        "not known. A column in **bold** is never null. How to ask them: [query.md](../query.md).",
    ]
    for title, schemas in _schemas():
        text.append(f"## {title}")
        for name, schema in schemas.items():
            text += [f"### {name}", table(("column", "type", "unit", "meaning"), _columns(schema))]
    return "\n\n".join(text)


def _schemas() -> Iterator[tuple[str, dict[str, pa.Schema]]]:
    """The schemas of each module that holds some, under its title."""
    names = [module.name for module in pkgutil.iter_modules(pipeline.tables.__path__)]
    for name in sorted((n for n in names if n.endswith("schemas")), key=lambda n: (len(n), n)):
        module = importlib.import_module(f"pipeline.tables.{name}")
        found = [value for value in vars(module).values() if isinstance(value, pa.Schema)]
        yield (
            TITLES.get(name, name.replace("_", " ").capitalize()),
            {s.metadata[b"linescore.table"].decode(): s for s in found if s.metadata},
        )


def _columns(schema: pa.Schema) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for field in schema:
        told = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        name = f"`{field.name}`" if field.nullable else f"**`{field.name}`**"
        rows.append((name, f"`{field.type}`", told.get("unit", ""), plain(told["description"])))
    return rows


# --- verbs and statuses ---


def _cli() -> str:
    text = [
        "# Verbs of the command line",
        "`linescore VERB …` is `python jobs/VERB.py …`. How settings, files and switches are "
        "written: [cli.md](../cli.md); every setting: [settings.md](settings.md).",
        table(("verb", "what it does"), [(f"[`{n}`](#{n})", s) for n, s in summaries().items()]),
    ]
    for name in verbs():
        told = ast.get_docstring(ast.parse((ROOT / f"jobs/{name}.py").read_text("utf-8"))) or ""
        says, _, examples = told.partition("\nExamples:\n")
        text.append(f"## {name}")
        text.append(f"{says.strip()} Settings: [{name}](settings.md#{name}).")
        if examples:
            text.append(f"```sh\n{textwrap.dedent(examples).strip()}\n```")
    named = {name for name, value in vars(command).items() if type(value) is int}
    if named - set(STATUSES):
        raise SystemExit(f"docs/generate.py: STATUSES lacks {named - set(STATUSES)}")
    rows = [(f"`{getattr(command, name)}`", STATUSES[name]) for name in STATUSES if name in named]
    text += ["## Exit statuses", table(("status", "meaning"), rows)]
    return "\n\n".join(text)


def _errors() -> str:
    kinds = (*FETCH_ERRORS, *ERROR_TYPES, NOT_FINITE, WORKER_CRASH, OUT_OF_MEMORY)
    if set(kinds) != set(ERRORS):
        raise SystemExit(f"docs/generate.py: ERRORS differs: {set(kinds) ^ set(ERRORS)}")
    rows = [(f"`{k}`", "yes" if k in UNREACHABLE_ERRORS else "", ERRORS[k]) for k in kinds]
    return "\n\n".join(
        (
            "# Error types",
            "`error_type` in the table `errors`: why an image has no scores. Those marked "
            "*unreachable* count against `max_unreachable`, as in an outage, but for images that "
            "could not be read when they were indexed either, and a run that continues tries them "
            "again.",
            table(("error type", "unreachable", "meaning"), rows),
        )
    )


# --- the policy language ---


def _policy() -> str:
    file = ROOT / "configs/policies/policy.v1.schema.json"
    schema = json.loads(file.read_text("utf-8"))
    definitions = schema["$defs"]
    rules = [ref["$ref"].rpartition("/")[2] for ref in definitions["rule"]["oneOf"]]
    text = [
        "# The policy language",
        "From [`policy.v1.schema.json`](../../configs/policies/policy.v1.schema.json). What each "
        "means, with examples: [policies.md](../policies.md).",
        "## The document",
        table(("key", "value", "meaning"), _keys(schema)),
        "## Rules",
        "A rule is an object of one of these kinds.",
    ]
    for rule in rules:
        text += [f"### {rule}", _sentence(definitions[rule].get("description", ""))]
        text.append(table(("key", "value", "meaning"), _keys(definitions[rule])))
    step = definitions["cascade"]["properties"]["cascade"]["items"]
    text += ["### A step of a cascade", table(("key", "value", "meaning"), _keys(step))]
    kinds = [_value(kind) for kind in definitions["threshold"]["oneOf"]]
    text += ["## threshold", f"One of: {', '.join(kinds)}."]
    text += ["## categories", _sentence(f"a list of {definitions['categories']['description']}")]
    return "\n\n".join(part for part in text if part)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _keys(schema: dict[str, Any]) -> list[tuple[str, ...]]:
    required = schema.get("required", ())
    return [
        (f"**`{key}`**" if key in required else f"`{key}`", _value(of), of.get("description", ""))
        for key, of in schema["properties"].items()
    ]


def _value(schema: dict[str, Any]) -> str:
    """What a JSON Schema allows, in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "a [rule](#rules)" if name == "rule" else f"[{name}](#{name})"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        default = f" (unless given: `{schema['default']}`)" if "default" in schema else ""
        return ", ".join(f"`{value}`" for value in schema["enum"]) + default
    kind = schema["type"]
    if kind == "array":
        inner = schema["items"]
        return "a list of steps" if "properties" in inner else f"a list: {_value(inner)}"
    if kind == "object" and "properties" in schema:
        return "{" + ", ".join(f"`{k}`: {_value(v)}" for k, v in schema["properties"].items()) + "}"
    if kind == "object":
        return f"an object, each value {_value(schema['additionalProperties'])}"
    return {"string": "text", "integer": "a whole number", "boolean": "true or false"}.get(
        kind, "a finite number"
    )


if __name__ == "__main__":
    main()
