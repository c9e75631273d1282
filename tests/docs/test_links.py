"""Every link within the repository leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.conftest import ROOT
from tests.docs.pages import NAMES, anchors, inline, links

# Other places: the network isn't asked.
_ELSEWHERE = ("http://", "https://", "mailto:")
# Paths within the text, and names in them that stand for the reader's own.
_PATH = re.compile(r"(?:jobs|pipeline|configs|docs|tests|notebooks)/[\w./-]*")
_OWN = re.compile(r"\b[A-Z][A-Z_]+\b")


def broken(page: Path, link: str) -> bool:
    """Whether a link of a page leads nowhere."""
    if link.startswith(_ELSEWHERE):
        return False
    path, _, anchor = unquote(link).partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return True
    return bool(anchor) and (target.suffix != ".md" or anchor not in anchors(target))


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(name: str) -> None:
    page = ROOT / name
    assert [link for link in links(page) if broken(page, link)] == []


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = ROOT / "docs" / "index.md"
    for link in ("none.md", "policies.md#none", "#none", "../../elsewhere.md", "conf.py#x"):
        assert broken(page, link)
    for link in ("policies.md#rules", "../configs/policies", "https://example.org/none"):
        assert not broken(page, link)


@pytest.mark.parametrize("name", NAMES)
def test_every_path_of_the_repository_that_the_text_names_is_there(name: str) -> None:
    spans = [token.content for token in inline(ROOT / name) if token.type == "code_inline"]
    paths = [span.rstrip("/") for span in spans if _PATH.fullmatch(span)]
    assert [path for path in paths if not there(path)] == []


def there(path: str) -> bool:
    """Whether a path is in the repository, or has a name in it that isn't meant as it stands."""
    return (ROOT / path).exists() or bool(_OWN.search(path))
