"""The repository's pages, cut into headings, links, commands within the text, and blocks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.conftest import ROOT

# Whichever of them there are.
_OUTSIDE_DOCS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "AGENTS.md", "notebooks/README.md")
PAGES = sorted(
    {
        *(ROOT / name for name in _OUTSIDE_DOCS if (ROOT / name).exists()),
        *(ROOT / "docs").rglob("*.md"),
    }
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# What a code host leaves out of a heading's anchor.
_NO_ANCHOR = re.compile(r"[^\w\- ]")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def tokens(page: Path) -> list[Token]:
    """What the page consists of."""
    return MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))


def inline(page: Path) -> Iterator[Token]:
    """Links, images and code within the text."""
    for token in tokens(page):
        yield from token.children or ()


def links(page: Path) -> list[str]:
    """Where the page points."""
    places = [token.attrGet("href") or token.attrGet("src") for token in inline(page)]
    return [str(place) for place in places if place]


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of the page's headings, as code hosts and MyST make them."""
    found: list[str] = []
    page_tokens = tokens(page)
    for token, text in itertools.pairwise(page_tokens):
        if token.type == "heading_open":
            words = "".join(part.content for part in text.children or ())
            anchor = _NO_ANCHOR.sub("", words.lower()).replace(" ", "-")
            times = sum(re.sub(r"-\d+$", "", other) == anchor for other in found)
            found.append(f"{anchor}-{times}" if anchor in found else anchor)
    return frozenset(found)


def all_blocks() -> list[Block]:
    """Every fenced block of every page."""
    return [
        Block(name, token.map[0] + 1 if token.map else 0, token.info.strip(), token.content)
        for name, page in zip(NAMES, PAGES, strict=True)
        for token in tokens(page)
        if token.type in ("fence", "code_block")
    ]


def blocks(*languages: str) -> list[Block]:
    """Those in one of these languages."""
    return [block for block in all_blocks() if block.language in languages]
