"""The few lines that a job prints at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.report.quality import auroc_by_category
from pipeline.tables.layout import NOT_UTF8
from pipeline.tables.runs import load_table

# Examples shown of a list of files; the whole list is the report's.
_EXAMPLES = 3


def index_summary(report: Mapping[str, Any]) -> str:
    """What was indexed, a row per category, split and defect type."""
    rows = [
        [
            entry["category"] or "-",
            entry["split"] or "-",
            entry["defect_type"] or "-",
            entry["images"],
        ]
        for entry in report["counts"]
    ]
    lines = [
        table(["category", "split", "defect type", "images"], rows),
        "",
        f"{report['images']} images in {report['files']} files, layout {report['layout']}",
    ]
    if report["since"]:
        counts = report["since"]["files"]
        lines.append("files: " + ", ".join(f"{n} {k.replace('_', ' ')}" for k, n in counts.items()))
        lines += _note(
            "warning: images with other labels than before, now without a role",
            report["since"]["relabelled"],
        )
    if report["labelled"]:
        lines.append(f"{report['labelled']} images have labels that people gave")
    if report["duplicates"]:
        lines.append(f"{report['duplicates']} files repeat a content: see duplicate_uris")
    unnamed = [s["uri"] for s in report["stray"] if s["reason"] == NOT_UTF8]
    others = [f"{s['uri']} ({s['reason']})" for s in report["stray"] if s["reason"] != NOT_UTF8]
    lines += _note("stray files, left out", others)
    lines += _note(
        "warning: images left out, their paths are not UTF-8; rename the files or folders", unnamed
    )
    lines += _note("warning: copies with other labels", report["label_conflicts"])
    lines += _note("warning: defect images without a mask", report["missing_masks"])
    lines += _doubtful(report["doubtful_types"])
    lines += _note(
        "warning: files that could not be read",
        [entry["index_error"] for entry in report["unreadable"]],
    )
    return "\n".join([*lines, f"manifest: {report['manifest']}"])


def _doubtful(types: Mapping[str, int]) -> list[str]:
    if not types:
        return []
    told = ", ".join(f"{kind!r} ({count})" for kind, count in types.items())
    return [
        f"warning: {sum(types.values())} images are taken for defects by a type that may mean "
        f"good: {told}; if so, call it 'good', or say it in a list's column is_defect"
    ]


def _note(what: str, examples: Sequence[str]) -> list[str]:
    if not examples:
        return []
    more = f" … {len(examples) - _EXAMPLES} more" if len(examples) > _EXAMPLES else ""
    return [f"{len(examples)} {what}: {', '.join(examples[:_EXAMPLES])}{more}"]


def fit_summary(report: Mapping[str, Any]) -> str:
    """What was fitted, a row per category, and the bundle's place and size."""
    rows = []
    for entry in report["categories"]:
        gaussians = entry["gaussians"]
        row = [entry["category"], entry["images"]]
        for score in ("cells", "pooled"):
            facts = gaussians[score]
            row += [
                f"{facts['bytes'] / 1e6:.1f}",
                facts["regularisation"],
                f"{facts['shrinkage']:.3f}",
            ]
        rows.append(row)
    head = ["category", "images", "cells MB", "rule", "shrinkage", "pooled MB", "rule", "shrinkage"]
    lines = [table(head, rows), ""]
    if report.get("already_fitted"):
        lines.append(f"fit {report['run_id']} was finished before: nothing to do")
    if report["errors_by_type"]:
        lines.append(f"warning: training images left out: {_counts(report['errors_by_type'])}")
    lines += [
        f"{name}: none in this bundle" for name, there in report["models"].items() if not there
    ]
    return "\n".join([*lines, f"bundle: {report['bundle']} ({report['bytes'] / 1e6:.1f} MB)"])


def score_summary(report: Mapping[str, Any]) -> str:
    """What was scored, a row per category, and where the tables are."""
    if report.get("already_published"):
        head = f"run {report['run_id']} is published already: nothing to do"
    else:
        head = category_counts(report["categories"])
    images, scoring = report["images"], report["scoring"]
    new = images["manifest"] - images.get("skipped", 0) - report["committed_before"]
    lines = [
        head,
        "",
        f"{images['manifest']} images: {images['scored']} scored, {images['errors']} errors"
        + _taken(images),
        f"{new} images in {scoring['seconds']:.1f} s, {new / max(scoring['seconds'], 1e-9):.1f} "
        f"images/s; published in {report['publishing']['seconds']:.1f} s",
    ]
    if report["errors_by_type"]:
        lines.append(f"errors: {_counts(report['errors_by_type'])}")
    lines += [f"{name}: {place}" for name, place in report["tables"].items()]
    if "page" in report:
        lines.append(f"report: {report['page']}")
    return "\n".join(lines)


def category_counts(entries: Iterable[Mapping[str, Any]]) -> str:
    """A row per category: images, errors and, where there are any, those left to earlier runs."""
    found = list(entries)
    names = ["category", "images", "errors"]
    names += ["skipped"] if any(entry.get("skipped") for entry in found) else []
    # What a record lacks is a dash, as a category without a name is.
    cells = [[entry.get(name) for name in names] for entry in found]
    return table(names, [["-" if cell in (None, "") else cell for cell in row] for row in cells])


def _taken(images: Mapping[str, int]) -> str:
    """What was not computed from the images themselves, if anything wasn't."""
    whole = f", {images['skipped']} skipped" if images.get("skipped") else ""
    if whole and not images["scored"] + images["errors"]:
        return f"{whole}: nothing is new"
    names = ("decoded", "reused", "carried")
    if not images.get("reused") and not images.get("carried"):
        return whole
    return f"{whole}; " + ", ".join(f"{images[name]} {name}" for name in names)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows under a head, in columns; numbers to the right."""
    body = [[str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    numeric = [
        bool(body) and all(_is_number(row[place]) for row in body) for place in range(len(head))
    ]
    lines = [head, ["-" * width for width in widths], *body]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def _is_number(text: str) -> bool:
    return text in ("-", "") or text.replace(".", "", 1).replace(",", "").lstrip("-").isdigit()


def demo_summary(report: Mapping[str, Any]) -> str:
    """How well the demo's scores separate, where the tables are, and a query to try."""
    scores = load_table(report["store"], report["run_id"], "scores")
    columns = ["anomaly_score", "defect_probability"]
    areas = {entry["category"]: entry for entry in auroc_by_category(scores, columns)}
    rows = [
        [
            entry["category"],
            entry["images"],
            *(_area(areas[entry["category"]][column]) for column in columns),
            entry["errors"],
        ]
        for entry in report["categories"]
    ]
    head = ["category", "images", "AUROC anomaly score", "AUROC classifier", "errors"]
    lines = [
        table(head, rows),
        "",
        "AUROC on the archive's test images; the classifier saw none of the archive's images.",
        f"backbone: {report['backbone']}",
    ]
    lines.append(_detector(report))
    lines += [f"{name}: {where}" for name, where in report["tables"].items()]
    return "\n".join([*lines, "", "to try, in DuckDB:", _query(report)])


def _detector(report: Mapping[str, Any]) -> str:
    trained = report["detector"]
    if trained is None:
        return "detector: off, its columns are null; train_detector=true switches it on"
    metrics = trained["metrics"]["validation"]
    overall = [entry for entry in metrics["hits"] if entry["category"] is None][-1]
    false = metrics["false_boxes"][-1]
    return (
        f"detector: after {trained['progress']['epoch']} epochs, at confidence "
        f"{overall['confidence']:g}, it hits {overall['hits']} of "
        f"{overall['n']} held-out defects of the training sample (IoU ≥ {metrics['hit_iou']:g}), "
        f"with {false['per_image']:.2f} false boxes per good image"
    )


def _query(report: Mapping[str, Any]) -> str:
    return (
        "  select category, defect_type, count(*) as images,\n"
        "         round(avg(anomaly_score), 1) as anomaly,\n"
        "         round(avg(defect_probability), 2) as probability\n"
        f"  from '{report['tables']['scores']}/*.parquet'\n"
        "  where split = 'test' group by all order by all;"
    )


def _area(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
