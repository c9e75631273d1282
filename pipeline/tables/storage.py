"""Files of the store and of the archive, on a local disk or S3, with errors for people."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import InputError, RunError
from pipeline.tables.access import require_no_secret, s3_access
from pipeline.tables.patience import LOST_RACE_CODES, StoreAwayError, code_of
from pipeline.tables.store_errors import for_people

_S3 = ("s3://", "s3a://")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
# What disks without hard links say (exFAT, many of FUSE).
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

# A list of numbers as json.dumps writes it with an indent.
_NUMBERS = re.compile(r"\[\n\s+(-?[\d.eE+-]+(?:,\n\s+-?[\d.eE+-]+)*)\n\s+\]")

# Arrow's: no Parquet at all, and a footer or a page that can't be decoded.
DAMAGED_PARQUET = (pa.ArrowInvalid, OSError)


def join(base: str, *parts: str) -> str:
    """A path below `base`, for folders and s3:// prefixes alike."""
    return "/".join([base.rstrip("/"), *(part.strip("/") for part in parts)])


def is_remote(uri: str) -> bool:
    """Whether the URI names something that is not on a local disk."""
    return "://" in uri and not uri.startswith(("file://", "local://"))


def absolute(uri: str) -> str:
    """The same place in a form that every process of the cluster understands.

    A leading `~/` is the home folder: no shell sees what a file of settings says, and a folder of
    that name is one `rm -r` away from everything. `~x.png` is a file's name.
    """
    if is_remote(uri):
        return uri
    return os.path.abspath(_local_path(uri))  # noqa: PTH100


def _local_path(uri: str) -> str:
    """The path from `/` on. Its `..` stay: by way of a folder that isn't there nothing is found."""
    path = uri.removeprefix("file://").removeprefix("local://")
    if path == "~" or path.startswith("~/"):
        path = os.path.expanduser(path)  # noqa: PTH111
    if not os.path.isabs(path):  # noqa: PTH117
        below = "" if path == "." else path.removeprefix("./")
        path = f"{os.getcwd()}/{below}"  # noqa: PTH109
    return path.rstrip("/") or "/"


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URI and the path in it.

    Raises:
        InputError: an unknown scheme, a client that isn't installed, a password in the URI, or
            an endpoint that is no URL.
    """
    require_no_secret(uri)
    if uri.startswith(_S3):
        from pipeline.tables.s3 import s3_filesystem  # its import takes a second

        client = s3_filesystem(s3_access())
        return client, str(client._strip_protocol(uri))
    if not is_remote(uri):
        return LocalFileSystem(), _local_path(uri)
    # Not fsspec's url_to_fs: it takes `::` in a name for a chain of places, and reads another file.
    try:
        kind = fsspec.get_filesystem_class(uri.partition("://")[0])
        fs = kind(**kind._get_kwargs_from_urls(uri))
    except (ValueError, ImportError) as error:
        raise InputError(f"{uri}: no way to read it: {error}") from None
    return fs, str(kind._strip_protocol(uri))


@contextmanager
def errors_for(uri: str, field: str) -> Iterator[None]:
    """Turns the failures of a file system into one line that names field and value.

    Raises:
        InputError: what is missing, or not allowed, and what to do.
    """
    try:
        yield
    except StoreAwayError as error:
        raise StoreAwayError(
            f"{field}: {error}; check s3.endpoint_url or AWS_ENDPOINT_URL and the network, then "
            "try again"
        ) from None
    except (InputError, RunError):
        raise
    except Exception as error:
        words = for_people(error)
        if words is None:
            raise
        raise InputError(f"{field}: {uri}: {words}") from None


def read_bytes(uri: str) -> bytes:
    """A file's content; the file system's own errors."""
    fs, path = filesystem(uri)
    content: bytes = fs.cat_file(path)
    return content


class FileTooLargeError(OSError):
    """A file has more bytes than the reader takes."""


class NotAFileError(OSError):
    """There is something else: a pipe, a socket, a device. Reading it may never end."""


def read_at_most(uri: str, limit: int) -> bytes:
    """The content of a file of somebody else's; the file system's own errors.

    Raises:
        FileTooLargeError: it has more than `limit` bytes.
        NotAFileError: it is neither a file nor a folder.
    """
    fs, path = filesystem(uri)
    content = _read_range(fs, path, limit + 1) if is_remote(uri) else _read_local(path, limit)
    if len(content) > limit:
        raise FileTooLargeError(f"has more than {limit} bytes")
    return content


def _read_local(path: str, limit: int) -> bytes:
    mode = os.stat(path).st_mode  # noqa: PTH116 - opening a pipe would wait for its writer
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise NotAFileError("is no regular file")
    with open(path, "rb") as file:  # noqa: PTH123
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise FileTooLargeError(f"has {size} bytes")
        return file.read(limit + 1)


def _read_range(fs: fsspec.AbstractFileSystem, path: str, end: int) -> bytes:
    """The first `end` bytes: one request, where asking for the size first would make it two."""
    try:
        content: bytes = fs.cat_file(path, start=0, end=end)
    except OSError as error:
        # S3 has no range in an object without bytes.
        if error.errno != errno.EINVAL or fs.info(path)["size"]:
            raise
        return b""
    return content


def exists(uri: str) -> bool:
    """Whether a file or folder is there."""
    fs, path = filesystem(uri)
    return bool(fs.exists(path))


def write_bytes(uri: str, content: bytes) -> None:
    """Writes a file so that readers see all of it or nothing, also after a kill.

    Raises:
        RunError: the disk is full.
    """
    fs, path = filesystem(uri)
    if is_remote(uri):
        fs.pipe_file(path, content)  # one PUT: S3 shows whole objects only
        return
    fs.makedirs(fs._parent(path), exist_ok=True)
    partial = f"{path}.{uuid.uuid4().hex[:8]}.partial"
    try:
        with open(partial, "wb") as file:  # noqa: PTH123
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)  # noqa: PTH105
    except OSError as error:
        remove(partial)
        if error.errno in _NO_SPACE:
            raise RunError(
                f"{uri}: no space left on the store ({error.strerror}); what is committed is safe: "
                "make room, and the same command continues"
            ) from None
        raise


def create_bytes(uri: str, content: bytes) -> bool:
    """Writes a file only where there is none; whether it did. Of several at once one does.

    A store that ignores the condition of a PUT (S3 knows it since 2024) lets the last one win.
    """
    fs, path = filesystem(uri)
    if is_remote(uri):
        try:
            fs.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if code_of(error) not in LOST_RACE_CODES:
                raise
            return False
        return True
    fs.makedirs(fs._parent(path), exist_ok=True)
    partial = f"{path}.{uuid.uuid4().hex[:8]}.partial"
    try:
        write_bytes(partial, content)
        os.link(partial, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _create_in_place(path, content)
    finally:
        remove(partial)
    return True


def _create_in_place(path: str, content: bytes) -> bool:
    """On a disk without links: as exclusive, but a reader may meet a file that is half written."""
    try:
        with open(path, "xb") as file:  # noqa: PTH123
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        return False
    return True


def remove(uri: str) -> None:
    """Removes a file or a whole folder, if it is there."""
    fs, path = filesystem(uri)
    if fs.exists(path):
        fs.rm(path, recursive=True)


def remove_empty(folder: str) -> None:
    """Removes a folder, and the two around it, as far as nothing is in them; S3 has no folders."""
    path = folder
    for _ in range(0 if is_remote(folder) else 3):
        try:
            os.rmdir(path)  # noqa: PTH106
        except OSError:
            return
        path = os.path.dirname(path)  # noqa: PTH120


def list_names(folder: str) -> list[str]:
    """Names of the files directly in a folder, sorted; none if it isn't there.

    Files that a killed writer left half-written are not among them.
    """
    fs, path = filesystem(folder)
    fs.invalidate_cache()
    try:
        entries = fs.ls(path, detail=True)
    except FileNotFoundError:
        return []
    names = (str(entry["name"]).rsplit("/", 1)[-1] for entry in entries if entry["type"] == "file")
    return sorted(name for name in names if name and not name.endswith(".partial"))


def require_writable(folder: str, field: str) -> None:
    """Proves that files can be written below a folder.

    Raises:
        InputError: they can't.
    """
    probe = join(folder, f".linescore-{uuid.uuid4().hex[:8]}")
    with errors_for(folder, field):
        try:
            write_bytes(probe, b"")
            remove(probe)
        except OSError as error:
            if isinstance(error, PermissionError | FileNotFoundError | NotADirectoryError):
                raise
            raise InputError(f"{field}: {folder}: can't be written: {error}") from None


def read_json(uri: str) -> Any:
    """A JSON file.

    Raises:
        InputError: it is not JSON.
    """
    try:
        return json.loads(read_bytes(uri))
    except ValueError as error:
        raise InputError(f"{uri}: is damaged: not JSON ({error})") from None


def write_json(uri: str, value: Any) -> None:
    """Writes a JSON file that people can read."""
    write_bytes(uri, (_readable(value) + "\n").encode())


def _readable(value: Any) -> str:
    """JSON with a line for each entry, but for lists of numbers, which take one together.

    A line break inside a text is escaped, so that what looks like such a list is one.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _NUMBERS.sub(lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text)


def parquet_bytes(table: pa.Table, row_group_rows: int = 100_000) -> bytes:
    """A table as a Parquet file: zstd, statistics, no dictionary for numbers.

    Dictionaries make columns of floats larger, not smaller.
    """
    sink = pa.BufferOutputStream()
    names = [f.name for f in table.schema if pa.types.is_string(f.type)]
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=names,
        row_group_size=row_group_rows,
        write_page_index=True,
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content


def parquet_columns(uri: str) -> list[str]:
    """Names of a Parquet file's columns.

    Raises:
        InputError: it is not Parquet.
    """
    fs, path = filesystem(uri)
    with fs.open(path, "rb") as file:
        try:
            return list(pq.read_schema(file).names)
        except DAMAGED_PARQUET as error:
            raise InputError(f"{uri}: can't be read as Parquet: {error}") from None


def read_parquet(uri: str, columns: list[str] | None = None) -> pa.Table:
    """A whole Parquet file.

    Raises:
        InputError: it is not Parquet, is damaged, or lacks one of the columns.
    """
    content = read_bytes(uri)
    try:
        return pq.read_table(pa.BufferReader(content), columns=columns)
    except DAMAGED_PARQUET as error:
        raise InputError(f"{uri}: can't be read as Parquet: {error}") from None
