"""An image that kills its decoder costs that image, with the manner of death for a reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.images.decode import DecodeLimits
from pipeline.scoring.isolated import IsolatedPreparer
from pipeline.scoring.prepare import Failure, Prepared, PrepareOptions, prepare
from pipeline.tables.access import VARIABLE
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


def test_an_image_at_which_the_decoder_hangs_is_given_up_and_the_next_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(DECODER))
    save(tmp_path / "a.png", np.full((40, 50, 3), 90, np.uint8))
    hanging = str(deadly_png(tmp_path / "hang.png", "hang"))
    with IsolatedPreparer() as patient:  # its start-up takes longer than a hang may
        assert isinstance(patient.prepare(str(tmp_path / "a.png"), None, OPTIONS), Prepared)
        patient._timeout_s = 2.0
        failure = patient.prepare(hanging, None, OPTIONS)
        assert isinstance(failure, Failure)
        assert failure.error_type == "worker_crash"
        assert failure.message.startswith(f"{hanging}: decoding it gave no answer in 2 s, also on")
        patient._timeout_s = 60.0
        assert isinstance(patient.prepare(str(tmp_path / "a.png"), None, OPTIONS), Prepared)


def test_a_decoder_is_given_longer_than_a_store_may_be_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, json.dumps({"retry_s": 900}))
    assert IsolatedPreparer()._timeout_s == 1200


def test_what_is_wrong_with_the_settings_is_raised_as_it_is_in_one_process(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.zeros((40, 40, 3), np.uint8))
    broken = PrepareOptions(DecodeLimits(), attempts=0)
    with IsolatedPreparer() as isolated, pytest.raises(AssertionError, match="at least 1"):
        isolated.prepare(str(tmp_path / "a.png"), None, broken)
