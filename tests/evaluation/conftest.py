"""A bench for every test of evaluations."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.tables import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
