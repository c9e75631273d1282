"""The names under which Prometheus sees our series, by Ray's rules."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram, Metric

from pipeline.stages.metrics import EXPORT_PREFIX, RunMetrics

_SUFFIXES: dict[type[Metric], tuple[str, ...]] = {
    Counter: ("_total",),
    Gauge: ("",),
    Histogram: ("_bucket", "_count", "_sum"),
}


def exported_names() -> dict[str, set[str]]:
    """By a series' own name those that it is exported under."""
    series = [one for one in vars(RunMetrics("score", {})).values() if isinstance(one, Metric)]
    return {
        one.info["name"]: {
            EXPORT_PREFIX + one.info["name"] + suffix for suffix in _SUFFIXES[type(one)]
        }
        for one in series
    }
