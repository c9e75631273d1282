"""A run against its reference, from settings to tables and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline.config import MonitorConfig
from pipeline.errors import InputError
from pipeline.evaluation.monitor.comparing import (
    Compared,
    compare,
    other_scorer,
    run_verdict,
)
from pipeline.evaluation.monitor.counting import Scales, Work, scales_of
from pipeline.evaluation.monitor.deciding import InUse, in_use
from pipeline.evaluation.monitor.frozen import freeze, frozen_file, frozen_scales, thawed
from pipeline.evaluation.monitor.opening import (
    compared_rows,
    number_columns,
    opened,
    scorer_of,
    sketch_of,
)
from pipeline.evaluation.monitor.sketch import RunSketch
from pipeline.evaluation.monitor.tables import (
    drift_table,
    flagged_table,
    near_table,
    verdicts_table,
)
from pipeline.evaluation.policies import read_policies
from pipeline.evaluation.table import ScoredTable
from pipeline.policy.language import Policy
from pipeline.tables import storage

SCHEMA_VERSION = "1"
FROZEN = "frozen"


def run_monitor(config: MonitorConfig) -> dict[str, Any]:
    """Compares a run with its reference and writes what was found to <store>/reports/<name>/.

    Returns:
        The report; its `verdict` is drift, watch, ok or too_few_images, or frozen where a
        reference was only frozen.

    Raises:
        InputError: something given is wrong; nothing is written.
    """
    config = config.model_copy(update={"store": storage.absolute(config.store)})
    policies = read_policies(config.policies)
    reference, scales, use = _reference(config, policies)
    found = None
    if config.run_id is not None:
        found = _compared(config, policies, (reference, scales, use))
        verdict = run_verdict(found, config.min_images)
    report: dict[str, Any] = {}
    if config.freeze is not None:
        report["frozen"] = frozen_file(config.store, config.freeze)
        storage.require_writable(storage.join(config.store, "references"), "store")
        freeze(reference, report["frozen"])
    if found is None:
        return report | {"verdict": FROZEN, "reference": _about(reference)}
    return _write(config, found, report | {"verdict": verdict})


def _reference(
    config: MonitorConfig, policies: Sequence[Policy]
) -> tuple[RunSketch, Scales, InUse | None]:
    """What is compared with, its bins, and the policies with numbers for its categories."""
    if config.frozen is not None:
        reference = thawed(config.store, config.frozen)
        if reference.run_id == config.run_id:
            raise InputError(
                f"frozen: {config.frozen}: was made of the run {config.run_id} itself; name "
                "another reference"
            )
        return reference, frozen_scales(reference), None
    table = opened(config.store, str(config.reference), "reference")
    names = number_columns(config, policies, table)
    chosen = compared_rows(config, table)
    scales = scales_of(table, chosen, names)
    if not scales:
        raise InputError(
            f"reference: {config.reference}: no row is left to compare with; compared are "
            f"{chosen.says}"
        )
    # What another scorer's run is compared by are its images: thresholds, which are of one scorer
    # alone, may well be the run's own.
    apart = config.run_id is not None and config.freeze is None
    if apart and scorer_of(opened(config.store, str(config.run_id), "run_id")) != scorer_of(table):
        use = InUse()
    else:
        use = in_use(config, policies, table, scales)
    return sketch_of(config.store, table, chosen, Work(scales, names, use)), scales, use


def _compared(
    config: MonitorConfig,
    policies: Sequence[Policy],
    against: tuple[RunSketch, Scales, InUse | None],
) -> Compared:
    reference, scales, use = against
    table = opened(config.store, str(config.run_id), "run_id")
    if other_scorer(reference, scorer_of(table)):
        use = InUse()
    elif use is None:
        use = in_use(config, policies, table, scales)
    names = _names(scales, use, table, reference)
    chosen = compared_rows(config, table)
    run = sketch_of(config.store, table, chosen, Work(scales, names, use))
    return compare(config, reference, run, use)


def _names(scales: Scales, use: InUse, table: ScoredTable, reference: RunSketch) -> tuple[str, ...]:
    """The columns that the reference has bins for.

    Raises:
        InputError: a policy reads another one, or the run lacks one.
    """
    names = tuple(dict.fromkeys(name for one in scales.values() for name in one))
    for name in use.scores:
        if name not in names:
            raise InputError(
                f"policies: {use.policies[0].policy.name}: reads {name}, without which "
                f"{reference.run_id} was frozen; freeze it again with policies="
            )
    for name in names:
        if name not in table.scores:
            raise InputError(
                f"run_id: {table.name}: has no column {name}, which {reference.run_id} has; score "
                "it again, or name another reference"
            )
    return names


def _about(run: RunSketch) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "scorer_digest": run.scorer_digest,
        "rows": run.rows,
        "images": {name or "": one.images for name, one in run.categories.items()},
        "errors": {name or "": one.errors.total() for name, one in run.categories.items()},
        **run.about,
    }


def _write(config: MonitorConfig, found: Compared, report: dict[str, Any]) -> dict[str, Any]:
    """Writes the tables, then what is told of them."""
    folder = storage.join(config.store, "reports", config.name or f"drift-{config.run_id}")
    storage.require_writable(folder, "store")
    for name in ("monitor.json", "report.html"):  # older ones, of other tables
        storage.remove(storage.join(folder, name))
    verdicts = verdicts_table(found.verdicts, found.reference.categories, found.run.categories)
    tables: dict[str, pa.Table] = {
        "verdicts": verdicts,
        "drift": drift_table(found.measures),
        "flagged": flagged_table(found.pairs, found.policies, config.confidence),
        "near": near_table(found.pairs),
    }
    places = {name: storage.join(folder, f"{name}.parquet") for name in tables}
    for name, table in tables.items():
        storage.write_bytes(places[name], storage.parquet_bytes(table))
    report |= {
        "schema_version": SCHEMA_VERSION,
        "name": config.name or f"drift-{config.run_id}",
        "config": config.model_dump(mode="json"),
        "reference": _about(found.reference),
        "run": _about(found.run),
        "comparisons": sum(one.measured.chance is not None for one in found.measures),
        "categories": verdicts.to_pylist(),
        "warnings": list(found.warnings),
        "tables": places,
        "folder": folder,
    }
    storage.write_json(storage.join(folder, "monitor.json"), report)
    return report
