"""What a read of a small object costs the client: `python -m tests.benchmarks.s3`.

The server, moto on loopback, is slower than any client and as far away as this process: images a
second say little. The client's processor time for a read is what it would be against any store.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.s3_server import access_to, new_bucket, s3_server

OBJECTS, READS, BYTES = 200, 600, 20_000
BUCKET = "bench-reads"
IN_FLIGHT = (1, 8, 32)
END = 10**9


def ours(in_flight: int) -> Callable[[list[str]], object]:
    from pipeline.tables import storage

    return pooled(in_flight, lambda key: storage.read_at_most(f"s3://{key}", END))


def s3fs_threads(in_flight: int) -> Callable[[list[str]], object]:
    import s3fs

    fs = s3fs.S3FileSystem()
    return pooled(in_flight, lambda key: fs.cat_file(key, start=0, end=END))


def s3fs_async(in_flight: int) -> Callable[[list[str]], object]:
    import s3fs

    fs = s3fs.S3FileSystem()
    return lambda keys: fs.cat_ranges(
        keys, [0] * len(keys), [END] * len(keys), batch_size=in_flight
    )


def boto3_threads(in_flight: int) -> Callable[[list[str]], object]:
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", config=Config(max_pool_connections=in_flight))

    def read(key: str) -> Any:
        bucket, _, name = key.partition("/")
        return client.get_object(Bucket=bucket, Key=name)["Body"].read()

    return pooled(in_flight, read)


def pyarrow_threads(in_flight: int) -> Callable[[list[str]], object]:
    from pyarrow.fs import S3FileSystem

    host = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    fs = S3FileSystem(endpoint_override=host, scheme="http", region="us-east-1")

    def read(key: str) -> Any:
        with fs.open_input_stream(key) as stream:
            return stream.read()

    return pooled(in_flight, read)


CLIENTS = {
    "linescore": ours,
    "s3fs threads": s3fs_threads,
    "s3fs async": s3fs_async,
    "boto3 threads": boto3_threads,
    "pyarrow threads": pyarrow_threads,
}


def pooled(in_flight: int, read: Callable[[str], Any]) -> Callable[[list[str]], object]:
    pool = ThreadPoolExecutor(in_flight)
    return lambda keys: list(pool.map(read, keys))


def measure(name: str, in_flight: int) -> None:
    """Of this process, which reads with one client only."""
    keys = [f"{BUCKET}/{place % OBJECTS}.png" for place in range(READS)]
    read = CLIENTS[name](in_flight)
    read(keys[: 2 * in_flight])  # connections, and what is loaded at the first read
    wall, busy = time.monotonic(), time.process_time()
    read(keys)
    wall, busy = time.monotonic() - wall, time.process_time() - busy
    print(f"| {name} | {in_flight} | {1000 * busy / READS:.2f} | {READS / wall:.0f} |", flush=True)


def main() -> None:
    if len(sys.argv) > 1:
        measure(sys.argv[1], int(sys.argv[2]))
        return
    print("| client | in flight | client's CPU, ms a read | reads/s, moto's limit |")
    print("|---|---|---|---|", flush=True)
    with s3_server() as url:
        new_bucket(url, BUCKET, {f"{place}.png": os.urandom(BYTES) for place in range(OBJECTS)})
        environment = os.environ | access_to(url)
        for name in CLIENTS:
            for in_flight in IN_FLIGHT:
                call = [sys.executable, "-m", "tests.benchmarks.s3", name, str(in_flight)]
                subprocess.run(call, env=environment, check=True)


if __name__ == "__main__":
    main()
