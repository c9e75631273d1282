"""Settings from YAML and the command line, with errors that name file, key and value."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from pipeline.config.sections import S3Config, Section
from pipeline.config.written import RepeatedKeyError, Written, as_wanted, read_yaml
from pipeline.errors import InputError
from pipeline.tables.access import VARIABLE, holds_secret, without_secret

C = TypeVar("C", bound=Section)

# What a job's end means to whoever started it; docs/cli.md says more.
EXIT_STATUS = (
    "exit status: 0 done, 1 the work failed, 2 something given was wrong, 3 the monitor found a "
    "change, 4 too few images for a verdict, 130 interrupted"
)
# A switch is on, off, or left to the job.
_SWITCHES = (bool, bool | None)
# What may stand behind a switch.
_TRUTHS = ("true", "false", "1", "0", "yes", "no", "on", "off", "t", "f", "y", "n")
# Set by Ray in a driver that `ray job submit` started.
_SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# Settings that name a place every node must find.
_PLACES = frozenset(("store", "manifest", "source", "folder", "target"))

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


def parse(model: type[C], description: str, argv: Sequence[str] | None = None) -> C:
    """The settings that a command line asks for.

    Args:
        model: the job's settings.
        description: the job's docstring.
        argv: arguments; None: the process's own.

    Raises:
        InputError: a file that can't be read, a second one, an unknown key, a wrong value.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog="settings (KEY=VALUE or --KEY VALUE, nested with dots):\n"
        + "\n".join(_describe(model))
        + f"\n\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", metavar="FILE", action="append", help="YAML file with the settings"
    )
    # The frame around the job reads it; here it stands for --help, and so that it is known.
    parser.add_argument("--json", action="store_true", help="print the job's report as JSON")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="override one setting")
    given = sys.argv[1:] if argv is None else argv
    arguments = parser.parse_intermixed_args(_without_dashes(model, given))
    config = load(model, _only_file(arguments.config or []), arguments.settings)
    _share_access(config)
    if _SUBMITTED in os.environ:
        _require_absolute(config)
    return config


def _only_file(files: Sequence[str]) -> str | None:
    if len(files) > 1:
        raise InputError(
            f"--config {files[1]}: --config {files[0]} is given too, and only one file is read: "
            "put the settings into one, or give those that differ as KEY=VALUE"
        )
    return files[0] if files else None


def _without_dashes(model: type[Section], argv: Sequence[str]) -> list[str]:
    """`--key VALUE` and `--key=VALUE` as `key=VALUE`, for those who write settings that way.

    A switch, a setting that is true or false, may stand without its value: `--key` is true.
    """
    found: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        key, equals, value = word.removeprefix("--").partition("=")
        key = key.replace("-", "_")
        if not word.startswith("--") or key.partition(".")[0] not in model.model_fields:
            found.append(word)
        elif equals:
            found.append(f"{key}={value}")
        elif _is_switch(model, key) and (not words or words[0].lower() not in _TRUTHS):
            found.append(f"{key}=true")
        elif not words:
            raise InputError(f"{word} on the command line: a value is missing behind it")
        else:
            found.append(f"{key}={words.pop(0)}")
    return found


def _share_access(config: Section) -> None:
    """Leaves a job's settings for S3 where every client finds them, in workers too."""
    access = getattr(config, "s3", None)
    if isinstance(access, S3Config) and access.model_fields_set:
        os.environ[VARIABLE] = access.model_dump_json(exclude_unset=True, exclude_none=True)


def _is_switch(model: type[Section], key: str) -> bool:
    *sections, last = key.split(".")
    for name in sections:
        inner = (
            _section(model.model_fields[name].annotation) if name in model.model_fields else None
        )
        if inner is None:
            return False
        model = inner
    return last in model.model_fields and model.model_fields[last].annotation in _SWITCHES


def _require_absolute(config: Section) -> None:
    """A submitted job runs in a copy of its working directory that is thrown away.

    Raises:
        InputError: a path that would lie in that copy.
    """
    for name in _PLACES & type(config).model_fields.keys():
        place = getattr(config, name)
        if not os.path.isabs(place) and "://" not in place:  # noqa: PTH117
            raise InputError(
                f"{name}: {place}: is relative, and a submitted job runs in a temporary copy of "
                f"its working directory; give {name}= as an absolute path or an s3:// URI"
            )


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
        inner = _section(model.model_fields[str(name)].annotation)
        if inner is None:
            break
        model = inner
    return list(model.model_fields)


def _section(annotation: Any) -> type[Section] | None:
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def _describe(model: type[Section], prefix: str = "", *, optional: bool = False) -> list[str]:
    lines: list[str] = []
    for name, field in model.model_fields.items():
        inner = _section(field.annotation)
        if inner is not None:
            lines += _describe(inner, f"{prefix}{name}.", optional=field.default is None)
            continue
        needed = f"required where there is a {prefix[:-1]}" if optional else "required"
        default = needed if field.is_required() else f"default {field.default}"
        lines.append(f"  {prefix}{name} ({default})\n      {field.description}")
    return lines
