"""Distances of images from their stored features, a row group of a feature table at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from pipeline.scoring.bundle import Bundle
from pipeline.stats.gaussian import Gaussian, grid_score, mahalanobis
from pipeline.tables.lookup import DamagedTableError, TableFile, found_rows, wanted

# Images whose distances are solved together: enough that the products take the time.
BATCH_IMAGES = 256
# Categories whose Gaussians are at hand: tables are sorted by category.
_CATEGORIES_AT_HAND = 3


class StoredDistances:
    """The Gaussians of a bundle against features that lie in tables."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._bundle, self._threads = bundle, threads
        self._gaussians: OrderedDict[tuple[str, str], Gaussian] = OrderedDict()

    def of_images(
        self, files: Sequence[TableFile], ids: np.ndarray, categories: Sequence[str | None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Distances of N images that a run keeps the features of.

        Args:
            files: the run's feature table.
            ids: (N,) int64.
            categories: of each image, the one whose Gaussian counts.

        Returns:
            `cells` and `pooled`, (N,) float64 each; NaN where the category has no Gaussian, and
            in `cells` where only `pooled` features are kept.

        Raises:
            DamagedTableError: a file is damaged, or has lost an image.
        """
        order = np.argsort(ids)
        ordered, names = ids[order], np.array(categories, object)[order]
        cells, pooled = np.full(len(ids), np.nan), np.full(len(ids), np.nan)
        seen = np.zeros(len(ids), bool)
        columns = ["image_id", "pooled", "cells"]
        with threadpool_limits(self._threads):
            for rows in found_rows(files, wanted(ids, categories), columns):
                places = np.searchsorted(ordered, rows.column("image_id").to_numpy())
                seen[places] = True
                for category, mine in _by_category(names[places]):
                    own = order[places[mine]]
                    pooled[own] = self._distances("pooled", category, self._pooled(rows, mine))
                    if self._keeps_cells(rows):
                        cells[own] = self._distances("cells", category, self._cells(rows, mine))
        if not seen.all():
            raise _lost(files, int(ordered[~seen][0]))
        return cells, pooled

    def _distances(self, score: str, category: str | None, features: np.ndarray) -> np.ndarray:
        if category not in self._bundle.categories:
            return np.full(len(features), np.nan)
        gaussian = self._gaussian(str(category), score)
        grids = self._bundle.spec.features.grids if score == "cells" else (1,)
        return np.concatenate(
            [
                grid_score(mahalanobis(gaussian, features[start : start + BATCH_IMAGES]), grids)
                for start in range(0, len(features), BATCH_IMAGES)
            ]
        )

    def _gaussian(self, category: str, score: str) -> Gaussian:
        key = (category, score)
        if key not in self._gaussians:
            self._gaussians[key] = self._bundle.gaussian(category, score)
        self._gaussians.move_to_end(key)
        while len(self._gaussians) > 2 * _CATEGORIES_AT_HAND:
            self._gaussians.popitem(last=False)
        return self._gaussians[key]

    def _keeps_cells(self, rows: pa.Table) -> bool:
        return "cells" in rows.schema.names and not rows.column("cells").null_count

    def _cells(self, rows: pa.Table, mine: np.ndarray) -> np.ndarray:
        """(N, G, D) float16 of some rows."""
        layout = self._bundle.spec.features
        column = rows.column("cells").combine_chunks()
        values = np.frombuffer(column.buffers()[2], "<f2") if len(column) else np.empty(0, "<f2")
        ends = np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column) + 1]
        shape = (len(column), layout.cells, layout.cell_channels)
        cells: np.ndarray = values[ends[0] // 2 : ends[-1] // 2].reshape(shape)
        return cells if len(mine) == len(column) else cells[mine]

    def _pooled(self, rows: pa.Table, mine: np.ndarray) -> np.ndarray:
        """(N, 1, P) float32 of some rows."""
        column = rows.column("pooled").combine_chunks()
        width = self._bundle.spec.features.pooled_channels
        pooled: np.ndarray = column.flatten().to_numpy().reshape(len(column), 1, width)
        return pooled if len(mine) == len(column) else pooled[mine]


def _by_category(names: np.ndarray) -> list[tuple[str | None, np.ndarray]]:
    """Rows of each category; all at once where there is one, which is nearly always."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names.tolist()))}
    codes = np.array([numbers[name] for name in names.tolist()])
    return [(name, np.flatnonzero(codes == number)) for name, number in numbers.items()]


def _lost(files: Sequence[TableFile], image_id: int) -> DamagedTableError:
    return DamagedTableError(files[0].run_id, files[0].uri, f"has no features of image {image_id}")
