"""How far one set of numbers is from another, from counts in frozen bins that add up."""

from pipeline.stats.drift.bins import Binned, count, quantile_edges, spread
from pipeline.stats.drift.chances import (
    effective_images,
    holm,
    ks_chance,
    levels_chance,
    rates_chance,
)
from pipeline.stats.drift.distances import (
    ks_distance,
    psi,
    psi_of_bins,
    psi_of_chance,
    total_variation,
    wasserstein,
)

__all__ = [
    "Binned",
    "count",
    "effective_images",
    "holm",
    "ks_chance",
    "ks_distance",
    "levels_chance",
    "psi",
    "psi_of_bins",
    "psi_of_chance",
    "quantile_edges",
    "rates_chance",
    "spread",
    "total_variation",
    "wasserstein",
]
