"""What completion offers behind `linescore`: verbs, settings, and values where few fit."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pipeline.errors import InputError

SHELLS = ("bash", "zsh", "fish")
# Set by the shell where it asks for completions.
ASKED = "_ARGCOMPLETE"


def script(shell: str) -> str:
    """Lines for a shell's start-up file.

    Raises:
        InputError: another shell.
    """
    import argcomplete

    if shell not in SHELLS:
        raise InputError(f"completion: {shell or '(none)'}: no such shell; {', '.join(SHELLS)}")
    code: str = argcomplete.shell_integration.shellcode(["linescore"], shell=shell)
    return code


def complete(verbs: Mapping[str, str]) -> None:
    """Answers the shell, through the channel that it asks by, and ends the process.

    Args:
        verbs: name and summary of each.
    """
    import argcomplete

    parser = argparse.ArgumentParser(prog="linescore")
    found = parser.add_subparsers()
    for name, summary in verbs.items():
        verb = found.add_parser(name, help=summary)
        verb.add_argument("--config")
        verb.add_argument("--json", action="store_true")
        words = verb.add_argument("settings", nargs="*")
        words.completer = _Settings(name)  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, validator=_begins)


def _begins(candidate: str, typed: str) -> bool:
    return candidate.startswith(typed)


class _Settings:
    """KEY= for every setting of a verb, and KEY=VALUE once the key stands."""

    def __init__(self, verb: str) -> None:
        self._verb = verb

    def __call__(self, prefix: str, **_: Any) -> list[str]:
        keys = dict(_keys(_model(self._verb)))
        key, equals, typed = prefix.partition("=")
        if not equals:
            return [f"{name}=" for name in keys]
        if key not in keys:
            return []
        return [f"{key}={value}" for value in _values(keys[key])] or _files(key, typed)


def _model(verb: str) -> Any:
    import pipeline.config

    return getattr(pipeline.config, "".join(map(str.title, verb.split("_"))) + "Config")


def _keys(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of a model by its dotted key, with its annotation."""
    for name, field in model.model_fields.items():
        inner = [
            kind
            for kind in (field.annotation, *get_args(field.annotation))
            if hasattr(kind, "model_fields")
        ]
        if inner:
            yield from _keys(inner[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.annotation


def _values(annotation: Any) -> list[str]:
    """The few values that a setting can have; none where it is free."""
    if bool in (annotation, *get_args(annotation)):
        return ["true", "false"]
    kinds = (annotation, *get_args(annotation))
    return [str(v) for kind in kinds if get_origin(kind) is Literal for v in get_args(kind)]


def _files(key: str, typed: str) -> list[str]:
    """Paths that begin as typed: many settings name a file or a folder."""
    folder, begun = os.path.split(typed)
    try:
        entries = sorted(os.scandir(folder or "."), key=lambda entry: entry.name)
    except OSError:
        return []
    return [
        f"{key}={os.path.join(folder, entry.name)}{'/' if entry.is_dir() else ''}"  # noqa: PTH118
        for entry in entries
        if entry.name.startswith(begun) and (begun or not entry.name.startswith("."))
    ]
