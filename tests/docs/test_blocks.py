"""Every block in the pages is what its language says: it parses, loads, is accepted, or runs."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from pipeline.config import load
from pipeline.errors import InputError
from pipeline.evaluation.sweep.document import read_sweep
from pipeline.policy.choosing.costs import parse_costs
from pipeline.policy.language import read_policy
from tests.config.test_help import MODELS
from tests.docs.pages import Block, all_blocks, blocks

LANGUAGES = {"", "sh", "bash", "shell", "console", "text", "dockerfile"} | {
    *("json", "yaml", "python", "sql", "toml", "ini", "mermaid")
}
# How a block says which job its settings are of.
_JOB = re.compile(r"(?:jobs/(\w+)\.py|configs/(\w+)\.yaml)")
# What a block leaves to the reader.
_ELLIPSIS = "…"
# SQL of another engine, by its first line.
_ATHENA = "-- Athena"


def test_every_language_is_one_that_is_checked() -> None:
    assert [str(block) for block in all_blocks() if block.language not in LANGUAGES] == []


def document(text: str) -> Any:
    """A JSON document; a part of an object stands for the object."""
    if text.lstrip().startswith('"'):
        text = "{" + text.strip().rstrip(",") + "}"
    return json.loads(text)


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_is_accepted_by_what_reads_it(block: Block, tmp_path: Path) -> None:
    found = document(block.text)
    if not isinstance(found, dict) or _ELLIPSIS in block.text:
        return
    if "policy" in found or "decide" in found:
        policy = {"policy": "v1", "name": "example"} | found
        read_policy(json.dumps(policy).encode(), str(block))
    elif "sweep" in found:
        file = tmp_path / "sweep.json"
        file.write_text(block.text, encoding="utf-8")
        read_sweep(str(file))
    elif "false_negative" in found:
        parse_costs(found, str(block))


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_loads_with_the_job_that_it_names(block: Block, tmp_path: Path) -> None:
    assert yaml.safe_load(block.text) is not None
    said = [line for line in block.text.splitlines() if line.startswith("#")]
    for names in _JOB.findall("\n".join(said)):
        file = tmp_path / "job.yaml"
        file.write_text(block.text, encoding="utf-8")
        assert refusals("".join(names), file) == []


def refusals(job: str, file: Path) -> list[str]:
    """What the job wouldn't take; what the block leaves out is the reader's."""
    try:
        load(MODELS[job], str(file))
    except InputError as error:
        return [line for line in str(error).splitlines() if ": is missing; give it" not in line]
    return []


def test_yaml_with_an_unknown_key_is_found(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("# configs/score.yaml\nnotifi: {}\n")
    assert "unknown key" in "".join(refusals("score", file))


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles_and_finds_what_it_imports(block: Block) -> None:
    assert missing_names(block.text, str(block)) == []


def missing_names(text: str, where: str) -> list[str]:
    """Names that the code imports from this package and that aren't there."""
    tree = ast.parse(text, where)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            wanted = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        found += [f"{m}: {n}" for m, n in wanted if m.startswith("pipeline") and not there(m, n)]
    return found


def there(module: str, name: str | None) -> bool:
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError:
        return False
    return name is None or hasattr(loaded, name) or there(f"{module}.{name}", None)


def test_python_that_imports_nothing_real_is_found() -> None:
    assert missing_names("from pipeline.errors import InputError, NoError", "x") == [
        "pipeline.errors: NoError"
    ]
    assert missing_names("import pipeline.nothing", "x") == ["pipeline.nothing: None"]


@pytest.mark.parametrize("block", blocks("sql"), ids=str)
def test_sql_runs_on_a_store(block: Block, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if block.text.startswith(_ATHENA):
        return
    monkeypatch.chdir(store.parent)
    connection = duckdb.connect()
    for statement in duckdb.extract_statements(block.text):
        answer = connection.execute(statement).to_arrow_table()
        assert answer.num_rows, f"{block}: {statement.query} finds nothing"


@pytest.mark.parametrize(
    "block", [block for block in blocks("python") if block.page == "docs/query.md"], ids=str
)
def test_python_that_queries_runs_on_a_store(
    block: Block, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.parent)
    exec(compile(block.text, str(block), "exec"), {})  # noqa: S102 - a page of this repository
