"""Settings of looking after the runs of a store, and the words its command line begins with."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.command_line import parse
from pipeline.config.sections import RunId, S3Config, Section

_RULES = ("keep_last", "keep_days", "unfinished_days")
# Runs that a verb is given, at least and at most.
_RUNS = {"list": (0, 0), "show": (1, 1), "compare": (2, 2), "delete": (1, None), "prune": (0, 0)}
# Words that are short for a setting.
_FLAGS = {
    "--json": "output=json",
    "--yes": "yes=true",
    "--verify": "verify=true",
    "--force": "force=true",
}


class RunsConfig(Section):
    """Settings of jobs/runs.py."""

    action: Literal["list", "show", "compare", "delete", "prune"]
    """What to do; the first word of the command line, as in `linescore runs list`."""
    store: str
    """The store with the runs."""
    run_id: tuple[RunId, ...] = ()
    """The runs to show, compare or delete; the words behind the first one."""
    verify: bool = False
    """With show: read every file and compare its sha256 with the record's."""
    yes: bool = False
    """With delete and prune: do it. Without, what would go is listed and nothing is touched."""
    force: bool = False
    """With delete and prune: a run that another process holds, by its lock, counts as abandoned."""
    keep_last: int | None = Field(default=None, ge=1)
    """With prune: the last so many finished runs are kept."""
    keep_days: float | None = Field(default=None, ge=0, le=36525)
    """With prune: finished runs that are not older are kept."""
    keep: tuple[str, ...] = ()
    """With prune: ids, or patterns such as `release-*`, that are always kept."""
    unfinished_days: float | None = Field(default=None, ge=0, le=36525)
    """With prune: unfinished runs that were begun longer ago go too; empty: they are kept."""
    output: Literal["text", "json"] = "text"
    """Text for people or JSON for programs; `--json` is short for the latter."""
    s3: S3Config = S3Config()
    """How a store in S3 is reached."""

    @field_validator("run_id", "keep", mode="before")
    @classmethod
    def _one_alone(cls, value: object) -> object:
        """`keep=release-*` is a list of one."""
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits_the_verb(self) -> RunsConfig:
        least, most = _RUNS[self.action]
        given = len(self.run_id)
        if given < least or (most is not None and given > most):
            wanted = "one or more runs" if most is None else f"{most} runs" if most else "no run"
            wanted = "one run" if most == 1 else wanted
            raise ValueError(f"{self.action} takes {wanted}, not {given}: {', '.join(self.run_id)}")
        if len(set(self.run_id)) < given:
            raise ValueError(f"{self.action}: a run is named twice: {', '.join(self.run_id)}")
        if self.action == "prune" and all(getattr(self, rule) is None for rule in _RULES):
            raise ValueError(f"prune needs a rule: {', '.join(f'{rule}=' for rule in _RULES)}")
        return self


def parse_runs(description: str, argv: Sequence[str] | None = None) -> RunsConfig:
    """The settings of `linescore runs VERB [RUN ...] [KEY=VALUE ...]`.

    Raises:
        InputError: as `parse`.
    """
    return parse(RunsConfig, description, _as_settings(sys.argv[1:] if argv is None else argv))


def _as_settings(argv: Sequence[str]) -> list[str]:
    """The verb, the runs and the flags as settings; all else as it was.

    Names of runs follow the verb directly: further on, a word may be the value of an option.
    """
    rest = list(argv)
    if not rest or rest[0].startswith("-") or "=" in rest[0]:
        return [_FLAGS.get(word, word) for word in rest]
    found = [f"action={rest.pop(0)}"]
    runs = []
    while rest and not rest[0].startswith("--") and "=" not in rest[0]:
        runs.append(rest.pop(0))
    # JSON is YAML, and in quotes a run named null is not nothing.
    found += [f"run_id={json.dumps(runs)}"] if runs else []
    return found + [_FLAGS.get(word, word) for word in rest]
