"""`linescore runs`: list, show, compare and delete the runs of a store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pipeline.config import RunsConfig
from pipeline.errors import InputError, RunError
from pipeline.evaluation.run_differences import compare_runs
from pipeline.tables import storage
from pipeline.tables.run_catalogue import Catalogue, RunEntry, read_catalogue
from pipeline.tables.run_deletion import DeletionPlan, delete, plan_deletion, refusal
from pipeline.tables.run_details import damaged_files, run_details
from pipeline.tables.run_needs import store_needs
from pipeline.tables.run_retention import Retention, kept_by_reason, plan_retention, unmatched

log = logging.getLogger("linescore")


def run_runs(config: RunsConfig) -> dict[str, Any]:
    """Does what the first word of the command says.

    Returns:
        The answer, as JSON takes it; `action` says of what.

    Raises:
        InputError: a run isn't there, or must not be deleted; nothing was touched.
        RunError: a file isn't what its record says, or can't be deleted.
    """
    catalogue = read_catalogue(storage.absolute(config.store))
    actions: dict[str, Callable[[RunsConfig, Catalogue], dict[str, Any]]] = {
        "list": _list,
        "show": _show,
        "compare": _compare,
        "delete": _delete,
        "prune": _prune,
    }
    return {"action": config.action, "store": catalogue.store} | actions[config.action](
        config, catalogue
    )


def _list(_: RunsConfig, catalogue: Catalogue) -> dict[str, Any]:
    return {
        "runs": [_entry(run) for run in catalogue.runs],
        "strays": dict(catalogue.strays),
    }


def _entry(run: RunEntry) -> dict[str, Any]:
    entry = asdict(run) | {"files": len(run.files), "bytes": run.bytes}
    return entry | {"problems": list(run.problems), "needs": sorted(run.needs)}


def _show(config: RunsConfig, catalogue: Catalogue) -> dict[str, Any]:
    details = run_details(catalogue, config.run_id[0], verify=config.verify)
    if damaged := damaged_files(details):
        raise RunError("\n".join(damaged))
    return {
        "run": _entry(details.entry),
        "record": details.records.run,
        "report": details.records.report,
        "lock": details.records.lock,
        "files": [asdict(file) for file in details.files],
        "verified": config.verify,
        "needed_by": [need.says for need in store_needs(catalogue).of(config.run_id[0])],
    }


def _compare(config: RunsConfig, catalogue: Catalogue) -> dict[str, Any]:
    return compare_runs(catalogue, config.run_id[0], config.run_id[1])


def _delete(config: RunsConfig, catalogue: Catalogue) -> dict[str, Any]:
    needs = store_needs(catalogue)
    plan = plan_deletion(catalogue, needs, config.run_id, force=config.force)
    if why := refusal(plan):
        raise InputError(f"{why}\nnothing was deleted")
    return _carry_out(plan, config)


def _prune(config: RunsConfig, catalogue: Catalogue) -> dict[str, Any]:
    rule = Retention(
        config.keep_last, config.keep_days, config.keep, config.unfinished_days, config.force
    )
    plan = plan_retention(catalogue, store_needs(catalogue), rule, datetime.now(UTC))
    return _carry_out(plan, config) | {"unmatched": unmatched(catalogue, config.keep)}


def _carry_out(plan: DeletionPlan, config: RunsConfig) -> dict[str, Any]:
    """The plan; done only where `yes` says so."""
    if config.yes:
        delete(plan, lambda run_id: log.info("run %s is deleted", run_id))
    return {
        "deleted": config.yes,
        "runs": [asdict(one) | {"bytes": one.bytes} for one in plan.deletions],
        "kept": kept_by_reason(plan.kept),
        "absent": list(plan.absent),
    }
