"""report.html of a run, beside its report.json."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment

from pipeline.errors import InputError
from pipeline.evaluation.run_facts import run_facts
from pipeline.report.page import SECURITY, environment
from pipeline.report.run_page.contents import contents
from pipeline.report.run_page.templates import TEMPLATES
from pipeline.tables import storage
from pipeline.tables.runs import RunPlaces, load_published

log = logging.getLogger("linescore")


def run_html(report: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """The page, to be written as UTF-8; no script, no network, every text escaped.

    Args:
        report: a run's report.json, with the facts of its tables.
        record: its run.json; empty where there is none.
    """
    page = contents(report, record)
    return _environment().get_template("page").render(page=page, security=SECURITY)


@cache
def _environment() -> Environment:
    return environment(TEMPLATES)


def with_run_page(report: dict[str, Any], store: str) -> dict[str, Any]:
    """Writes the page of a run that was just published; the report with its place.

    The run is published whatever comes of its page: what goes wrong is a warning.
    """
    places = RunPlaces(storage.absolute(store), report["run_id"])
    try:
        if not (report.get("already_published") and storage.exists(places.page)):
            write_run_page(places)
    except Exception as error:  # noqa: BLE001 - a page is no reason to fail a published run
        log.warning("%s: the page could not be written: %s", places.page, error)
        return report
    return report | {"page": places.page}


def write_run_page(places: RunPlaces) -> str:
    """Writes the page of a published run, of an older version too; its place.

    Raises:
        InputError: the run isn't published, or is no run of jobs/score.py.
    """
    published = load_published(places.store, places.run_id)
    if not storage.exists(places.report):
        raise InputError(f"run {places.run_id}: {places.report}: is gone; there is nothing to tell")
    report = storage.read_json(places.report)
    if not isinstance(report, dict):
        raise InputError(f"run {places.run_id}: {places.report}: is no report of a run")
    if report.get("kind") != "score":
        raise InputError(
            f"run {places.run_id}: is a {report.get('kind')!r} run; a page is made of 'score' runs"
        )
    if "distributions" not in report:
        files = {
            name: [storage.join(places.store, file["path"]) for file in table["files"]]
            for name, table in published["tables"].items()
        }
        report = run_facts(files) | report
    record = storage.read_json(places.record) if storage.exists(places.record) else {}
    storage.write_bytes(places.page, run_html(report, record).encode())
    return places.page


def run_report(store: str, run_id: str) -> dict[str, Any]:
    """Makes the page of a published run again; what `jobs/report.py` prints.

    Raises:
        InputError: the run isn't published, or is no run of jobs/score.py.
    """
    places = RunPlaces(storage.absolute(store), run_id)
    with storage.errors_for(store, "store"):
        return {"run_id": run_id, "page": write_run_page(places)}
