"""report.html of a comparison of two runs, from the tables that lie in its folder."""

from __future__ import annotations

from typing import Any

from pipeline.report.monitor_html import monitor_html
from pipeline.tables import storage


def with_page(report: dict[str, Any], *, html: bool) -> dict[str, Any]:
    """Writes report.html beside the tables; the report with its place.

    Args:
        report: of a comparison that was written.
        html: false leaves everything as it is.
    """
    if not html or "folder" not in report:
        return report
    tables = {name: storage.read_parquet(uri).to_pylist() for name, uri in report["tables"].items()}
    uri = storage.join(report["folder"], "report.html")
    storage.write_bytes(uri, monitor_html(report, tables).encode())
    return report | {"html": uri}
