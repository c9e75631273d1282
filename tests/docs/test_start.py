"""The first policy of one's own, as docs/start.md says it, on a store that is there."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from jobs import evaluate, runs
from tests.docs.commands import commands
from tests.docs.pages import blocks

_JOBS = {"evaluate": evaluate.main, "runs": runs.main}
_GIVEN = {"demo/store": "store", "RUN": "april", "IMAGE": "1405"}


def test_the_commands_of_the_first_policy_do_what_the_page_says(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(store.parent)
    [policy] = [block for block in blocks("json") if block.page == "docs/start.md"]
    Path("mine.json").write_text(policy.text)
    said = []
    for block in blocks("sh"):
        for command in commands(block.text) if block.page == "docs/start.md" else ():
            verb, *given = command.words[1:]
            if verb in _JOBS:
                line = shlex.join(given)
                for stands, what in _GIVEN.items():
                    line = line.replace(stands, what)
                assert _JOBS[verb](shlex.split(line)) == 0
                said.append(capsys.readouterr().out)
    listed, counted, explained = said
    assert "april" in listed
    assert "mine" in counted
    assert "mine" in explained
    assert (store / "reports/evaluation/report.html").exists()
