"""What reuse costs: rescoring from stored features, and a second night with 2 % new images.

    PYTHONPATH=. python tests/benchmarks/rescore.py pooled 100000
    PYTHONPATH=. python tests/benchmarks/rescore.py cells 10000
    PYTHONPATH=. python tests/benchmarks/rescore.py night 6000

The first two make a store with synthetic features, scores and boxes (cells: 62 kB an image),
change every Gaussian of the bundle and score again with it; `cells` is compared with a bare numpy
loop over the same files, by as many processes. The third scores images of 64 pixels with small
networks, then the same and 2 % more. Start-up is left out: Ray runs, and its workers are warm.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from threadpoolctl import threadpool_limits

from pipeline.config import IndexConfig, ScoreConfig
from pipeline.models.specs import DetectorSettings, FeatureLayout
from pipeline.scoring.build import BundleBuilder
from pipeline.scoring.bundle import (
    BACKBONE_FILE,
    CLASSIFIER_FILE,
    DETECTOR_FILE,
    Bundle,
    ScorerSpec,
    open_bundle,
)
from pipeline.scoring.components import components_at
from pipeline.scoring.reuse.earlier import Terms
from pipeline.stages.score import run_score
from pipeline.stats.gaussian import Gaussian
from pipeline.tables import storage
from pipeline.tables.ledger import commit_tables, read_commits
from pipeline.tables.manifest import ID_END, write_manifest
from pipeline.tables.publication import FileLimits, build_file, plan_files, published_record
from pipeline.tables.runs import RunPlaces
from pipeline.tables.schemas import DETECTIONS, FEATURES, MANIFEST, RUN_TABLES, SCORES

LAYOUT = FeatureLayout(("layer2", "layer3"), (4, 8), ("layer3",))
CATEGORIES = [f"category{number}" for number in range(5)]
MODELS = ("detector", "features", "classifier")
LIMITS = {"max_pixels": 200_000_000, "max_bytes": 1_000_000_000, "min_side": 16}
BOXES = 2
CORES = 2
PART = 2000
SHARE = 0.02
TURNS = 3


def make_bundle(store: str, seed: int) -> Bundle:
    """A bundle of the default's shapes, whose networks are never loaded."""
    rng = np.random.default_rng(seed)
    spec = ScorerSpec(256, LAYOUT, 16, "cells", 0.1, 16, DetectorSettings(640, 0.05, 0.7, 100, 8))
    with BundleBuilder(store, spec) as builder:
        for name in (BACKBONE_FILE, CLASSIFIER_FILE, DETECTOR_FILE):
            builder.add_file(name, name.encode())
        for category in CATEGORIES:
            for score, groups, width in (("cells", 80, 384), ("pooled", 1, 256)):
                factor = np.tril(rng.normal(0, 0.02, (groups, width, width))) + np.eye(width)
                mean = rng.normal(size=(groups, width))
                gaussian = Gaussian(mean, factor, np.full(groups, 0.1), 100, "global_floor")
                builder.add_gaussian(category, score, gaussian)
        return open_bundle(builder.finish({})[0], store)


def make_run(store: str, count: int, kept: str, bundle: Bundle) -> str:
    """A manifest, and a published run over it; the manifest's place."""
    rng = np.random.default_rng(1)
    ids = np.sort(rng.choice(ID_END, count, replace=False))
    category = np.sort(rng.integers(0, len(CATEGORIES), count))
    names = np.array(CATEGORIES)[category]
    places = RunPlaces(store, "one")
    for start in range(0, count, PART):
        part = slice(start, start + PART)
        commit_tables(places.folder, synthetic(rng, ids[part], names[part], kept))
    commits = list(read_commits(places.folder))
    files = []
    for table in RUN_TABLES:
        folder = places.table(table, bundle.feature_digest[:16])
        plans = plan_files(commits, table, folder, FileLimits(1_000_000, 256 * 1024**2), {})
        files += [build_file(places.folder, plan, np.empty(0, np.int64)) for plan in plans]
    components = components_at(bundle.uri, bundle.scorer_digest)
    terms = Terms(bundle.scorer_digest, MODELS, components, LIMITS, True, kept)
    facts = {"run_id": "one", "kind": "score", "finished_at": "2026", **terms.as_facts()}
    facts["scorer_digest"] = bundle.scorer_digest
    record = published_record(store, [file for file in files if file], facts)
    storage.write_json(places.published, record)
    manifest = storage.join(store, "m.parquet")
    table = pa.table({"image_id": ids, "uri": [f"/nowhere/{i}" for i in ids], "category": names})
    digests = pa.array([f"{i << 1:016x}" for i in ids.tolist()])
    write_manifest(manifest, complete(table.append_column("sha256", digests), MANIFEST))
    return manifest


def complete(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table.column(f.name).cast(f.type)
        if f.name in table.schema.names
        else pa.nulls(len(table), f.type)
        for f in schema
    ]
    return pa.table(columns, schema=schema)


def synthetic(
    rng: np.random.Generator, ids: np.ndarray, names: np.ndarray, kept: str
) -> dict[str, pa.Table]:
    """Rows of some images: their scores, boxes and features."""
    count = len(ids)
    numbers = {
        n: rng.random(count)
        for n in SCORES.names
        if n.startswith(("anomaly", "defect_l", "defect_p"))
    }
    numbers |= {"width": np.full(count, 1024), "height": np.full(count, 1024)}
    numbers |= {
        "detection_count": np.full(count, BOXES),
        "detection_max_confidence": rng.random(count),
    }
    keys = {"image_id": ids, "category": names}
    boxes = {n: np.repeat(v, BOXES) for n, v in keys.items()}
    boxes |= {
        "box_index": np.tile(np.arange(BOXES), count),
        "confidence": rng.random(BOXES * count),
    }
    pooled = rng.normal(size=(count, 256)).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pooled.reshape(-1), 256).cast(pa.list_(pa.float32()))
    features: dict[str, Any] = keys | {"pooled": lists}
    if kept == "cells":
        cells = rng.normal(size=(count, 80, 384)).astype("<f2")
        features["cells"] = pa.array([grid.tobytes() for grid in cells], pa.binary())
    uris = [f"/nowhere/{i}" for i in ids]
    return {
        "scores": complete(pa.table(keys | {"uri": uris} | numbers), SCORES),
        "detections": complete(pa.table(boxes), DETECTIONS),
        "features": complete(pa.table(features), FEATURES),
    }


def bare_loop(files: list[str], bundle_uri: str, solver: str) -> float:
    """Distances of the cells in some files, as one would write them down; a checksum."""
    bundle = open_bundle(bundle_uri, "")
    total = 0.0
    last, gaussian, white = None, None, None
    with threadpool_limits(1):
        for file in files:
            parquet = pq.ParquetFile(file, memory_map=True)
            for number in range(parquet.num_row_groups):
                rows = parquet.read_row_group(
                    number, columns=["category", "cells"], use_threads=False
                )
                blobs = rows["cells"].to_pylist()
                x = np.stack([np.frombuffer(blob, "<f2").reshape(80, 384) for blob in blobs])
                names = np.array(rows["category"].to_pylist())
                for name in np.unique(names):
                    if name != last:
                        gaussian, last = bundle.gaussian(str(name), "cells"), name
                        white = None if solver == "solve" else np.linalg.inv(gaussian.factor)
                    total += distances(x[names == name], gaussian, white)
    return total


def distances(x: np.ndarray, gaussian: Gaussian, white: np.ndarray | None) -> float:
    found = np.empty((len(x), 80))
    for cell in range(80):
        centred = x[:, cell].astype(np.float64) - gaussian.mean[cell]
        if white is None:
            z = np.linalg.solve(gaussian.factor[cell], centred.T).T
        else:
            z = centred @ white[cell].T
        found[:, cell] = np.sqrt((z * z).sum(axis=1))
    return float((found[:, :16].max(axis=1) + found[:, 16:].max(axis=1)).sum())


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bare_seconds(store: str, bundle: Bundle) -> float:
    """The faster of two ways to write the loop, files shared out to as many processes."""
    files = sorted(str(f) for f in Path(store, "tables/features").rglob("*run=one/*.parquet"))
    seconds = []
    with multiprocessing.get_context("spawn").Pool(CORES) as pool:
        pool.map(len, [files] * CORES)
        for solver in ("inverse", "solve"):
            jobs = [(files[n::CORES], bundle.uri, solver) for n in range(CORES)]
            seconds.append(timed(lambda own=jobs: pool.starmap(bare_loop, own, chunksize=1)))
    return min(seconds)


def rescore(kept: str, count: int) -> None:
    """Prints images per second, and for cells the ratio to the bare loop."""
    with tempfile.TemporaryDirectory(prefix="linescore-rescore-") as folder:
        old = make_bundle(folder, 1)
        manifest = make_run(folder, count, kept, old)
        anomaly = {"cells": "cells", "pooled": "pooled"}[kept]
        new = with_score(folder, make_bundle(folder, 2), anomaly)
        settings = {"manifest": manifest, "bundle": new, "store": folder}
        warm_up(folder, settings)
        own = timed(lambda: check(run_score(ScoreConfig(**settings, run_id="two")), count))
        line = f"{kept}: {count} images in {own:.2f} s, {count / own:.0f} images/s"
        if kept == "cells":
            bare = bare_seconds(folder, open_bundle(new, folder))
            line += f"; bare numpy loop {bare:.2f} s: {bare / own:.2f} of its speed"
        print(line)


def with_score(store: str, bundle: Bundle, anomaly_score: str) -> str:
    """The same bundle with another `anomaly_score`."""
    if anomaly_score == bundle.spec.anomaly_score:
        return bundle.uri
    from dataclasses import replace

    with BundleBuilder(store, replace(bundle.spec, anomaly_score=anomaly_score)) as builder:
        for name in (BACKBONE_FILE, CLASSIFIER_FILE, DETECTOR_FILE):
            builder.add_file(name, name.encode())
        for category in bundle.categories:
            for score in ("cells", "pooled"):
                builder.add_gaussian(category, score, bundle.gaussian(category, score))
        return builder.finish({})[0]


def warm_up(folder: str, settings: dict[str, Any]) -> None:
    """Workers that have loaded what they need: a few images of each file, before the clock."""
    few = pq.read_table(settings["manifest"])
    few = few.take(list(range(0, len(few), max(1, len(few) // 40))))
    write_manifest(storage.join(folder, "few.parquet"), few.cast(MANIFEST))
    config = settings | {"manifest": storage.join(folder, "few.parquet")}
    run_score(ScoreConfig(**config, run_id="few"))
    storage.remove(storage.join(folder, "published", "few.json"))


def check(report: dict[str, Any], count: int) -> None:
    if report["images"]["reused"] != count:
        raise SystemExit(f"not all were reused: {report['images']}")


def night(count: int) -> None:
    """Prints what a second night costs, start-up left out, by leaving out and by taking over."""
    from pipeline.stages.fit import run_fit
    from pipeline.stages.index import run_index
    from tests.conftest import save, tiny_fit_config, write_tiny_models

    with tempfile.TemporaryDirectory(prefix="linescore-night-") as folder:
        rng = np.random.default_rng(3)
        for number in range(count):
            pixels = rng.integers(0, 255, (64, 64, 3), np.uint8)
            save(Path(folder, "images/bolt/train/good", f"{number:05d}.png"), pixels)
        place = f"{folder}/images"
        whole = run_index(IndexConfig(source=place, store=folder, name="all"))["manifest"]
        table = pq.read_table(whole)
        manifests = {"all": whole}
        for name, rows in (("first", int(count * (1 - SHARE))), ("one", 1), ("few", 64)):
            manifests[name] = f"{folder}/{name}.parquet"
            chosen = np.sort(rng.permutation(count)[:rows])
            write_manifest(manifests[name], table.take(pa.array(chosen)))
        models = write_tiny_models(Path(folder))
        bundle = run_fit(tiny_fit_config(manifests["few"], Path(folder), models))["bundle"]

        def run(run_id: str, name: str, **more: Any) -> float:
            config = {"manifest": manifests[name], "bundle": bundle, "run_id": run_id} | more
            config = {"store": folder} | config
            return timed(lambda: print(run_score(ScoreConfig(**config))["images"]))

        aside = {"store": f"{folder}/aside"}
        run("warm", "one", **aside)
        first = run("night1", "first")
        took: dict[str, list[float]] = {"start-up": [], "carried": [], "skipping": []}
        # In turns, so that what else the machine does falls on all alike.
        for turn in range(TURNS):
            took["start-up"].append(run(f"start{turn}", "one", reuse=False, **aside))
            took["carried"].append(run(f"carried{turn}", "all"))
            storage.remove(f"{folder}/published/carried{turn}.json")
            took["skipping"].append(run(f"skipping{turn}", "all", since_run="night1"))
            storage.remove(f"{folder}/published/skipping{turn}.json")
        start = median(took.pop("start-up"))
        print(f"first night {first - start:.1f} s, start-up of the pools {start:.1f} s apart")
        for how, seconds in took.items():
            rest = [f"{(one - start) / (first - start):.1%}" for one in sorted(seconds)]
            print(f"second night, {how}: {', '.join(rest)} of the first")


def main() -> None:
    """One of the three measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["pooled", "cells", "night"])
    parser.add_argument("images", type=int)
    options = parser.parse_args()
    ray.init(address="local", num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    if options.what == "night":
        night(options.images)
    else:
        rescore(options.what, options.images)


if __name__ == "__main__":
    main()
