"""A line for every test that compares nights."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.monitor.nights import Line


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)
