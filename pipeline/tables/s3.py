"""A client of S3 that sits out what passes, request by request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem

from pipeline.tables.access import S3Access
from pipeline.tables.patience import BrokenBodyError, Patience

# Connections per process: above the reads that a worker's tasks have in flight together.
_CONNECTIONS = 64
# Larger objects are read in pieces, so that a broken one costs a piece.
_PIECE_BYTES = 32 * 2**20
# Pieces of an object in flight.
_PIECES = 4


@dataclass(frozen=True)
class _Part:
    """What a GET brought: the place of its first byte, its size, and its bytes if it's small."""

    first: int
    size: int
    etag: str
    content: bytes | None


class NotDeletedError(OSError):
    """A store's answer to a deletion of many objects that left some of them.

    Attributes:
        response: as botocore's errors have it.
    """

    response: dict[str, Any]


class PatientS3(S3FileSystem):  # type: ignore[misc]
    """fsspec's S3 file system with one layer of retries, ours, around each request.

    botocore's and s3fs's own are off: they multiply, and count tries where an outage lasts
    for a time. Listings are never cached: other processes write.
    """

    retries = 1

    def __init__(self, *arguments: Any, retry_s: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._patience = Patience(retry_s)

    async def _call_s3(self, method: str, *more: Any, **request: Any) -> Any:
        call = super()._call_s3
        tries = 0

        async def once() -> Any:
            nonlocal tries
            tries += 1
            try:
                answer = await call(method, *more, **request)
            except FileNotFoundError:
                if method != "complete_multipart_upload" or tries == 1:
                    raise
                # An earlier try completed the upload, and its answer was lost.
                return await call("head_object", Bucket=request["Bucket"], Key=request["Key"])
            if method == "delete_objects" and answer.get("Errors"):
                raise _not_deleted(answer["Errors"][0])
            return answer

        return await self._patience.keep_on(_place(request), once)

    async def _cat_file(
        self,
        path: str,
        version_id: str | None = None,
        start: int | None = None,
        end: int | None = None,
        **_: Any,
    ) -> bytes:
        """An object's bytes, or a range of them, of the length that the store says."""
        bucket, key, in_path = self.split_path(path)
        request = {"Bucket": bucket, "Key": key}
        if version_id or in_path:
            request["VersionId"] = version_id or in_path
        if start is not None or end is not None:
            if start is not None and start == end:
                return b""
            request["Range"] = await self._process_limits(path, start, end)
        pieces = [piece async for piece in self._pieces(request)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _pieces(self, request: dict[str, Any]) -> Any:
        """The content of a GET in order: whole where it is small, else piece by piece."""
        part = await self._get(request, most=_PIECE_BYTES)
        if part.content is not None:
            yield part.content
            return
        # The same version throughout: an object that is replaced in between is an error.
        pinned = request | ({"IfMatch": part.etag} if part.etag else {})
        ranges = [
            f"bytes={part.first + at}-{part.first + min(at + _PIECE_BYTES, part.size) - 1}"
            for at in range(0, part.size, _PIECE_BYTES)
        ]
        for at in range(0, len(ranges), _PIECES):
            some = [self._get(pinned | {"Range": r}) for r in ranges[at : at + _PIECES]]
            for piece in await asyncio.gather(*some):
                yield piece.content

    async def _get(self, request: dict[str, Any], most: int | None = None) -> _Part:
        """One GET with its body; beyond `most` bytes without it."""
        call = super()._call_s3

        async def once() -> _Part:
            answer = await call("get_object", **request)
            size, body = answer["ContentLength"], answer["Body"]
            first = _first_byte(answer.get("ContentRange", ""))
            try:
                if most is not None and size > most:
                    return _Part(first, size, answer.get("ETag", ""), None)
                content = await body.read()
            finally:
                body.close()
            if len(content) != size:
                raise BrokenBodyError(f"has {len(content)} bytes, where {size} were announced")
            return _Part(first, size, answer.get("ETag", ""), content)

        return await self._patience.keep_on(_place(request), once)

    async def _get_file(self, rpath: str, lpath: str, **_: Any) -> None:
        bucket, key, _version = self.split_path(rpath)
        with Path(lpath).open("wb") as file:
            async for piece in self._pieces({"Bucket": bucket, "Key": key}):
                file.write(piece)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = super()._open(path, mode, **options)
        if mode == "rb":
            file.cache.fetcher = lambda start, end: self.cat_file(path, start=start, end=end)
        return file

    async def _exists(self, path: str, **_: Any) -> bool:
        """Whether there is an object or a prefix; what isn't an answer is an error."""
        try:
            await self._info(path)
        except FileNotFoundError:
            return False
        return True

    exists = sync_wrapper(_exists)

    async def _isdir(self, path: str) -> bool:
        try:
            return bool((await self._info(path))["type"] == "directory")
        except FileNotFoundError:
            return False

    isdir = sync_wrapper(_isdir)


def _not_deleted(refusal: Mapping[str, str]) -> NotDeletedError:
    error = NotDeletedError(f"{refusal.get('Key')}: not deleted: {refusal.get('Message')}")
    error.response = {"Error": dict(refusal)}
    return error


def _first_byte(content_range: str) -> int:
    """From the header of a partial answer, such as `bytes 10-19/100`."""
    return int(content_range.removeprefix("bytes ").partition("-")[0] or 0)


def _place(request: dict[str, Any]) -> str:
    return f"s3://{request.get('Bucket', '')}/{request.get('Key') or request.get('Prefix') or ''}"


def s3_filesystem(access: S3Access) -> PatientS3:
    """The client of this process; the same settings give the same one."""
    region = {"region_name": access.region} if access.region else {}
    profile = {"profile": access.profile} if access.profile else {}
    return PatientS3(
        retry_s=access.retry_s,
        endpoint_url=access.endpoint_url,
        client_kwargs=region,
        config_kwargs={
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "connect_timeout": access.connect_timeout_s,
            "read_timeout": access.read_timeout_s,
            "max_pool_connections": _CONNECTIONS,
        },
        use_listings_cache=False,
        **profile,
    )
