"""Every command in the pages is one that its program takes."""

from __future__ import annotations

import pytest

from pipeline.tables.access import VARIABLE
from tests.conftest import ROOT
from tests.docs.commands import Command, commands, wrong
from tests.docs.pages import NAMES, Block, blocks, inline

# How commands within the text begin.
_COMMANDS = ("linescore ", "make ", "pytest ", "python ", ".venv/bin/")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # configs are named from there
    monkeypatch.setenv(VARIABLE, "")  # where parsing leaves what it finds of S3


@pytest.mark.parametrize("block", blocks("sh", "bash", "shell", "console"), ids=str)
def test_every_command_in_a_block_is_taken(block: Block) -> None:
    assert [said for command in commands(block.text) for said in wrong(command)] == []


@pytest.mark.parametrize("block", blocks(""), ids=str)
def test_commands_in_a_block_without_a_language_are_taken(block: Block) -> None:
    try:
        found = list(commands(block.text))
    except ValueError:
        return  # no block for a shell
    assert [said for command in found for said in wrong(command)] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_command_within_the_text_is_taken(name: str) -> None:
    spans = [token.content for token in inline(ROOT / name) if token.type == "code_inline"]
    found = [c for s in spans if s.startswith(_COMMANDS) for c in commands(s, open_ended=True)]
    assert [said for command in found for said in wrong(command)] == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("linescore skore store=s", "no such verb"),
        ("linescore score stor=s", "unknown key"),
        ("linescore score manifest=m store=s", "bundle: is missing"),
        ("python jobs/score.py … max_unreachable=much", "max_unreachable"),
        ("env A=b .venv/bin/linescore score … block_rows=0", "block_rows"),
        ("linescore runs show store=s", "show takes one run"),
        ("linescore fit --config configs/none.yaml", "no such file"),
        ("ray job submit --working-dir . -- python jobs/skore.py a=b", "no such verb"),
        ("make dem", "no such target"),
        ("cd /x && make test dem", "no such target"),
        (".venv/bin/python -m pytest tests/none -k x", "no such file"),
        ("pytest -k tests/none tests/docs/test_none.py::test_it", "no such file"),
        ("python -m tests.nothing", "no such module"),
        ("python tests/nothing.py", "no such file"),
        ("A=b bash configs/none.sh", "no such file"),
    ],
)
def test_a_command_that_is_wrong_is_found(line: str, says: str) -> None:
    [command] = [c for c in commands(line) if c.words[:1] != ("cd",)]
    assert says in "\n".join(wrong(command))


@pytest.mark.parametrize(
    "line",
    [
        "linescore score … run_id=RUN",
        "linescore score manifest=MANIFEST bundle=latest store=$STORE block_rows=ROWS",
        "linescore evaluate --config mine.yaml champion=best > out.json",
        "linescore VERB --help",
        "linescore completion bash",
        "make TARGET",
        "make demo DEMO='seed=1'  # what isn't true",
        "pytest -m 'not slow' tests/docs tests/FOLDER",
    ],
)
def test_what_the_reader_is_to_give_is_left_to_him(line: str) -> None:
    assert [said for command in commands(line) for said in wrong(command)] == []


def test_a_command_is_cut_out_of_what_stands_around_it() -> None:
    _, first, second = commands("cd x && A=b env C=d make \\\n test >log 2>&1 || echo 'a && b'")
    assert first == Command(("make", "test"))
    assert second == Command(("echo", "a && b"))
