"""Reports of runs to make pages of: an ordinary one, and one whose every name is hostile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.evaluation.run_facts import run_facts
from pipeline.tables import storage
from pipeline.tables.runs import RunPlaces, load_published
from tests.scoring.runs import image_rows, make_bundle, make_run

EVIL = "<script>alert(1)</script>"
EVIL_NAMES = (EVIL, '"><img src=x onerror=alert(1)>', "{{ 7 * 191 }}", "a\x00b", "\u202eabc", "")


def published(folder: Path, names: tuple[str | None, ...] = ("bolt", "tile", None)) -> RunPlaces:
    """A published run without a report: scores of these categories, and errors of some kinds."""
    store = str(folder)
    rows: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []
    for place, name in enumerate(names):
        first = 1000 * place
        uri = f"s3://bücket/{name}/x.png"
        rows += image_rows(first, 30 + place, "test", False, category=name, uri=uri)
        rows += image_rows(first + 100, 9, "test", True, category=name, uri=uri, defect_type=name)
        rows += image_rows(first + 200, 5, "test", None, category=name, uri=uri)
        for number, kind in enumerate(("truncated", "not_found", "not_found")[: place + 1]):
            error = {"image_id": first + 300 + number, "uri": uri, "category": name}
            message = f"{uri}: {kind}: {name}"
            bad.append(error | {"error_type": kind, "error_message": message})
    make_run(store, make_bundle(store), rows, bad)
    return RunPlaces(store, "r")


def old_report(places: RunPlaces) -> dict[str, Any]:
    """A report as runs had it before there were pages."""
    record = load_published(places.store, places.run_id)
    rows = {name: record["tables"][name]["rows"] for name in ("scores", "errors")}
    found = facts(places)
    return {
        "run_id": places.run_id,
        "kind": "score",
        "finished_at": "2026-01-02T00:00:00+00:00",
        "images": {
            "manifest": sum(rows.values()),
            "scored": rows["scores"],
            "errors": rows["errors"],
        },
        "errors_by_type": found["errors_by_type"],
        "categories": [
            {"category": r["category"], "images": r["images"], "errors": sum(r["errors"].values())}
            for r in found["by_category"]
        ],
        "resumed": False,
        "committed_before": 0,
        "scoring": {"seconds": 12.5, "first_commit_s": None},
        "publishing": {"seconds": 0.5},
    }


def facts(places: RunPlaces) -> dict[str, Any]:
    """What its tables say."""
    tables = load_published(places.store, places.run_id)["tables"]
    files = {
        name: [storage.join(places.store, file["path"]) for file in table["files"]]
        for name, table in tables.items()
    }
    return run_facts(files)


def new_report(places: RunPlaces) -> dict[str, Any]:
    """A report as publishing writes it."""
    old, found = old_report(places), facts(places)
    categories = [
        {name: row[name] for name in ("category", "images", "scored")}
        | {"errors": sum(row["errors"].values()), "errors_by_type": row["errors"]}
        for row in found.pop("by_category")
    ]
    scoring = {"seconds": 12.5, "first_commit_s": 3.25, "images": 50, "images_per_s": 4.0}
    return (
        old
        | found
        | {
            "categories": categories,
            "images": old["images"] | {"decoded": 100, "reused": 41},
            "read": {"bytes": 123_456_789},
            "scoring": scoring | {"bytes": 25_000_000, "bytes_per_s": 2_000_000.0},
            "stages": [
                {"stage": name, "seconds": s, "images": 141, "seconds_per_image": s / 141}
                for name, s in (("decode", 30.0), ("features", 60.0), ("commit", 10.0))
            ],
            "attempts": [{"started_at": f"2026-01-0{n}", "committed_before": n} for n in (1, 2)],
            "environment": {"packages": {"ray": "2.60.0"}},
        }
    )
