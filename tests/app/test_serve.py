"""Starting the app: bound to this machine, quiet, and clear about what is missing."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.app import main
from pipeline.app.desk import Desk
from pipeline.app.serve import server_options
from pipeline.config import AppConfig, load
from tests.app.stores import small_store
from tests.conftest import ROOT


def test_it_listens_on_this_machine_and_calls_nobody() -> None:
    options = server_options(load(AppConfig, str(ROOT / "configs" / "app.yaml")))
    assert options["server.address"] == "127.0.0.1"
    assert options["server.headless"] is True
    assert options["browser.gatherUsageStats"] is False
    assert options["server.enableXsrfProtection"] is True
    other = server_options(AppConfig(store="s", address="0.0.0.0", max_upload_mb=7))  # noqa: S104
    assert (other["server.address"], other["server.maxUploadSize"]) == ("0.0.0.0", 7)  # noqa: S104


def test_it_is_read_only_and_takes_no_upload_unless_told_otherwise() -> None:
    config = AppConfig(store="s")
    assert (config.allow_labels, config.allow_uploads) == (False, False)


def test_a_port_that_is_taken_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = small_store(tmp_path, size=32)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main([f"store={place.store}", f"port={port}"]) == 2
    said = capsys.readouterr().err
    assert f"127.0.0.1:{port}: can't be listened on" in said
    assert "give another port=" in said


def test_a_store_below_the_home_folder_is_the_one_that_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = small_store(tmp_path / "home", size=32)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    store = f"~/{Path(place.store).relative_to(tmp_path / 'home')}"
    assert main([f"store={store}", "port=1", "address=192.0.2.1"]) == 2
    assert "192.0.2.1:1: can't be listened on" in capsys.readouterr().err
    assert Desk(AppConfig(store=store)).store == place.store
    assert main(["store=~/nothing"]) == 2
    said = capsys.readouterr().err
    assert f"store: {tmp_path}/home/nothing: there is no such folder or prefix" in said


def test_without_streamlit_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'streamlit' else find(name, *a)\n"
        "from jobs.app import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"store={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: app: needs Streamlit, which isn't installed: in a clone, "
        "python -m pip install --constraint constraints.txt '.[app]'\n"
    )


def test_looking_needs_neither_ray_nor_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pipeline.app.desk import Desk\n"
        "from pipeline.config import AppConfig; import pipeline.app.gallery\n"
        "a, b, c = sys.argv[1:]\n"
        "d = Desk(AppConfig(store=a, policies=(b,), thresholds=(c,)))\n"
        "assert d.outcome('monday', 'anomaly').any()\n"
        "print({'ray', 'torch', 'ultralytics', 'streamlit'} & set(sys.modules))"
    )
    place = small_store(tmp_path, size=32)
    done = subprocess.run(
        [sys.executable, "-c", code, place.store, str(place.policies), str(place.thresholds)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "set()", done.stderr[-2000:]
