"""Runs in a store: what a run is, whether it may continue, and reading what it published."""

from __future__ import annotations

import difflib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.schemas import RUN_TABLES, SCHEMA_VERSION


@dataclass(frozen=True)
class RunPlaces:
    """Where the pieces of one run lie in a store."""

    store: str
    run_id: str

    @property
    def folder(self) -> str:
        """Work in progress and the run's own record."""
        return storage.join(self.store, "runs", self.run_id)

    @property
    def record(self) -> str:
        """What the run is: identity, config, versions."""
        return storage.join(self.folder, "run.json")

    @property
    def report(self) -> str:
        """What the run did: counts and timings."""
        return storage.join(self.folder, "report.json")

    @property
    def page(self) -> str:
        """The report as a page for people."""
        return storage.join(self.folder, "report.html")

    @property
    def attempts(self) -> str:
        """A note of each time that the run was begun or continued."""
        return storage.join(self.folder, "attempts")

    @property
    def published(self) -> str:
        """The record that makes the run's tables visible."""
        return storage.join(self.store, "published", f"{self.run_id}.json")

    @property
    def deletion(self) -> str:
        """The mark of a deletion that has begun and not ended."""
        return storage.join(self.folder, "deleting.json")

    def table(self, name: str, feature_digest: str = "") -> str:
        """The folder of one published table."""
        if name == "features":
            parts = (f"features={feature_digest}", f"run={self.run_id}")
            return storage.join(self.store, "tables", name, *parts)
        return storage.join(self.store, "tables", name, f"run={self.run_id}")


def start_or_continue(places: RunPlaces, identity: dict[str, Any], facts: dict[str, Any]) -> bool:
    """Writes a new run's record, or checks that an old one is the same run.

    Args:
        places: the run.
        identity: what its numbers depend on.
        facts: config, versions and the like, for people.

    Returns:
        True when the run had been started before.

    Raises:
        InputError: the run id belongs to a run with another identity; names each difference. Or
            to one that is being deleted.
    """
    if storage.exists(places.deletion):
        raise InputError(
            f"run_id {places.run_id}: is being deleted; finish that with "
            f"`linescore runs delete {places.run_id} --yes`, or use another run_id"
        )
    if not storage.exists(places.record):
        record = {"schema_version": SCHEMA_VERSION, "identity": identity} | facts
        storage.write_json(places.record, record)
        return False
    before = storage.read_json(places.record).get("identity", {})
    if before.get("arithmetic") != identity.get("arithmetic"):
        raise InputError(
            f"run_id {places.run_id}: was begun by a linescore that decodes, resizes or computes "
            "in another way: use another run_id; what stayed the same is taken over from it"
        )
    changes = differences(before, identity)
    if changes:
        raise InputError(
            f"run_id {places.run_id}: was started with other settings; "
            + "; ".join(changes)
            + ". Use another run_id, or the settings it was started with"
        )
    return True


def note_attempt(places: RunPlaces, facts: dict[str, Any]) -> None:
    """Notes that a run is begun, or continued, now."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}.json"
    storage.write_json(storage.join(places.attempts, name), facts)


def read_attempts(places: RunPlaces) -> list[dict[str, Any]]:
    """The notes of a run's attempts, oldest first; none of runs of older versions."""
    names = storage.list_names(places.attempts)
    return [storage.read_json(storage.join(places.attempts, name)) for name in names]


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Each value that differs, by its dotted name, with both values."""
    old, new = _flat(before), _flat(now)
    return [
        f"{name} was {old.get(name)!r}, is now {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat


def load_published(store: str, run_id: str) -> dict[str, Any]:
    """The record of a published run.

    Raises:
        InputError: there is no such run, or it hasn't been finished.
    """
    places = RunPlaces(store, run_id)
    if not storage.exists(places.published):
        if storage.exists(places.record):
            raise InputError(
                f"run {run_id}: was started but not finished in the store {store}; the command "
                "that started it continues it"
            )
        raise InputError(f"run {run_id}: isn't in the store {store}{_instead(store, run_id)}")
    record = storage.read_json(places.published)
    if not isinstance(record, dict) or not isinstance(record.get("tables"), dict):
        raise InputError(f"run {run_id}: {places.published}: is no record of a published run")
    return record


def _instead(store: str, run_id: str) -> str:
    """What else may have been meant, as the end of a sentence."""
    names = storage.list_names(storage.join(store, "published"))
    known = [name.removesuffix(".json") for name in names]
    close = difflib.get_close_matches(run_id, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return "" if known else ", which has no published run"


def load_table(store: str, run_id: str, table: str, columns: list[str] | None = None) -> pa.Table:
    """Rows of one table of a published run, sorted by category and image.

    Without `columns`, those that came after the run was published are null.

    Raises:
        InputError: the run, the table or a column isn't there.
    """
    if table not in RUN_TABLES:
        raise InputError(f"table {table!r}: known are {', '.join(RUN_TABLES)}")
    schema = RUN_TABLES[table]
    unknown = [name for name in columns or () if name not in schema.names]
    if unknown:
        raise InputError(
            f"table {table!r}: has no column {unknown[0]!r}; {', '.join(schema.names)}"
        )
    entry = load_published(store, run_id)["tables"].get(table, {"files": []})
    uris = [storage.join(store, file["path"]) for file in entry["files"]]
    empty = schema.empty_table().select(columns or schema.names)
    return pa.concat_tables([empty, *(_rows(uri, empty.schema) for uri in uris)])


def _rows(uri: str, schema: pa.Schema) -> pa.Table:
    """A file's rows; columns that an older linescore didn't write are null."""
    there = set(storage.parquet_columns(uri))
    table = storage.read_parquet(uri, [name for name in schema.names if name in there])
    columns = [
        table.column(field.name) if field.name in there else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
