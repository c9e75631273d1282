"""What a run tells Prometheus while it lasts, through Ray; its report is the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

# Ray puts this before every name that it exports, and `_total` behind a counter's.
EXPORT_PREFIX = "ray_"
# Series of the counter by category: a mistake in a manifest, such as a category for each image,
# must not fill somebody's Prometheus.
MOST_CATEGORIES = 50
OTHER_CATEGORIES = "(other)"
NO_CATEGORY = "(none)"
# From a feature taken over to a large PNG on a slow disk.
_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]


class RunMetrics:
    """The driver's own series, fed with the summary of each commit.

    All of them are the driver's: workers come and go, and what they had not yet told would be
    lost. Where Ray exports no metrics, all this does nothing.
    """

    def __init__(self, verb: str, categories: Mapping[str | None, int]) -> None:
        """Names the series.

        Args:
            verb: score or fit; as a label, since `job` is Prometheus's own.
            categories: images by category; the largest get a series of their own.
        """
        largest = sorted(categories, key=lambda name: (-categories[name], name or ""))
        self._shown = set(largest[:MOST_CATEGORIES])
        self._images = Counter(
            "linescore_images",
            "Images committed, by status (scored, error) and kind of error",
            ("verb", "status", "error_type"),
        )
        self._categories = Counter(
            "linescore_category_images",
            f"Images committed, by category; beyond {MOST_CATEGORIES} as {OTHER_CATEGORIES}",
            ("verb", "category"),
        )
        self._bytes = Counter("linescore_read_bytes", "Bytes of image files read", ("verb",))
        # Ray rebuilds a histogram's sum from the middles of its bins: only a counter adds up.
        self._stages = Counter(
            "linescore_stage_seconds", "Seconds of a stage's workers, added up", ("verb", "stage")
        )
        self._seconds = Histogram(
            "linescore_image_seconds",
            "Seconds of a stage's worker per image: a block's, divided by its images",
            _SECONDS,
            ("verb", "stage"),
        )
        self._queue = Gauge("linescore_queue_images", "Images not yet committed", ("verb",))
        counters = (self._images, self._categories, self._bytes, self._stages)
        for series in (*counters, self._seconds, self._queue):
            series.set_default_tags({"verb": verb})

    def add(self, commit: Mapping[str, Any]) -> None:
        """Counts one commit, by its summary."""
        for count in commit["counts"]:
            self._count(count["category"], count["error_type"], count["images"])
        if commit["bytes"]:
            self._bytes.inc(commit["bytes"])
        for spent in commit["spent"]:
            tags = {"stage": spent["stage"]}
            if spent["seconds"] > 0:
                self._stages.inc(spent["seconds"], tags)
            for _ in range(spent["images"]):
                self._seconds.observe(spent["seconds"] / spent["images"], tags)

    def left(self, images: int) -> None:
        """Images not yet committed."""
        self._queue.set(max(images, 0))

    def _count(self, category: str | None, error_type: str | None, images: int) -> None:
        status = "error" if error_type else "scored"
        self._images.inc(images, {"status": status, "error_type": error_type or ""})
        own = (category or NO_CATEGORY) if category in self._shown else OTHER_CATEGORIES
        self._categories.inc(images, {"category": own})
