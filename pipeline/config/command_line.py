"""What a job's command line asks for: its switches, its one file, and its help."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TypeVar

from pipeline.config.reading import load
from pipeline.config.sections import S3Config, Section, section_of
from pipeline.errors import InputError
from pipeline.tables.access import VARIABLE

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
            section_of(model.model_fields[name].annotation) if name in model.model_fields else None
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
        if place == "~" or place.startswith("~/"):
            raise InputError(
                f"{name}: {place}: is in a home folder, and a submitted job runs as another user, "
                f"on another machine; give {name}= as an absolute path or an s3:// URI"
            )
        if not os.path.isabs(place) and "://" not in place:  # noqa: PTH117
            raise InputError(
                f"{name}: {place}: is relative, and a submitted job runs in a temporary copy of "
                f"its working directory; give {name}= as an absolute path or an s3:// URI"
            )


def _describe(model: type[Section], prefix: str = "", *, optional: bool = False) -> list[str]:
    lines: list[str] = []
    for name, field in model.model_fields.items():
        inner = section_of(field.annotation)
        if inner is not None:
            lines += _describe(inner, f"{prefix}{name}.", optional=field.default is None)
            continue
        needed = f"required where there is a {prefix[:-1]}" if optional else "required"
        default = needed if field.is_required() else f"default {field.default}"
        lines.append(f"  {prefix}{name} ({default})\n      {field.description}")
    return lines
