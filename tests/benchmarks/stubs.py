"""Models that wait or do nothing, in the place of the real ones: what is left is the job's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from pipeline.scoring.reuse.join import BOX
from pipeline.stages import model_pools
from pipeline.stages.pools import ActorSettings

# What each model adds, of the right type and always the same.
_FLOATS = {
    "detector": (),
    "features": ("anomaly_cells", "anomaly_pooled"),
    "classifier": ("defect_logit", "defect_probability"),
}


class Stub:
    """Adds a model's columns without the model."""

    model = ""
    seconds = 0.0

    def __init__(self, settings: ActorSettings) -> None:
        self._drop = list(settings.drop)

    def __call__(self, rows: pa.Table) -> pa.Table:
        time.sleep(self.seconds * len(rows))
        for name in _FLOATS[self.model]:
            rows = rows.append_column(name, pa.array(np.full(len(rows), 0.5, np.float32)))
        if self.model == "detector":
            rows = rows.append_column("boxes", pa.array([[]] * len(rows), pa.list_(BOX)))
        return rows.drop_columns(self._drop)


@contextmanager
def stubs_for_models(seconds: float = 0.0) -> Iterator[None]:
    """Within it a run's pools hold stubs, each of which waits so long for an image."""
    real = dict(model_pools.ACTORS)
    for name in real:
        model_pools.ACTORS[name] = type(
            f"Stub{name.title()}", (Stub,), {"model": name, "seconds": seconds}
        )
    try:
        yield
    finally:
        model_pools.ACTORS.update(real)
