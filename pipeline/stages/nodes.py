"""Nodes of a cluster: waiting for those a job asks for, and a local one that nobody reaches."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import ray
from ray._private import ray_constants
from ray.autoscaler.sdk import request_resources

from pipeline.config import RayConfig
from pipeline.errors import InputError

log = logging.getLogger("linescore")


@contextmanager
def grown(config: RayConfig) -> Iterator[None]:
    """Asks an autoscaler for the nodes that a config wants, and waits for them.

    Raises:
        InputError: they don't come.
    """
    wanted = {"CPU": config.min_cpus or 0, "GPU": config.min_gpus or 0}
    if not any(wanted.values()):
        yield
        return
    request_resources(num_cpus=wanted["CPU"], bundles=[{"GPU": 1}] * wanted["GPU"])
    try:
        _wait_for_nodes(wanted, config.startup_wait_s)
        yield
    finally:
        request_resources(num_cpus=0)


def _wait_for_nodes(wanted: Mapping[str, int], wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    told = False
    while True:
        there = ray.cluster_resources()
        missing = {k: n for k, n in wanted.items() if there.get(k, 0) < n}
        if not missing:
            return
        found = ", ".join(f"{there.get(kind, 0):g} of {wanted[kind]} {kind}s" for kind in missing)
        if time.monotonic() >= deadline:
            raise InputError(
                f"ray.min_cpus, ray.min_gpus: after {wait_s:g} s the cluster has {found}; ask for "
                "less, or look why no node comes (`ray status`)"
            )
        if not told:
            log.info("waiting for nodes: %s are there", found)
            told = True
        time.sleep(1)


@contextmanager
def loopback_only() -> Iterator[None]:
    """A Ray started meanwhile listens on 127.0.0.1 alone: it executes whatever reaches it.

    Left to itself it takes the machine's address and listens on all interfaces; an address of
    loopback given to it is replaced by that one. Ray's switch against this is an environment
    variable, which it reads when it is imported: hence both.
    """
    switch, before = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    given = os.environ.get(switch)
    os.environ[switch], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
        _keep_token_private()
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(switch)
        if given is not None:
            os.environ[switch] = given


def _keep_token_private() -> None:
    """Other users of the machine reach loopback too, and Ray writes its token readable for all."""
    token = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):  # somebody else's file, or none: a token from the environment
        if token.stat().st_mode & 0o077:
            token.chmod(0o600)
