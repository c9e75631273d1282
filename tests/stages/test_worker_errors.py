"""What workers raise for people comes as itself, their deaths as what to do, and bugs as bugs.

The same of what a store refuses the driver.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import ray
from botocore.exceptions import NoCredentialsError

from pipeline.errors import InputError, RunError
from pipeline.scoring.train_detector import ModelPlaces
from pipeline.stages.train_detector import _await
from pipeline.stages.worker_errors import driver_errors, plain_errors, result_of
from pipeline.tables.ledger import DamagedPartError
from pipeline.tables.lock import locked
from pipeline.tables.patience import StoreAwayError

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120), pytest.mark.usefixtures("cluster")]

ADDED = "\nFailed to apply UDF transform to data of type pyarrow.Table. Do this and that."


def raised_by(error: BaseException | None) -> Any:
    """A task that raises it, or whose worker dies."""

    def fail() -> None:
        if error is None:
            os._exit(1)
        raise error

    return ray.remote(num_cpus=0, max_retries=0)(fail).remote()


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (InputError("bundle: is gone"), InputError, r"^bundle: is gone$"),
        (InputError("bundle: is gone" + ADDED), InputError, r"^bundle: is gone$"),
        (StoreAwayError("store: is away"), StoreAwayError, r"^store: is away$"),
        (DamagedPartError("part", "c1", "is gone"), DamagedPartError, "part"),
        (
            OSError(28, "No space left on device"),
            RunError,
            r"^OSError: \[Errno 28\] No space left on device; what is committed is safe, and the "
            "same command continues$",
        ),
        (
            PermissionError(13, "Permission denied", "/store"),
            RunError,
            r"^PermissionError: \[Errno 13\] Permission denied: '/store'; check the rights of the "
            "user or role; what is committed is safe, and the same command continues$",
        ),
        (None, RunError, "^ray: .*; what is committed is safe, and the same command continues$"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_task(error: BaseException | None, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says) as found:
        result_of(raised_by(error))
    assert type(found.value) is kind
    # No traceback of a worker behind it.
    assert found.value.__cause__ is None
    assert found.value.__suppress_context__


def test_a_detectors_training_says_which_one_was_killed(tmp_path: Path) -> None:
    says = r"tiny: its process was killed \(WorkerCrashedError\); the same command continues$"
    folder = str(tmp_path / "tiny")
    with locked(folder, "name tiny") as lock, pytest.raises(RunError, match=says):
        _await(raised_by(None), ModelPlaces(folder), lock)


def test_a_bug_stays_a_bug() -> None:
    with pytest.raises(ray.exceptions.RayTaskError, match="KeyError: 'mistyped'"):
        result_of(raised_by(KeyError("mistyped")))


class Settled:
    def __init__(self, problem: str) -> None:
        if problem == "input":
            raise InputError("precision: isn't there")
        if problem == "bug":
            raise KeyError("mistyped")

    def work(self) -> None:
        """Never reached."""


@pytest.mark.parametrize(
    ("problem", "kind", "says"),
    [
        ("input", InputError, "^precision: isn't there$"),
        ("bug", RunError, "^ray: ActorDiedError: "),
    ],
)
def test_an_actors_constructor(problem: str, kind: type[Exception], says: str) -> None:
    actor = ray.remote(num_cpus=0)(Settled).remote(problem)
    with pytest.raises(kind, match=says), plain_errors():
        ray.get(actor.work.remote())


def test_what_is_no_workers_fault_goes_through() -> None:
    with pytest.raises(ZeroDivisionError), plain_errors():
        _ = 1 / 0


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            OSError(116, "Stale file handle"),
            r"^run r: OSError: \[Errno 116\] Stale file handle; what",
        ),
        (
            PermissionError("The token has expired."),
            r"expired\.; check the rights of the user or role; ",
        ),
        (NoCredentialsError(), "^run r: no S3 credentials .*; what is committed is safe, and "),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_store_refuses_the_driver_is_said_in_the_same_words(
    error: Exception, says: str
) -> None:
    with pytest.raises(RunError, match=says) as found, driver_errors("run r"):
        raise error
    assert found.value.__suppress_context__


@pytest.mark.parametrize("error", [KeyError("mistyped"), InputError("bundle: is gone")])
def test_the_drivers_bugs_and_bad_input_go_through(error: Exception) -> None:
    with pytest.raises(type(error)) as found, driver_errors("run r"):
        raise error
    assert found.value is error
