"""The end of a run: accounting, compaction in parallel, then the record that makes it visible."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import ray

from pipeline.errors import RunError
from pipeline.evaluation.run_facts import run_facts
from pipeline.scoring.bundle import Bundle
from pipeline.scoring.reuse.settle import Leaning
from pipeline.stages.provenance import now
from pipeline.stages.worker_errors import result_of
from pipeline.tables import storage
from pipeline.tables.ledger import Commit, Work, read_commits, remove_work
from pipeline.tables.lock import RunLock
from pipeline.tables.manifest import Manifest, require_unchanged
from pipeline.tables.publication import (
    FileLimits,
    FilePlan,
    PublishedFile,
    build_file,
    plan_files,
    published_record,
)
from pipeline.tables.runs import RunPlaces, read_attempts
from pipeline.tables.schemas import RUN_TABLES, SCHEMA_VERSION
from pipeline.tables.tally import Tally

# Compaction holds a file's rows in memory, about four times over: few at a time, whatever the
# cluster's size, and none larger than this, which a million rows of scores are.
_FILES_AT_ONCE = 4
_FILE_MEMORY = 256 * 1024**2
# Ids named in an error; more would bury the message.
_SHOWN_IDS = 10


@dataclass(frozen=True)
class Publication:
    """What is published.

    Attributes:
        places: the run.
        manifest: whose images.
        bundle: with which they were scored.
        leaning: what was taken from earlier runs, or left to them.
        file_rows: rows per file.
        lock: the run's.
    """

    places: RunPlaces
    manifest: Manifest
    bundle: Bundle
    leaning: Leaning
    file_rows: int
    lock: RunLock


def publish(run: Publication, facts: dict[str, Any]) -> dict[str, Any]:
    """Checks that nothing is lost, writes the tables and the record, and returns the report.

    Raises:
        RunError: manifest = scored + errors + skipped doesn't hold; names the ids. Or the run was
            taken over.
        InputError: the manifest was written anew while the run read it.
        DamagedPartError: a part is not what its commit says.
    """
    started = time.monotonic()
    places, plan = run.places, run.leaning.plan
    _require_free(run)
    # Rows went into the parts as they were when they were read, block by block.
    require_unchanged(run.manifest)
    tally = Tally(plan.images.ids)
    commits = tally.take(read_commits(places.folder))
    _account(tally, plan.skipped, places)
    files = _build_tables(run, commits, tally)
    rows = _rows(files)
    skipped = int(plan.skipped.sum())
    if rows["scores"] + rows["errors"] + skipped != run.manifest.rows:
        raise RunError(
            f"run {places.run_id}: {rows['scores']} scores, {rows['errors']} errors and {skipped} "
            f"skipped don't make {run.manifest.rows} images; the tables were not published"
        )
    making = tally.making | {"skipped": skipped}
    report = _report(run, files, making) | _work(tally.work) | facts
    report["publishing"] = {"seconds": round(time.monotonic() - started, 3)}
    _require_free(run)  # the last look before the tables are visible
    storage.write_json(places.report, report)
    record = _record(report) | run.leaning.task.terms.as_facts()
    record |= {"skipped_by": list(run.leaning.skipped_by), "needs": list(run.leaning.needs)}
    record["skipped"] = skipped
    storage.write_json(places.published, published_record(places.store, files, record))
    remove_work(places.folder)
    return report


def _require_free(run: Publication) -> None:
    """The run is still this driver's, nobody published it, and nothing that it leans on went.

    Raises:
        RunError: one of these doesn't hold; tables that are there stay as they are.
    """
    run.lock.require()
    places = run.places
    if storage.exists(places.published):
        raise RunError(f"run {places.run_id}: was published by another driver meanwhile")
    for run_id in run.leaning.skipped_by:
        if not storage.exists(RunPlaces(places.store, run_id).published):
            raise RunError(
                f"run {places.run_id}: leaves images to run {run_id}, which was deleted "
                "meanwhile; nothing was published: score again under another run_id"
            )


def _account(tally: Tally, skipped: np.ndarray, places: RunPlaces) -> None:
    lost, strange = tally.unaccounted(skipped)
    for ids, what in (
        (lost, "are in the manifest but were not committed"),
        (strange, "were committed but are not in the manifest"),
    ):
        if len(ids):
            shown = ", ".join(map(str, ids[:_SHOWN_IDS]))
            more = f" and {len(ids) - _SHOWN_IDS} more" if len(ids) > _SHOWN_IDS else ""
            raise RunError(
                f"run {places.run_id}: {len(ids)} images {what}: {shown}{more}; "
                "nothing was published; the same command tries again"
            )


def _build_tables(run: Publication, commits: list[Commit], tally: Tally) -> list[PublishedFile]:
    plans = []
    limits = FileLimits(run.file_rows, _FILE_MEMORY)
    for name in RUN_TABLES:
        folder = run.places.table(name, run.bundle.feature_digest[:16])
        storage.remove(folder)  # left by a publication that was killed
        plans += plan_files(commits, name, folder, limits, tally.repeated)
    built = _in_parallel(run.places.folder, plans, tally.recovered)
    return [file for file in built if file is not None]


def _in_parallel(
    run_folder: str, plans: list[FilePlan], recovered: np.ndarray
) -> Iterator[PublishedFile | None]:
    """Builds files a few at a time; when it raises, none is being written any more."""
    build = ray.remote(num_cpus=1)(build_file)
    nothing = np.empty(0, np.int64)
    pending: list[Any] = []
    try:
        for plan in plans:
            # An image has a score or an error, never both.
            excluded = recovered if plan.table == "errors" else nothing
            pending.append(build.remote(run_folder, plan, excluded))
            if len(pending) >= _FILES_AT_ONCE:
                yield result_of(pending.pop(0))
        while pending:
            yield result_of(pending.pop(0))
    except Exception:
        # The next attempt, or whoever takes the run over, removes the folder that the others
        # still write to. They are waited for: a cancelled writer leaves half a file, and its end
        # isn't told. Ctrl-C doesn't wait; it ends the process, and Ray's workers with it.
        if pending:
            ray.wait(pending, num_returns=len(pending), fetch_local=False)
        raise


def _report(run: Publication, files: list[PublishedFile], making: dict[str, int]) -> dict[str, Any]:
    manifest, bundle, places = run.manifest, run.bundle, run.places
    rows = _rows(files)
    found = run_facts(
        {name: [file.uri for file in files if file.table == name] for name in RUN_TABLES}
    )
    counts = {entry["category"]: entry for entry in found.pop("by_category")}
    nothing: dict[str, Any] = {"scored": 0, "errors": {}}
    skipped = run.leaning.plan.skipped_by_category()
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": places.run_id,
        "kind": "score",
        "finished_at": now(),
        "manifest_digest": manifest.digest,
        "scorer_digest": bundle.scorer_digest,
        "bundle_digest": bundle.bundle_digest,
        "feature_digest": bundle.feature_digest,
        "images": {"manifest": manifest.rows, "scored": rows["scores"], "errors": rows["errors"]}
        | making,
        "leans_on": run.leaning.as_facts(),
        "rows": rows,
        "errors_by_type": found.pop("errors_by_type"),
        "categories": [
            {
                "category": name,
                "images": count,
                "scored": counts.get(name, nothing)["scored"],
                "errors": sum(counts.get(name, nothing)["errors"].values()),
                "errors_by_type": counts.get(name, nothing)["errors"],
                "skipped": skipped.get(name, 0),
            }
            for name, count in sorted(
                manifest.categories.items(), key=lambda item: (item[0] is None, item[0] or "")
            )
        ],
        "tables": {
            name: places.table(name, bundle.feature_digest[:16])
            for name in RUN_TABLES
            if rows[name]
        },
        "attempts": read_attempts(places),
    } | found


def _rows(files: list[PublishedFile]) -> dict[str, int]:
    return {name: sum(f.rows for f in files if f.table == name) for name in RUN_TABLES}


def _work(work: Work) -> dict[str, Any]:
    """What all attempts together took, as far as it was committed."""
    return {
        "read": {"bytes": work.bytes},
        "stages": [
            asdict(spent) | {"seconds_per_image": spent.seconds / max(spent.images, 1)}
            for spent in work.spent
        ],
    }


def _record(report: dict[str, Any]) -> dict[str, Any]:
    """The part of the report that readers of the tables need."""
    names = ("schema_version", "run_id", "kind", "finished_at", "manifest_digest")
    digests = ("scorer_digest", "bundle_digest", "feature_digest")
    return {name: report[name] for name in (*names, *digests)}
