"""The site: the pages of this folder as they are, read by MyST, shown by Sphinx with furo.

The pages stay plain Markdown, for whoever reads them on a code host. So what only the site needs
is made here: the list of pages beside them, and what becomes of links that leave this folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

HERE = Path(__file__).parent

project = "linescore"
extensions = ["myst_parser"]
myst_heading_anchors = 4
# What a block without a language is: text, and no guess.
highlight_language = "text"
html_theme = "furo"
html_title = "linescore"
html_show_copyright = False
html_copy_source = False
exclude_patterns = ["Thumbs.db", ".DS_Store"]

# The pages in the order in which they are offered. Those that no group names stand under "More":
# a new page is on the site whether or not somebody thinks of this list.
GROUPS = {
    "Start": ["start", "concepts", "app", "nightly"],
    "How to": [
        "splits",
        "classifier",
        "detector",
        "calibration",
        "policies",
        "evaluate",
        "report",
        "query",
        "runs",
        "reuse",
        "drift",
        "watching",
        "s3",
        "api",
        "extend",
    ],
    "Why, and what was measured": [
        "method",
        "scores",
        "choosing",
        "engine",
        "figures",
        "speed",
        "faults",
        "dependencies",
    ],
    "Reference": ["cli", "reference/*"],
}


def toctrees() -> str:
    """The list of pages, in MyST's words."""
    pages = {file.stem for file in HERE.glob("*.md")} - {"index"}
    named = {name for names in GROUPS.values() for name in names}
    groups = GROUPS | {"More": sorted(pages - named)}
    text = []
    for title, names in groups.items():
        there = [name for name in names if name in pages or "*" in name]
        if there:
            head = f"```{{toctree}}\n:hidden:\n:glob:\n:caption: {title}\n\n"
            text.append(head + "\n".join(there) + "\n```")
    return "\n\n".join(text)


def add_toctrees(_app: Sphinx, page: str, source: list[str]) -> None:
    """Puts the list of pages behind the first page."""
    if page == "index":
        source[0] += f"\n\n{toctrees()}\n"


class LeavingLinks(SphinxPostTransform):
    """Links to files of the repository that aren't pages: the site shows the path they name."""

    default_priority = 1

    def run(self, **_: Any) -> None:
        """Replaces them in one page."""
        page = HERE / self.env.docname
        for kind in (download_reference, pending_xref):
            for link in list(self.document.findall(kind)):
                target = str(link.get("reftarget", "")).partition("#")[0]
                # MyST names a Markdown file by its path without the suffix.
                for name in (target, f"{target}.md"):
                    path = (page.parent / name).resolve()
                    if path.exists() and not path.is_relative_to(HERE):
                        link.replace_self(nodes.inline("", "", *link.children))
                        break


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("source-read", add_toctrees)
    app.add_post_transform(LeavingLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
