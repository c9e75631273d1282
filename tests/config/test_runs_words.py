"""The words of `linescore runs`: a verb, runs, flags, and settings as everywhere else."""

from __future__ import annotations

import pytest

from pipeline.config import RunsConfig, parse_runs
from pipeline.errors import InputError


def parsed(*argv: str) -> RunsConfig:
    return parse_runs("About runs.", [*argv, "store=s"])


def test_a_verb_and_its_runs_come_first() -> None:
    config = parsed("delete", "monday", "12", "null", "--yes", "--force")
    assert (config.action, config.run_id) == ("delete", ("monday", "12", "null"))
    assert (config.yes, config.force, config.verify) == (True, True, False)
    shown = parsed("show", "monday", "--verify", "--json")
    assert (shown.verify, shown.output) == (True, "json")


def test_settings_say_the_same() -> None:
    words = parsed("compare", "a", "b")
    assert words == parsed("action=compare", "run_id=[a, b]")
    assert parsed("list", "--output", "json").output == "json"
    assert parsed("prune", "keep_last=3", "keep=release-*").keep == ("release-*",)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["show"], "show takes one run, not 0"),
        (["show", "a", "b"], "show takes one run, not 2: a, b"),
        (["compare", "a"], "compare takes 2 runs, not 1: a"),
        (["delete"], "delete takes one or more runs, not 0"),
        (["list", "a"], "list takes no run, not 1: a"),
        (["delete", "a", "a"], "delete: a run is named twice: a, a"),
        (["prune"], "prune needs a rule: keep_last=, keep_days=, unfinished_days="),
        (["prune", "keep_last=0"], "keep_last"),
        (["prune", "keep_days=1e99"], "keep_days"),
        (["remove", "a"], "action: Input should be 'list', 'show', 'compare', 'delete' or 'prune'"),
        ([], "action: is missing"),
    ],
)
def test_what_does_not_fit_the_verb(argv: list[str], says: str) -> None:
    with pytest.raises(InputError) as refused:
        parsed(*argv)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "run_id", ["../x", "a b", "", "/etc", "a/b", "x" * 300, ".x", "a'b", "a\n"]
)
def test_ids_that_could_lead_elsewhere(run_id: str) -> None:
    with pytest.raises(InputError) as refused:
        parsed("delete", run_id, "--yes")
    assert "run_id.0: a run id has letters, digits" in str(refused.value)
    assert repr(run_id) in str(refused.value)
