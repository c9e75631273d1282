"""A server that speaks the S3 protocol, in a process of its own on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import boto3

SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
server.stop()
"""
SECRET = "a-Secret/that+nobody=sees-7Qx"  # noqa: S105 - of the tests' own server


@contextmanager
def s3_server() -> Iterator[str]:
    """The server for the time of a test session; its URL."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        host, port = process.stdout.readline().split()
        yield f"http://{host}:{port}"
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def access_to(url: str) -> dict[str, str]:
    """The environment in which a store is reached."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        # Nothing of the machine's own is asked.
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def new_bucket(url: str, name: str, files: Mapping[str, bytes] | None = None) -> str:
    """A bucket with files; its s3:// URI."""
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="someone",
        aws_secret_access_key=SECRET,
    )
    client.create_bucket(Bucket=name)
    for key, content in (files or {}).items():
        client.put_object(Bucket=name, Key=key, Body=content)
    return f"s3://{name}"


def files_below(root: Path, prefix: str = "") -> dict[str, bytes]:
    """The files of a folder by key."""
    paths = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {f"{prefix}{path.relative_to(root)}": path.read_bytes() for path in paths}
