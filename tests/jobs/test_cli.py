"""The console command as people and programs use it: help, completion, JSON, colours, statuses."""

from __future__ import annotations

import json
import math
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs import evaluate, report, runs, score
from jobs.cli import summaries, verbs
from jobs.completion import SHELLS
from pipeline.config import parse, parse_runs
from tests.config.test_help import MODELS, linescore
from tests.conftest import ONE_ACTOR_SET, ROOT, TinyStore, job_environment
from tests.evaluation.tables import SCHEMA, Bench, at_least, row

# Bash as it asks for completions: the words so far, and the cursor behind the last one.
ASK = """
eval "$(linescore completion bash)"
COMP_LINE="$1"; COMP_POINT=${#1}; COMP_TYPE=9; COMP_WORDS=($1)
COMP_CWORD=$((${#COMP_WORDS[@]}-1)); COMPREPLY=()
_python_argcomplete linescore
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_the_list_of_verbs_says_what_each_does() -> None:
    told = linescore("--help")
    assert told.returncode == 0
    for name, summary in summaries().items():
        assert summary.endswith(".")
        assert f"{name} " in told.stdout
        assert summary in told.stdout
    assert "exit status: 0 done" in told.stdout
    assert linescore("--version").stdout.startswith("linescore 0.")


@pytest.mark.parametrize("verb", verbs())
def test_help_has_examples_that_the_command_understands(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = linescore(verb, "--help").stdout
    assert "exit status: 0 done" in told
    _before, _, rest = told.partition("Examples:\n")
    block = rest.partition("\n\n")[0].replace("\\\n", " ")
    examples = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert examples
    for words in examples:
        assert words[:2] == ["linescore", verb]
        monkeypatch.chdir(ROOT)  # configs are named from there
        given = words[2:]
        if verb == "runs":
            parse_runs("", given)
        else:
            parse(MODELS[verb], "", given)


def asked(line: str) -> set[str]:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", ASK, "ask", line],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return {word.strip() for word in done.stdout.splitlines() if word.strip()}


@pytest.mark.skipif(
    not (Path(sys.executable).parent / "linescore").exists(), reason="linescore isn't installed"
)
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("linescore sp", {"split"}),
        ("linescore score max_u", {"max_unreachable="}),
        ("linescore score pools.fused.n", {"pools.fused.num_cpus=", "pools.fused.num_gpus="}),
        ("linescore score keep_features=", {"none", "pooled", "cells"}),
        ("linescore score reuse=t", {"true"}),
        ("linescore fit manifest=pyproj", {"pyproject.toml"}),
        ("linescore score --co", {"--config"}),
        ("linescore score no_such=", set()),
    ],
)
def test_bash_is_offered_what_fits(typed: str, offered: set[str]) -> None:
    assert asked(typed) == offered


def test_completion_is_for_three_shells() -> None:
    for shell in SHELLS:
        assert "linescore" in linescore("completion", shell).stdout
    refused = linescore("completion", "tcsh")
    assert refused.returncode == 2
    assert refused.stderr == "error: completion: tcsh: no such shell; bash, zsh, fish\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.put([row(n, n % 2 == 0, n) for n in range(6)], SCHEMA)
    bench.policy("p", at_least("a", 3))
    return bench


def test_json_is_the_report_and_nothing_else(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"{key}={value}" for key, value in bench.settings(html=False).items()]
    assert evaluate.main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    kept = json.loads((bench.report / "evaluation.json").read_text())
    assert {key: told[key] for key in kept} == kept
    assert evaluate.main(arguments) == 0
    text = capsys.readouterr().out
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


def test_an_explanation_as_json_has_its_comparisons_for_programs(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(n, n % 2 == 0, n + 0.25) for n in range(6)] + [row(6, True, 9.0, b=math.nan)]
    bench.put([*rows, row(7, True, math.inf)], SCHEMA)
    high = at_least("a", {"ref": "low"}) | {"reason": "too strange"}
    bench.policy("p", {"any": [high, at_least("b", 1)]}, on_missing="review")
    own = bench.folder / "own.json"
    own.write_text(json.dumps({"low": 3.5}))

    def told(image: int) -> dict[str, Any]:
        arguments = bench.arguments(explain=str(image), thresholds=str(own))
        assert evaluate.main([*arguments, "--json"]) == 0
        out = capsys.readouterr().out
        (entry,) = json.loads(out, parse_constant=pytest.fail)["explained"]
        return dict(entry)

    entry = told(4)
    assert (entry["row"]["image_id"], entry["row"]["a"]) == (4, 4.25)
    (decision,) = entry["decisions"]
    assert (decision["policy"], decision["outcome"]) == ("p", "defect")
    assert decision["part"]["category"] == "tile"
    (first, *_) = decision["because"]
    assert (first["score"], first["comparison"], first["held"]) == ("a", "ge", True)
    assert (first["value"], first["threshold"], first["reason"]) == (4.25, 3.5, "too strange")
    assert "own.json" in first["origin"]
    assert decision["says"].endswith(decision["because"][-1]["says"])
    # JSON has neither NaN, which is a missing score, nor infinite numbers.
    assert told(6)["row"]["b"] is None
    assert told(7)["row"]["a"] == "inf"


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_scored_run_as_json(
    tiny_store: TinyStore, cluster: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = [f"manifest={tiny_store.manifest}", f"bundle={tiny_store.bundle}", f"store={tmp_path}"]
    given += ["run_id=one", "models.detector=false", *ONE_ACTOR_SET]
    assert score.main([*given, "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    kept = json.loads((tmp_path / "runs/one/report.json").read_text())
    assert {key: told[key] for key in kept} == kept
    assert told["images"]["scored"] + told["images"]["errors"] == told["images"]["manifest"]
    assert report.main([f"store={tmp_path}", "run_id=one", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["page"].endswith("report.html")
    assert runs.main(["list", f"store={tmp_path}", "--json"]) == 0
    assert "one" in json.dumps(json.loads(capfd.readouterr().out))


def test_an_error_leaves_standard_output_empty(tmp_path: Path) -> None:
    done = linescore("score", "--json", f"store={tmp_path}", "bundle=latest", "manifest=none")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")


def on_a_terminal(**environment: str) -> str:
    """What a terminal gets of an error."""
    parent, child = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", "completion", "tcsh"],
        cwd=ROOT,
        env=job_environment(None) | {"TERM": "xterm"} | environment,
        stdin=child,
        stdout=child,
        stderr=child,
    ) as process:
        os.close(child)
        seen = b""
        try:
            while more := os.read(parent, 4096):
                seen += more
        except OSError:  # how Linux says that the other end is closed
            pass
        finally:
            os.close(parent)
    assert process.returncode == 2
    return seen.decode()


def test_colours_are_for_terminals_that_want_them() -> None:
    assert "\033[1;31merror:\033[0m completion" in on_a_terminal()
    assert "\033" not in on_a_terminal(NO_COLOR="1")
    assert "\033" not in on_a_terminal(TERM="dumb")
    assert "\033" not in linescore("completion", "tcsh").stderr
