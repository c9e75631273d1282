"""The reference is what the code says now."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from jobs.cli import verbs
from tests.config.test_help import MODELS, settings
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date(generate: ModuleType) -> None:
    made = generate.pages()
    there = {file.name: file.read_text() for file in generate.FOLDER.glob("*.md")}
    assert sorted(there) == sorted(made)
    old = [name for name, text in made.items() if there[name] != text]
    assert old == [], "make reference writes them anew"


def test_every_setting_and_verb_stands_in_it(generate: ModuleType) -> None:
    made = generate.pages()
    for verb in verbs():
        assert f"\n## {verb}\n" in made["settings.md"]
        assert f"\n## {verb}\n" in made["cli.md"]
        for key, _field in settings(MODELS[verb]):
            assert (
                f"`{key.rpartition('.')[2]}`" in made["settings.md"]
                or f"`{key}`" in made["settings.md"]
            )


def test_names_in_brackets_are_no_markup(generate: ModuleType) -> None:
    assert generate.plain("in <store>/x, `<a>|*`, a*b, n < 3") == (
        r"in \<store>/x, `<a>\|*`, a\*b, n < 3"
    )
