"""What a store holds: manifests, runs and bundles, and a bundle's models as a scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from pipeline.config import LimitsConfig
from pipeline.errors import InputError
from pipeline.scoring.bundle import LATEST, Bundle, open_bundle
from pipeline.tables import storage
from pipeline.tables.manifest import open_manifest, with_all_columns
from pipeline.tables.runs import RunPlaces, load_published, load_table

if TYPE_CHECKING:  # it loads torch
    from pipeline.scoring.direct import ImageScorer

_RECORD = ".json"

Place: TypeAlias = str | Path


@dataclass(frozen=True)
class Run:
    """A published run.

    Attributes:
        store: the store, absolute.
        run_id: its id.
        record: the record that makes its tables visible: files, digests, times.
    """

    store: str
    run_id: str
    record: Mapping[str, Any]

    def scores(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One row per scored image, sorted by category and image; null: not computed, not known.

        Each column's meaning and unit is in its field's metadata.

        Args:
            columns: of the table `scores`; None: all.

        Raises:
            InputError: an unknown column.
        """
        return self._table("scores", columns)

    def detections(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One row per box, corners in px of the image after EXIF rotation; as `scores`."""
        return self._table("detections", columns)

    def errors(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One row per image that has no scores, with the reason; as `scores`."""
        return self._table("errors", columns)

    def features(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One row per image whose features were kept, and else none; as `scores`."""
        return self._table("features", columns)

    @property
    def bundle(self) -> str:
        """Place of the bundle that it was scored with.

        Raises:
            InputError: the run's own record is gone.
        """
        place = RunPlaces(self.store, self.run_id).record
        with storage.errors_for(place, "run"):
            return str(storage.read_json(place)["bundle"]["uri"])

    def _table(self, name: str, columns: Sequence[str] | None) -> pa.Table:
        return load_table(self.store, self.run_id, name, None if columns is None else list(columns))


def load_manifest(place: Place) -> pa.Table:
    """A manifest's rows: one per distinct image.

    Args:
        place: of the Parquet file.

    Returns:
        Every column of the manifest's schema, those that the file lacks null.

    Raises:
        InputError: no such file, no manifest, an id that stands twice.
    """
    uri = storage.absolute(str(place))
    open_manifest(uri)
    return with_all_columns(storage.read_parquet(uri))


def published_runs(store: Place) -> list[str]:
    """Ids of a store's published runs, those that ended last at the end.

    Raises:
        InputError: the store isn't there.
    """
    folder = storage.join(storage.absolute(str(store)), "published")
    with storage.errors_for(str(store), "store"):
        names = [name for name in storage.list_names(folder) if name.endswith(_RECORD)]
        if not names and not storage.exists(storage.absolute(str(store))):
            raise InputError(
                f"store: {store}: there is no such folder or prefix; name the one that jobs were "
                "given as store="
            )
        ends = {name: storage.read_json(storage.join(folder, name)) for name in names}
    ordered = sorted(names, key=lambda name: (str(ends[name].get("finished_at")), name))
    return [name.removesuffix(_RECORD) for name in ordered]


def load_run(store: Place, run_id: str = LATEST) -> Run:
    """A published run of a store.

    Args:
        store: a folder or an s3:// prefix.
        run_id: its id, or `latest`: the one that ended last.

    Raises:
        InputError: no such store or run, or one that isn't finished.
    """
    place = storage.absolute(str(store))
    if run_id == LATEST:
        runs = published_runs(place)
        if not runs:
            raise InputError(f"run: {place}: holds no published run; make one with jobs/score.py")
        run_id = runs[-1]
    return Run(place, run_id, load_published(place, run_id))


def load_bundle(store: Place, reference: str = LATEST) -> Bundle:
    """A bundle, every file of it verified; loads no model.

    Args:
        store: a folder or an s3:// prefix.
        reference: `latest`, the bundle's folder or s3:// prefix, or (the start of) its digest.

    Raises:
        InputError: no such bundle, one of another version, or a damaged one.
    """
    place = storage.absolute(str(store))
    with storage.errors_for(place, "store"):
        return open_bundle(str(reference), place)


def load_scorer(
    bundle: Bundle,
    models: Sequence[str] | None = None,
    threads: int = 1,
    limits: LimitsConfig | None = None,
) -> ImageScorer:
    """A bundle's models in this process, for `.arrays(images, categories)`, `.files` and `.rows`.

    They give the numbers of `jobs/score.py` with this bundle, as rows of the same tables. Imports
    torch.

    Args:
        bundle: from `load_bundle`.
        models: of detector, features and classifier; None: all that the bundle has.
        threads: of the arithmetic of the whole process; 1 is the job's default.
        limits: what is refused; None: the job's defaults.

    Raises:
        InputError: a model that the bundle lacks, or a precision that this machine lacks.
    """
    from pipeline.scoring.direct import ImageScorer

    return ImageScorer(bundle, models, threads, limits)
