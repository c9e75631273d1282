"""Every link within the repository leads somewhere."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.conftest import ROOT
from tests.docs.pages import NAMES, anchors, links

# Other places: the network isn't asked.
_ELSEWHERE = ("http://", "https://", "mailto:")


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
