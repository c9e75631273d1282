"""What sessions of the app share: rows with the labels that people gave."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.app.desk import Desk
from pipeline.config import AppConfig
from pipeline.tables.labels import Label, append_label
from tests.scoring.runs import make_bundle, make_run, usual_rows


class Interrupted(Desk):
    """A desk beside which someone labels another image while labels are read."""

    def label_rows(self, files: Sequence[str] | None = None) -> pa.Table:
        rows = super().label_rows(*([] if files is None else [files]))
        if len(self.labels_now()) == 1:
            append_label(self.store, Label(401, "good"))
        return rows


def test_a_label_that_was_given_meanwhile_counts_at_the_next_look(tmp_path: Path) -> None:
    """Of 20 defects in `test` one was called good, and then another."""
    store = str(tmp_path / "store")
    make_run(store, make_bundle(store), usual_rows())
    append_label(store, Label(400, "good"))
    desk = Interrupted(AppConfig(store=store))

    def defects() -> int:
        held = desk.held("r", labelled=True)
        return sum(bool(held.groups[group].is_defect) for group in held.group)

    assert defects() == 19
    assert defects() == 18
