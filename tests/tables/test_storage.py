"""Files of the store: whole or not there, and failures that name the setting and the place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.tables import storage

ROOT = Path(__file__).parents[2]


@pytest.fixture
def memory() -> Iterator[str]:
    """A store that is not on a local disk."""
    store = f"memory://store-{uuid.uuid4().hex[:8]}"
    yield store
    storage.remove(store)


def run_python(code: str, *arguments: str, prefix: tuple[str, ...] = ()) -> tuple[int, str]:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


# --- places ---


def test_join_takes_slashes_as_they_come() -> None:
    assert storage.join("s3://bucket/store/", "/runs/", "a") == "s3://bucket/store/runs/a"
    assert storage.join("/data", "runs", "a.json") == "/data/runs/a.json"


@pytest.mark.parametrize("uri", ["s3://bucket/a", "memory://a", "gs://a/b"])
def test_a_remote_place_stays_as_it_is(uri: str) -> None:
    assert storage.is_remote(uri)
    assert storage.absolute(uri) == uri


@pytest.mark.parametrize("form", ["{0}", "file://{0}", "local://{0}", "{0}/x/.."])
def test_a_local_place_has_one_absolute_form(form: str, tmp_path: Path) -> None:
    uri = form.format(tmp_path)
    assert not storage.is_remote(uri)
    assert storage.absolute(uri) == str(tmp_path)


def test_a_relative_place_starts_where_the_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("store") == str(tmp_path / "store")


@pytest.mark.parametrize("form", ["~/store", "file://~/store"])
def test_the_home_folder_is_meant_where_no_shell_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    assert storage.absolute("~") == str(home)
    assert storage.absolute(form) == str(home / "store")
    storage.write_bytes(f"{form}/a.json", b"{}")
    assert (home / "store" / "a.json").read_bytes() == b"{}"
    assert storage.exists(storage.absolute(form))
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("name", ["~x.png", "~root", "a/~", "a/~/x.png", "./~/x.png"])
def test_a_tilde_elsewhere_is_a_letter_of_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    place = tmp_path / name
    assert storage.absolute(name) == storage.absolute(str(place)) == str(place)
    storage.write_bytes(name, b"x")
    assert place.read_bytes() == storage.read_bytes(name) == b"x"
    assert not (tmp_path / "home").exists()


def test_no_file_is_found_by_way_of_a_folder_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_bytes(b"{}")
    monkeypatch.chdir(tmp_path)
    for place in ("", f"{tmp_path}/", f"file://{tmp_path}/", "./"):
        assert storage.exists(f"{place}a.json")
        assert not storage.exists(f"{place}gone/../a.json")
    assert storage.list_names(".") == storage.list_names("./") == ["a.json"]


# To fsspec `::` chains places, of which the first is a file in the second.
COLONS = ["a.png::b.png", "10::22.png", "line::1/c.png", "zip::a.png", "file::memory::x.png", "::"]


@pytest.mark.parametrize("name", COLONS)
def test_colons_in_a_name_are_letters_of_it(tmp_path: Path, name: str) -> None:
    other, own = tmp_path / "a.png", tmp_path / name
    other.write_bytes(b"another file")
    storage.write_bytes(str(own), b"its own")
    assert own.read_bytes() == b"its own"
    for uri in (str(own), f"file://{own}"):
        assert storage.exists(uri)
        assert storage.read_bytes(uri) == storage.read_at_most(uri, 7) == b"its own"
    assert own.name in storage.list_names(str(own.parent))
    storage.remove(str(own))
    assert not own.exists()
    assert other.read_bytes() == b"another file"


@pytest.mark.parametrize("name", COLONS)
def test_colons_in_a_name_elsewhere_are_letters_too(memory: str, name: str) -> None:
    contents = {storage.join(memory, "a.png"): b"another file", storage.join(memory, name): b"own"}
    for uri, content in contents.items():
        storage.write_bytes(uri, content)
    assert {uri: storage.read_at_most(uri, 20) for uri in contents} == contents


def test_a_chain_of_places_is_no_place() -> None:
    with pytest.raises(InputError, match=r"^simplecache::memory://a: no way to read it: "):
        storage.filesystem("simplecache::memory://a")


@pytest.mark.parametrize("uri", ["nosuch://bucket/a", "abfs://container/a"])
def test_a_scheme_that_nobody_knows_or_whose_client_is_missing(uri: str) -> None:
    with pytest.raises(InputError, match=f"^{uri}: no way to read it: "):
        storage.filesystem(uri)


# --- writing ---


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    for place in (str(tmp_path_factory.mktemp("s")), f"memory://round-{uuid.uuid4().hex}"):
        uri = storage.join(place, "a folder/größe.bin")
        assert not storage.exists(uri)
        storage.write_bytes(uri, content)
        assert storage.read_bytes(uri) == content
        storage.write_bytes(uri, b"other")
        assert storage.read_bytes(uri) == b"other"
        assert storage.list_names(storage.join(place, "a folder")) == ["größe.bin"]
        storage.remove(place)


KILLED = """
import os, sys
from pipeline.tables import storage
sys.addaudithook(lambda event, _: os._exit(9) if event == "os.rename" else None)
storage.write_bytes(sys.argv[1], b"new" * 1000)
"""


def test_a_writer_killed_before_its_rename_leaves_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "run.json"
    storage.write_bytes(str(target), b"old")
    status, output = run_python(KILLED, str(target))
    assert status == 9, output
    assert target.read_bytes() == b"old"
    assert storage.list_names(str(tmp_path)) == ["run.json"]
    left = [file for file in tmp_path.iterdir() if file != target]
    assert [file.read_bytes() for file in left] == [b"new" * 1000]  # it was killed at that moment


def test_a_writer_killed_before_its_first_rename_leaves_nothing_to_see(tmp_path: Path) -> None:
    target = tmp_path / "commits" / "a.json"
    status, output = run_python(KILLED, str(target))
    assert status == 9, output
    assert not storage.exists(str(target))
    assert storage.list_names(str(target.parent)) == []


FULL_DISK = """
import resource, sys
from pipeline.tables import storage
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    storage.write_bytes(sys.argv[1], b"new" * 1000)
except OSError as error:
    print("refused", error.errno)
"""


def test_a_disk_that_takes_no_more_leaves_the_old_content_and_no_rubbish(tmp_path: Path) -> None:
    target = tmp_path / "run.json"
    storage.write_bytes(str(target), b"old")
    status, output = run_python(FULL_DISK, str(target))
    assert (status, output.split()[0]) == (0, "refused"), output
    assert target.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_a_target_that_is_a_folder_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    (folder / "b").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        storage.write_bytes(str(folder), b"x")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_names_are_those_of_whole_files_sorted(tmp_path: Path, memory: str) -> None:
    for store in (str(tmp_path), memory):
        assert storage.list_names(storage.join(store, "commits")) == []
        for name in ("commits/b.json", "commits/a.json", "commits/below/c.json", "z"):
            storage.write_bytes(storage.join(store, name), b"{}")
        storage.filesystem(store)[0].pipe_file(
            storage.filesystem(storage.join(store, "commits/a.json.0a1b2c3d.partial"))[1], b"{"
        )
        assert storage.list_names(storage.join(store, "commits")) == ["a.json", "b.json"]


def test_remove_takes_files_and_folders_and_what_is_not_there(tmp_path: Path, memory: str) -> None:
    for store in (str(tmp_path), memory):
        for name in ("a/b/c", "a/d", "e"):
            storage.write_bytes(storage.join(store, name), b"1")
        storage.remove(storage.join(store, "e"))
        storage.remove(storage.join(store, "a"))
        storage.remove(storage.join(store, "never"))
        assert not any(storage.exists(storage.join(store, n)) for n in ("a", "a/b/c", "a/d", "e"))


def test_a_listing_is_fresh_after_another_writer(memory: str) -> None:
    folder = storage.join(memory, "commits")
    storage.write_bytes(storage.join(folder, "a"), b"")
    assert storage.list_names(folder) == ["a"]
    fs, path = storage.filesystem(folder)
    fs.pipe_file(f"{path}/b", b"")
    assert storage.list_names(folder) == ["a", "b"]


# --- may it be written? ---


def test_a_writable_folder_is_proved_and_left_clean(tmp_path: Path, memory: str) -> None:
    for store in (str(tmp_path / "new" / "store"), memory):
        storage.require_writable(store, "store")
        assert storage.list_names(store) == []


@pytest.mark.parametrize("below", ["", "/store", "/a/store"])
def test_a_folder_that_is_or_lies_below_a_file(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    folder = f"{file}{below}"
    with pytest.raises(InputError, match=f"^store: {folder}: ") as error:
        storage.require_writable(folder, "store")
    assert "Not a directory" in str(error.value) or "File exists" in str(error.value)
    assert file.read_text() == "x"


REQUIRE_WRITABLE = """
import sys
from pipeline.errors import InputError
from pipeline.tables import storage
try:
    storage.require_writable(sys.argv[1], "store")
except InputError as error:
    print(error)
"""


def test_a_file_system_that_is_mounted_read_only(tmp_path: Path) -> None:
    """In a mount namespace of its own, which ends with the process."""
    mount = 'mount -t tmpfs -o ro none "$0" && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", mount, str(tmp_path))
    try:
        able = subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        able = False
    if not able:
        pytest.skip("this process may not mount a file system")
    status, output = run_python(REQUIRE_WRITABLE, str(tmp_path / "store"), prefix=prefix)
    assert status == 0
    assert output.startswith(f"store: {tmp_path / 'store'}: can't be written: ")
    assert "Read-only file system" in output


@contextmanager
def without_the_rights_of_root() -> Iterator[None]:
    """Root may write everywhere: for a moment, this process is somebody else."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_without_the_right_to_write(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    with (
        without_the_rights_of_root(),
        pytest.raises(InputError, match=f"^store: {folder}: access denied .*check the rights"),
    ):
        storage.require_writable(str(folder), "store")


# --- failures for people ---


def refusal(error: Exception) -> str:
    with pytest.raises(InputError) as caught, storage.errors_for("s3://b/x", "manifest"):
        raise error
    assert caught.value.__suppress_context__
    return str(caught.value)


def test_failures_of_a_file_system_name_the_setting_and_the_place() -> None:
    assert refusal(FileNotFoundError("x")) == "manifest: s3://b/x: there is no such file or folder"
    denied = refusal(PermissionError("Forbidden"))
    assert denied.startswith("manifest: s3://b/x: access denied (Forbidden); check the rights")
    assert refusal(IsADirectoryError(21, "Is a directory")) == "manifest: s3://b/x: Is a directory"
    assert refusal(NotADirectoryError("no folder")) == "manifest: s3://b/x: no folder"


@pytest.mark.parametrize("name", ["NoCredentialsError", "PartialCredentialsError"])
def test_missing_credentials_say_where_to_put_them(name: str) -> None:
    exceptions = pytest.importorskip("botocore.exceptions")
    error = getattr(exceptions, name)(provider="env", cred_var="AWS_SECRET_ACCESS_KEY")
    message = refusal(error)
    assert message.startswith("manifest: s3://b/x: no S3 credentials (")
    assert "AWS_ACCESS_KEY_ID" in message


def test_credentials_that_can_not_be_fetched_say_so_too() -> None:
    exceptions = pytest.importorskip("botocore.exceptions")
    error = exceptions.CredentialRetrievalError(provider="custom-process", error_msg="ended")
    assert refusal(error).startswith("manifest: s3://b/x: no S3 credentials (Error when retrieving")
    error = exceptions.SSLError(endpoint_url="https://minio.plant:9000", error="self-signed")
    message = refusal(error)
    assert "the store's certificate is not trusted (SSL validation failed for https" in message
    assert "AWS_CA_BUNDLE=FILE" in message


def test_other_failures_are_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError), storage.errors_for("x", "manifest"):
        raise ZeroDivisionError
    own = InputError("already told")
    with pytest.raises(InputError) as caught, storage.errors_for("x", "manifest"):
        raise own
    assert caught.value is own


# --- JSON and Parquet ---


@pytest.mark.parametrize("content", [b"", b"{", b"{'a': 1}", b'{"a": 1}x', b"\xff\xfe\xff", b"\0"])
def test_a_damaged_json_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "run.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"^{file}: is damaged: not JSON"):
        storage.read_json(str(file))


def test_json_is_written_for_people(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    value = {"category": "größe", "n": [1, 2.5, None]}
    storage.write_json(str(file), value)
    assert storage.read_json(str(file)) == value == json.loads(file.read_bytes())
    assert "größe" in file.read_text(encoding="utf-8")
    assert file.read_text(encoding="utf-8").endswith("\n")


def test_a_list_of_numbers_takes_one_line(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    value = {"bins": [1, -2.5, 3e-7], "mixed": [1, None], "deep": {"a": [[], [7]]}}
    storage.write_json(str(file), value)
    text = file.read_text()
    assert '"bins": [1, -2.5, 3e-07]' in text
    assert "    1,\n    null" in text
    assert storage.read_json(str(file)) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("[]0,\n e1"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("[0\n]", max_size=4), inner),
    max_leaves=12,
)


@given(JSON)
def test_no_value_of_json_changes_on_the_way(value: object) -> None:
    assert json.loads(storage._readable(value)) == value


NUMBERS = pa.table(
    {
        "image_id": pa.array(range(5000), pa.int64()),
        "uri": [f"s3://archive/{i * 7919 % 5000}.png" for i in range(5000)],
        "score": np.random.default_rng(0).random(5000).astype(np.float32),
    }
)


def test_a_table_is_read_whole_or_by_column(tmp_path: Path) -> None:
    file = str(tmp_path / "t.parquet")
    storage.write_bytes(file, storage.parquet_bytes(NUMBERS))
    assert storage.read_parquet(file).equals(NUMBERS)
    assert storage.read_parquet(file, ["score", "image_id"]).equals(
        NUMBERS.select(["score", "image_id"])
    )


def damaged(kind: str) -> bytes:
    content = storage.parquet_bytes(NUMBERS)
    if kind == "empty":
        return b""
    if kind == "text":
        return b"image_id,uri\n1,a.png\n" * 10
    if kind == "cut":
        return content[: len(content) // 2]
    place = {"first page": 12, "footer": len(content) - 60, "magic": len(content) - 2}[kind]
    return content[:place] + b"\xff" * min(8, len(content) - place) + content[place + 8 :]


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "first page", "footer", "magic"])
def test_a_damaged_parquet_file_is_named(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "t.parquet"
    file.write_bytes(damaged(kind))
    with pytest.raises(InputError, match=f"^{file}: can't be read as Parquet: "):
        storage.read_parquet(str(file))


def test_an_absent_file_is_the_file_systems_own_error(tmp_path: Path) -> None:
    for read in (storage.read_parquet, storage.read_json, storage.read_bytes):
        with pytest.raises(FileNotFoundError):
            read(str(tmp_path / "absent"))


def test_rows_are_grouped_as_asked(tmp_path: Path) -> None:
    content = storage.parquet_bytes(NUMBERS, row_group_rows=2000)
    metadata = pq.ParquetFile(pa.BufferReader(content)).metadata
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert groups == [2000, 2000, 1000]
