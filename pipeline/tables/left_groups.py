"""Groups of near-duplicates in a run that left images to earlier ones."""

from __future__ import annotations

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.lookup import opened
from pipeline.tables.manifest import open_manifest
from pipeline.tables.runs import RunPlaces, load_published
from pipeline.tables.schemas import MANIFEST

_GROUPED = ["image_id", "group_id"]


def groups_where_images_were_left(store: str, run_id: str) -> tuple[pa.Table | None, str | None]:
    """Groups of a run that left images to earlier runs: its manifest's, or why they aren't known.

    The earlier runs' rows don't tell them: a split since then made other groups.

    Returns:
        image_id and group_id of all images of the manifest, or None and why; twice None: it left
        no image.
    """
    published = load_published(store, run_id)
    # Older records have no number, only the runs.
    left = published.get("skipped", published.get("skipped_by"))
    if not left:
        return None, None
    try:
        return _manifest_groups(store, run_id, published.get("manifest_digest")), None
    except (InputError, OSError):
        number = left if isinstance(left, int) else "some"
        return None, (
            f"{number} images were left to earlier runs, and the manifest that says which rows are "
            "alike to them can't be read as it was"
        )


def _manifest_groups(store: str, run_id: str, digest: object) -> pa.Table:
    """Raises InputError or OSError: the manifest isn't named, is gone, or was written anew."""
    record = storage.read_json(RunPlaces(store, run_id).record)
    config = record.get("config") if isinstance(record, dict) else None
    uri = config.get("manifest") if isinstance(config, dict) else None
    if not isinstance(uri, str) or open_manifest(uri).digest != digest:
        raise InputError(f"manifest: {uri}: isn't the one that the run {run_id} scored")
    with storage.errors_for(uri, "manifest"), opened(uri) as file:
        found = file.read([name for name in _GROUPED if name in file.schema_arrow.names])
    if "group_id" not in found.column_names:
        found = found.append_column("group_id", pa.nulls(len(found)))
    return found.select(_GROUPED).cast(pa.schema([MANIFEST.field(name) for name in _GROUPED]))
