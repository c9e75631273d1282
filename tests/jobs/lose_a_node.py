"""Scores on a cluster of three nodes, one of which is torn away in the middle; run by a test.

Arguments: `networks` or `stubs`, the commits after which the node goes, and the settings of
jobs/score.py.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from ray.cluster_utils import Cluster

from jobs.score import main
from pipeline.config import ScoreConfig, parse
from tests.stub_models import models_of

CPUS_PER_NODE = 2
STORE_BYTES = 200 * 1024**2


def lose(cluster: Cluster, folder: Path, commits: int) -> None:
    """Removes the node that was added last, without a warning, once so many commits are there."""

    def count() -> int:
        return len(list(folder.glob("commits/*.json")))

    while count() < commits:
        time.sleep(0.01)
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    print(f"a node is gone after {count()} commits", flush=True)


if __name__ == "__main__":
    networks, commits, *settings = sys.argv[1:]
    config = parse(ScoreConfig, "", settings)
    cluster = Cluster()
    for _ in range(3):
        cluster.add_node(num_cpus=CPUS_PER_NODE, object_store_memory=STORE_BYTES)
    thread = threading.Thread(
        target=lose,
        args=(cluster, Path(config.store) / "runs" / str(config.run_id), int(commits)),
        daemon=True,
    )
    thread.start()
    # Tearing a node away takes a moment, in which the run must not end.
    with models_of(networks == "networks", seconds=0.03):
        status = main([*settings, f"ray.address={cluster.address}"])
    cluster.shutdown()
    sys.exit(status)
