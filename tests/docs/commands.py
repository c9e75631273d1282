"""Commands in the pages: what they run, and what is wrong with them."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.cli import verbs
from pipeline.config import parse, parse_runs
from pipeline.errors import InputError
from tests.config.test_help import MODELS
from tests.conftest import ROOT

# What stands for the reader's own value: STORE, YOUR-ADDRESS, $SG, …
_PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_-]*|\$\{?\w+\}?|<[\w ]+>")
_ELLIPSIS = "…"
_BETWEEN = ("&&", "||", "|", ";", "&")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_BEFORE = ("env", "time", "exec", "bash", "sudo")
_MAKE_TARGET = re.compile(r"^([a-z][\w-]*):", re.MULTILINE)
# Options of pytest whose value is no path.
_TAKES_VALUE = ("-k", "-m", "-n", "-p", "-o")


@dataclass(frozen=True)
class Command:
    """One command: its words, and whether the reader is to add more."""

    words: tuple[str, ...]
    open_ended: bool = False


def commands(text: str, open_ended: bool = False) -> Iterator[Command]:
    """The commands of a block for a shell.

    Raises:
        ValueError: a quotation without its end.
    """
    for line in text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), ";"]:
            if word in _BETWEEN or word.endswith(";"):
                if words:
                    yield _command(words, open_ended)
                words = []
            else:
                words.append(word)


def _command(words: list[str], open_ended: bool) -> Command:
    if "--" in words:  # ray job submit … -- COMMAND
        words = words[words.index("--") + 1 :]
    while words and (_ASSIGNMENT.match(words[0]) or words[0] in _BEFORE):
        words = words[1:]
    redirected = [n for n, word in enumerate(words) if re.match(r"[0-9]?[<>]", word)]
    words = words[: redirected[0]] if redirected else words
    kept = tuple(word for word in words if word != _ELLIPSIS)
    return Command(kept, open_ended or len(kept) < len(words))


def wrong(command: Command) -> list[str]:
    """What the command would be refused for, or would not find."""
    name, *rest = command.words or ("",)
    program = Path(name).name
    if program == "linescore":
        return _of_linescore(rest, command.open_ended)
    if program.startswith("python"):
        return _of_python(rest, command.open_ended)
    if program == "pytest":
        return _of_pytest(rest)
    if program == "make":
        return _of_make(rest)
    if program.endswith(".sh") and not name.startswith("/"):
        return [] if (ROOT / name).exists() else [f"{name}: no such file"]
    return []


def _of_make(words: list[str]) -> list[str]:
    known = _MAKE_TARGET.findall((ROOT / "Makefile").read_text())
    targets = [word for word in words if "=" not in word and not word.startswith("-")]
    return [f"make {name}: no such target" for name in targets if not _free(name, known)]


def _free(name: str, known: list[str]) -> bool:
    return name in known or bool(_PLACEHOLDER.fullmatch(name))


def _of_pytest(words: list[str]) -> list[str]:
    pairs = zip(["", *words], words, strict=False)
    paths = [word for before, word in pairs if before not in _TAKES_VALUE and word[:1] != "-"]
    files = [Path(path.partition("::")[0]) for path in paths]
    own = [file for file in files if not _PLACEHOLDER.fullmatch(file.name)]
    return [f"pytest {file}: no such file" for file in own if not (ROOT / file).exists()]


def _of_python(words: list[str], open_ended: bool) -> list[str]:
    if words[:2] == ["-m", "pytest"]:
        return _of_pytest(words[2:])
    if words[:1] == ["-m"]:
        found = importlib.util.find_spec(words[1]) is not None
        return [] if found else [f"python -m {words[1]}: no such module"]
    file = Path(words[0]) if words and words[0].endswith(".py") else None
    if file is None or _PLACEHOLDER.fullmatch(file.stem):
        return []
    if file.parts[:1] == ("jobs",):
        return _of_linescore([file.stem, *words[1:]], open_ended)
    return [] if file.is_absolute() or (ROOT / file).exists() else [f"{file}: no such file"]


def _of_linescore(words: list[str], open_ended: bool) -> list[str]:
    verb, *given = words or ["--help"]
    name = verb.replace("-", "_")
    if name not in verbs():
        known = verb in ("--help", "--version", "completion")
        return [] if known or _PLACEHOLDER.fullmatch(verb) else [f"linescore {verb}: no such verb"]
    if "--help" in given or not given:
        return []
    given, elsewhere = _without_own_config(given)
    return _refusals(name, given, open_ended or elsewhere)


def _without_own_config(given: list[str]) -> tuple[list[str], bool]:
    """The words without a config that isn't in this repository, and whether there was one."""
    for place, word in enumerate(given[:-1]):
        if word == "--config" and not given[place + 1].startswith("configs/"):
            return given[:place] + given[place + 2 :], True
    return given, False


def _refusals(verb: str, given: list[str], open_ended: bool) -> list[str]:
    try:
        if verb == "runs":
            parse_runs("", given)
        else:
            parse(MODELS[verb], "", given)
    except InputError as error:
        values = [word.partition("=")[2] or word for word in given]
        own = [value for value in values if _PLACEHOLDER.fullmatch(value) or _ELLIPSIS in value]
        lines = str(error).splitlines()
        return [line for line in lines if not _excused(line, own, open_ended)]
    except SystemExit:
        return [f"linescore {verb} {shlex.join(given)}: the parser refuses it"]
    return []


def _excused(line: str, placeholders: list[str], open_ended: bool) -> bool:
    """Whether a refusal is of what the reader is to give."""
    if any(f"not {value!r}" in line for value in placeholders):
        return True
    return open_ended and "unknown key" not in line and ", not '" not in line
