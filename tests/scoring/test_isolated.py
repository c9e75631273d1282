"""An image that kills its decoder costs that image, with the manner of death for a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.images.decode import DecodeLimits
from pipeline.scoring.isolated import IsolatedPreparer
from pipeline.scoring.prepare import Failure, Prepared, PrepareOptions, prepare
from tests.conftest import save
from tests.deadly import DECODER, deadly_png

OPTIONS = PrepareOptions(DecodeLimits(), square=32, letterboxed=64, verify=False)


def test_the_images_around_a_deadly_one_come_out_as_they_would_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(DECODER))
    pixels = np.random.default_rng(1).integers(0, 255, (40, 50, 3), np.uint8)
    for name in ("first", "between", "last"):
        save(tmp_path / f"{name}.png", pixels)
    deadly_png(tmp_path / "segfault.png", "segfault")
    deadly_png(tmp_path / "exit.png", "exit")
    names = ("first", "segfault", "between", "exit", "missing", "last")
    with IsolatedPreparer() as isolated:
        found = {
            name: isolated.prepare(str(tmp_path / f"{name}.png"), None, OPTIONS) for name in names
        }
    wanted = prepare(str(tmp_path / "first.png"), None, OPTIONS)
    assert isinstance(wanted, Prepared)
    for name in ("first", "between", "last"):
        image = found[name]
        assert isinstance(image, Prepared)
        assert np.array_equal(image.square, wanted.square)
        assert np.array_equal(image.letterboxed, wanted.letterboxed)
    assert found["missing"] == prepare(str(tmp_path / "missing.png"), None, OPTIONS)
    for name, how in (("segfault", "SIGSEGV"), ("exit", "exit status 3")):
        failure = found[name]
        assert isinstance(failure, Failure)
        assert failure.error_type == "worker_crash"
        assert f"{name}.png" in failure.message
        assert how in failure.message


def test_what_is_wrong_with_the_settings_is_raised_as_it_is_in_one_process(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.zeros((40, 40, 3), np.uint8))
    broken = PrepareOptions(DecodeLimits(), attempts=0)
    with IsolatedPreparer() as isolated, pytest.raises(AssertionError, match="at least 1"):
        isolated.prepare(str(tmp_path / "a.png"), None, broken)
