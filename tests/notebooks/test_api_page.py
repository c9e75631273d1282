"""The code on the API's page runs, block after block, on the sample."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.notebook
@pytest.mark.timeout(1500)
def test_the_pages_code_runs_on_the_sample(sample_store: Path) -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        code = block.replace("demo/store", str(sample_store))
        exec(compile(code, "docs/api.md", "exec"), names)  # noqa: S102 - our own page
    assert len(blocks) == 5
    assert names["decisions"].num_rows == names["scores"].num_rows > 0  # type: ignore[attr-defined]
    # The page scores a file that isn't there.
    assert names["found"].errors["error_type"].to_pylist() == ["not_found"]  # type: ignore[attr-defined]


def test_every_name_of_the_api_is_on_its_page() -> None:
    from pipeline import api

    page = (ROOT / "docs" / "api.md").read_text()
    missing = [name for name in api.__all__ if f"`{name}" not in page and f"`{name}`" not in page]
    assert not missing
