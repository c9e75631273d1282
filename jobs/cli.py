"""The console command `linescore`: `linescore VERB …` is `python jobs/VERB.py …`."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import os
import pkgutil
import sys
from pathlib import Path

import jobs
from jobs.command import BAD_INPUT, SUCCESS, coloured, exit_status
from jobs.completion import ASKED, SHELLS, complete, script
from pipeline.config.command_line import EXIT_STATUS

_NOT_JOBS = {"cli", "command", "completion", "hooks", "logs", "notices", "stderr_lines"}
_USAGE = "usage: linescore VERB [--config FILE] [--json] [KEY=VALUE ...]"
_BOLD, _PLAIN = "\033[1m", "\033[0m"


def verbs() -> list[str]:
    """Names of the jobs: the modules of this folder."""
    names = {module.name for module in pkgutil.iter_modules(jobs.__path__)}
    return sorted(names - _NOT_JOBS)


def summaries() -> dict[str, str]:
    """What each verb does, in a line; no job is loaded for it."""
    folder = Path(jobs.__path__[0])
    return {name: _first_line(folder / f"{name}.py") for name in verbs()}


def _first_line(file: Path) -> str:
    told = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return told.partition("\n")[0]


def main(argv: list[str] | None = None) -> int:
    """Runs the job that the first argument names; its exit status."""
    if ASKED in os.environ:
        complete(summaries() | {"completion": "Completion for a shell's start-up file."})
    verb, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    name = verb.replace("-", "_")
    if name in verbs():
        status: int = importlib.import_module(f"jobs.{name}").main(rest)
        return status
    if name == "completion":
        return exit_status(lambda: script("".join(rest[:1])), [])
    if verb in ("--help", "-h", "help"):
        sys.stdout.write(_help())
        return SUCCESS
    if verb in ("--version", "-V"):
        sys.stdout.write(f"linescore {importlib.metadata.version('linescore')}\n")
        return SUCCESS
    sys.stderr.write(f"error: {verb}: no such verb\n{_USAGE}\nverbs: {', '.join(verbs())}\n")
    return BAD_INPUT


def _help() -> str:
    bold, plain = (_BOLD, _PLAIN) if coloured(sys.stdout) else ("", "")
    told = summaries() | {"completion": f"Completion for a shell: {', '.join(SHELLS)}."}
    width = max(map(len, told))
    lines = [f"  {bold}{name:<{width}}{plain}  {what}" for name, what in told.items()]
    return "\n".join(
        (
            _USAGE,
            "",
            *lines,
            "",
            "linescore VERB --help lists a verb's settings, with examples.",
            EXIT_STATUS,
            "",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
