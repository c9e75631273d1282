"""Which bundles of a store have thresholds for a scorer."""

from __future__ import annotations

from pipeline.errors import InputError
from pipeline.scoring.bundle import bundle_record
from pipeline.scoring.thresholds_file import THRESHOLDS_FILE
from pipeline.tables import storage


def calibrated_bundles(store: str, scorer_digest: str) -> list[str]:
    """Names of the bundles that were calibrated around a scorer, the last one first.

    A bundle that can't be read is left out.
    """
    found = []
    fs, path = storage.filesystem(storage.join(store, "bundles"))
    for place in fs.ls(path, detail=False) if fs.exists(path) else ():
        name = str(place).rsplit("/", 1)[-1]
        if name.startswith(".") or name.endswith(".json"):
            continue
        try:
            uri, record = bundle_record(name, store)
            if record["scorer_digest"] == scorer_digest and record.get("calibration"):
                content = storage.read_json(storage.join(uri, THRESHOLDS_FILE))
                found.append((str(content["calibrated_at"]), name))
        except (InputError, OSError, KeyError, TypeError):
            continue
    return [name for _, name in sorted(found, reverse=True)]
