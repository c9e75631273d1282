"""Settings from YAML and `KEY=VALUE`, with errors that name file, key and value."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from pipeline.config.sections import Section, section_of
from pipeline.config.written import RepeatedKeyError, Written, as_wanted, read_yaml
from pipeline.errors import InputError
from pipeline.tables.access import holds_secret, without_secret

C = TypeVar("C", bound=Section)

# Keys that would hold a secret, whose values no message repeats.
_SECRET_NAME = re.compile(r"secret|passw|token|access_key|^key$|credential", re.IGNORECASE)
_WHERE_SECRETS_BELONG = (
    "a config ends in records and logs: give keys as AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, by a profile (AWS_PROFILE), or by an instance role"
)

# Behind a key that stands twice.
_ONE_COUNTS = "and only one of them would count: put them together, or take one out"

# What the parser raises: its own errors, and that of nesting without end.
_NOT_YAML = (yaml.YAMLError, RecursionError)


def load(model: type[C], file: str | None, settings: Sequence[str] = ()) -> C:
    """The settings in a YAML file, changed by `KEY=VALUE` strings.

    Raises:
        InputError: naming the file, the key, the value and what is allowed.
    """
    values = _read_yaml(file) if file else {}
    for setting in settings:
        _override(values, setting)
    try:
        values = as_wanted(model, values)
    except RecursionError:
        raise InputError(
            f"{file or 'the command line'}: a value holds itself, or is nested too deep: write it "
            "out without & and *"
        ) from None
    _refuse_secrets(values, file or "the command line")
    overridden = [setting.partition("=")[0] for setting in settings]
    return checked(model, values, lambda path: _source(file, overridden, path))


def checked(model: type[C], values: Mapping[str, Any], source: Callable[[Sequence[Any]], str]) -> C:
    """Settings from values that were read already.

    Args:
        model: whose settings.
        values: by key.
        source: of the path of a key in `values`, where its value came from, for errors.

    Raises:
        InputError: naming the source, the key, the value and what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [f"{source(each['loc'])}: {_explain(model, each)}" for each in error.errors()]
        raise InputError("\n".join(lines)) from None


def _refuse_secrets(value: Any, source: str, key: str = "") -> None:
    """A config is written to the run's record: nobody's password may be in it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_secrets(inner, source, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            _refuse_secrets(inner, source, key)
    elif isinstance(value, str) and holds_secret(value):
        raise InputError(
            f"{source}: {key}: {without_secret(value)}: holds credentials; {_WHERE_SECRETS_BELONG}"
        )


def _source(file: str | None, overridden: Sequence[str], path: Sequence[Any]) -> str:
    dotted = ".".join(map(str, path)) + "."
    given_there = any(dotted.startswith(f"{key}.") for key in overridden)
    return "the command line" if file is None or given_there else file


def _read_yaml(file: str) -> dict[str, Any]:
    try:
        values = read_yaml(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"--config {file}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--config {file}: can't be read: {error}") from None
    except RepeatedKeyError as error:
        first, again = error.lines
        raise InputError(
            f"{file}: {error.key}: stands in line {first} and again in line {again}, {_ONE_COUNTS}"
        ) from None
    except _NOT_YAML as error:
        raise InputError(f"--config {file}: is not YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        kind = type(values.value if isinstance(values, Written) else values).__name__
        raise InputError(f"--config {file}: holds a {kind}, where `key: value` lines belong")
    return values


def _override(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise InputError(f"{setting!r} on the command line: write KEY=VALUE, such as store=data")
    try:
        value = _value(text)
    except RepeatedKeyError as error:
        raise InputError(
            f"the command line: {key}: {error.key} stands twice in its braces, {_ONE_COUNTS}"
        ) from None
    *sections, last = key.split(".")
    for name in sections:
        inner = values.setdefault(name, {})
        if inner is None:
            inner = values[name] = {}
        if not isinstance(inner, dict):
            raise InputError(f"{setting!r}: {name} holds {inner!r}, which has no keys below it")
        values = inner
    values[last] = value


def _value(text: str) -> Any:
    # Scalars stay text, which pydantic turns into the field's own type: a digest of
    # digits alone must not become a number.
    if text in ("", "null", "~"):
        return None
    if text[0] not in "[{":
        return text
    try:
        return read_yaml(text)
    except RepeatedKeyError:
        raise
    except _NOT_YAML:
        return text


def _explain(model: type[Section], detail: Any) -> str:
    path = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        if _SECRET_NAME.search(str(detail["loc"][-1])):
            return f"{path}: unknown key; {_WHERE_SECRETS_BELONG}"
        known = _keys_at(model, detail["loc"][:-1])
        close = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        return f"{path}: unknown key (value {detail['input']!r}); {hint}"
    if detail["type"] == "missing":
        return f"{path}: is missing; give it in the file or as {path}=VALUE"
    # pydantic's mark before what a validator of this package says.
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"{path}: {message}, not {detail['input']!r}" if path else message


def _keys_at(model: type[Section], path: Sequence[Any]) -> list[str]:
    for name in path:
        inner = section_of(model.model_fields[str(name)].annotation)
        if inner is None:
            break
        model = inner
    return list(model.model_fields)
