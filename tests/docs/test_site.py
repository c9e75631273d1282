"""The pages build into a site without a warning, and every page is in its list."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_the_site_builds_without_a_warning_and_lists_every_page(tmp_path: Path) -> None:
    built = tmp_path / "site"
    state = ("-d", str(tmp_path / "state"))
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", *state, "docs", str(built)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    listed = set(re.findall(r'href="([^"#:]+\.html)"', (built / "index.html").read_text()))
    pages = [file.relative_to(ROOT / "docs") for file in (ROOT / "docs").rglob("*.md")]
    assert {str(page.with_suffix(".html")) for page in pages} - {"index.html"} <= listed
