"""The whole job against a bare loop: images a second once everything is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from pipeline.config import IndexConfig
from pipeline.scoring.bundle import open_bundle
from tests.benchmarks.apart import ROOT, result_of
from tests.benchmarks.archive import write_pictures
from tests.benchmarks.bare_images import Task
from tests.benchmarks.finding import write_detector
from tests.benchmarks.ratios import Ratio, in_turns_with

BATCH = 16
SQUARE = 256
COMMIT_ROWS = 32
# Between these shares of a run everything is loaded, and decoding is still at work: what is left
# at the end is more than what can be decoded ahead, or networks would have the processor alone.
FROM, UNTIL = 0.25, 0.65
# By itself Ray's store has room for some thousand decoded images: all of a small archive would be
# decoded while models load. With room for fewer blocks than these, networks wait for images. Ray
# Data fills half of it, and each core's actor and task have a block each.
CORES = len(os.sched_getaffinity(0))
STORED_BLOCKS, BLOCK_ROWS = 10 * CORES, 32
AHEAD_BLOCKS = STORED_BLOCKS // 2 + 2 * CORES
# Of a plain loop on each core, behind those that warm it up.
LOOP_BATCHES = 16
# Images for which as much is left, and so many batches of each loop.
LEAST_IMAGES = max(
    round(AHEAD_BLOCKS * BLOCK_ROWS / (1 - UNTIL)),
    round(CORES * LOOP_BATCHES * BATCH / (UNTIL - FROM)),
)


@dataclass(frozen=True)
class Plant:
    """An archive, its manifest, and a bundle for each case.

    Attributes:
        store: where all lies.
        manifest: of the archive.
        files: its images, in the manifest's order.
    """

    store: Path
    manifest: str
    files: tuple[str, ...]


def plant(folder: Path, images: int, side: int, kind: str) -> Plant:
    """Writes an archive and indexes it."""
    from pipeline.stages.index import run_index

    write_pictures(folder / "archive", images, side, kind)
    config = IndexConfig(source=str(folder / "archive"), store=str(folder), name="m")
    manifest = run_index(config)["manifest"]
    return Plant(folder, manifest, _uris(manifest))


def _uris(manifest: str) -> tuple[str, ...]:
    import pyarrow.parquet as pq

    return tuple(pq.read_table(manifest, columns=["uri"])["uri"].to_pylist())


def fit(found: Plant, letterboxed: int, precision: str, detector_batch: int = BATCH) -> str:
    """A bundle of full-size networks with seeded weights."""
    models = found.store / "models"
    if not models.exists():
        models.mkdir()
        torch.manual_seed(7)
        save_file(resnet18(num_classes=2).state_dict(), models / "resnet.safetensors")
    detector = models / f"yolo-{letterboxed}.pt"
    if not detector.exists():
        write_detector(detector, letterboxed)
    settings = {
        "manifest": found.manifest,
        "store": found.store,
        "backbone.weights": models / "resnet.safetensors",
        "backbone.batch_size": BATCH,
        "backbone.image_size": SQUARE,
        "classifier.weights": models / "resnet.safetensors",
        "classifier.batch_size": BATCH,
        "detector.weights": detector,
        "detector.trusted": "true",
        "detector.image_size": letterboxed,
        "detector.batch_size": detector_batch,
        "precision": precision,
        "run_id": f"fit-{letterboxed}-{precision}",
    }
    job("fit", settings)
    return open_bundle("latest", str(found.store)).uri


def job(name: str, settings: dict[str, object]) -> None:
    """Runs a job in a process of its own."""
    done = subprocess.run(
        [sys.executable, f"jobs/{name}.py", *(f"{k}={v}" for k, v in settings.items())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}: {done.stderr}")


def small_store(letterboxed: int) -> dict[str, str]:
    """An environment in which Ray's object store has room for few decoded images."""
    image = 3 * (letterboxed**2 + SQUARE**2)
    size = STORED_BLOCKS * BLOCK_ROWS * image
    return {"RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(size)}


def own_speed(
    found: Plant, bundle: str, settings: dict[str, object], environment: Mapping[str, str]
) -> float:
    """Images a second of jobs/score.py in the middle of its run."""
    run_id = f"bench-{time.monotonic_ns()}"
    arguments = {
        "manifest": found.manifest,
        "bundle": bundle,
        "store": found.store,
        "run_id": run_id,
        "reuse": "false",
        "commit_rows": COMMIT_ROWS,
    } | settings
    commits = found.store / "runs" / run_id / "commits"
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "jobs/score.py", *(f"{k}={v}" for k, v in arguments.items())],
            cwd=ROOT,
            env=os.environ | dict(environment),
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        seen: list[tuple[float, int]] = []
        while process.poll() is None:
            count = len(list(commits.glob("*.json"))) if commits.exists() else 0
            if count and (not seen or seen[-1][1] < count):
                seen.append((time.monotonic(), count))
            time.sleep(0.05)
        if process.returncode:
            said.seek(0)
            raise SystemExit(said.read())
    return middle_speed(seen, len(found.files) / COMMIT_ROWS) * COMMIT_ROWS


def middle_speed(seen: Sequence[tuple[float, int]], total: float) -> float:
    """Commits a second in the middle of a run, of (time, commits) pairs."""
    first = next(pair for pair in seen if pair[1] >= FROM * total)
    last = next(pair for pair in seen if pair[1] >= UNTIL * total)
    return (last[1] - first[1]) / (last[0] - first[0])


def loop_speed(
    found: Plant, bundle: str, letterboxed: int, precision: str, *, threads: int, workers: int
) -> float:
    """Images a second of the bare loop, in a process of its own."""
    return sum(_loops(found, bundle, letterboxed, precision, threads, workers, 1))


def loops_speed(found: Plant, bundle: str, letterboxed: int, precision: str, loops: int) -> float:
    """Images a second of bare loops side by side, each with a thread and a part of the images."""
    return sum(_loops(found, bundle, letterboxed, precision, 1, 0, loops))


def _loops(
    found: Plant,
    bundle: str,
    letterboxed: int,
    precision: str,
    threads: int,
    workers: int,
    loops: int,
) -> list[float]:
    # As long as the part of our run that is measured.
    files = found.files[: int(len(found.files) * (UNTIL - FROM))]
    facts = (bundle, SQUARE, letterboxed, BATCH, threads, workers, precision, "part")
    tasks = [asdict(Task(list(files[number::loops]), *facts)) for number in range(loops)]
    run = partial(result_of, "-m", "tests.benchmarks.bare_loop")
    with ThreadPoolExecutor(loops) as pool:
        seen = list(pool.map(lambda task: run(given=task), tasks))
    return [float(one["images"] / one["seconds"]) for one in seen]


def compare(
    images: int,
    turns: int,
    letterboxed: int,
    precision: str,
    settings: dict[str, object],
    side: int = 1024,
    kind: str = "jpeg",
) -> list[Ratio]:
    """The job against a plain loop, a DataLoader with workers, and a plain loop on each core."""
    with tempfile.TemporaryDirectory(prefix="linescore-bench-") as folder:
        found = plant(Path(folder), images, side, kind)
        given = (found, fit(found, letterboxed, precision), letterboxed, precision)
        others: dict[str, Callable[[], float]] = {
            f"bare loop, {CORES} threads": lambda: loop_speed(*given, threads=CORES, workers=0),
            f"DataLoader, {CORES} workers": lambda: loop_speed(
                *given, threads=CORES, workers=CORES
            ),
            f"{CORES} bare loops, a thread each": lambda: loops_speed(*given, CORES),
        }
        return in_turns_with(
            lambda: own_speed(found, given[1], settings, small_store(letterboxed)),
            {
                f"score / {name}: detector {letterboxed} px, {precision}, {kind} {side} px": other
                for name, other in others.items()
            },
            turns,
        )


def main() -> None:
    """`python -m tests.benchmarks.scoring IMAGES TURNS DETECTOR_PX PRECISION [KEY=VALUE …]`."""
    images, turns, letterboxed, precision, *rest = sys.argv[1:]
    settings: dict[str, object] = dict(pair.split("=", 1) for pair in rest)
    for ratio in compare(int(images), int(turns), int(letterboxed), precision, settings):
        print(ratio.row(), ratio.turns)


if __name__ == "__main__":
    main()
