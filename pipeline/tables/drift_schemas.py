"""The Arrow schemas of what watching for drift writes, and of a frozen reference."""

from __future__ import annotations

import pyarrow as pa

from pipeline.tables.schemas import described, table_schema

_CATEGORY = described("category", pa.string(), "null: images without one")

VERDICTS = table_schema(
    "verdicts",
    [
        _CATEGORY,
        described("verdict", pa.string(), "ok, watch, drift or not_comparable", null=False),
        described("reason", pa.string(), "in words", null=False),
        described("reference_images", pa.int64(), "that were compared", "images", null=False),
        described("images", pa.int64(), "of the run, that were compared", "images", null=False),
        described(
            "reference_independent", pa.float64(), "what they are worth: groups count as few"
        ),
        described("independent", pa.float64(), "what the run's are worth: groups count as few"),
    ],
)

DRIFT = table_schema(
    "drift",
    [
        _CATEGORY,
        described("measure", pa.string(), "a column, a policy's name or an error type", null=False),
        described("kind", pa.string(), "score, fact, kinds, flagged or errors", null=False),
        described("verdict", pa.string(), "ok, watch, drift or not_comparable", null=False),
        described("says", pa.string(), "how far, in words", null=False),
        described("chance", pa.float64(), "of as large a difference without any change"),
        described("corrected", pa.float64(), "the same, over all comparisons (Holm)"),
        described("psi", pa.float64(), "population stability index"),
        described("psi_of_chance", pa.float64(), "what chance alone gives on average"),
        described("ks", pa.float64(), "Kolmogorov–Smirnov distance at the bins' edges"),
        described("ks_most", pa.float64(), "what it can be at most between them"),
        described("wasserstein", pa.float64(), "first order, in the measure's unit"),
        described("total_variation", pa.float64(), "of kinds: the share that would have to change"),
        described("reference_value", pa.float64(), "mean, or share"),
        described("value", pa.float64(), "mean, or share, of the run"),
        described("reference_missing", pa.int64(), "images without the number", "images"),
        described("missing", pa.int64(), "images of the run without it", "images"),
    ],
)

FLAGGED = table_schema(
    "flagged",
    [
        described("policy", pa.string(), "the policy's name", null=False),
        described("digest", pa.string(), "of what it decides", null=False),
        _CATEGORY,
        described("of", pa.string(), "reference or run", null=False),
        described("images", pa.int64(), "that were compared", "images", null=False),
        described("independent", pa.float64(), "what they are worth", null=False),
        described("flagged", pa.int64(), "decided as defects", "images", null=False),
        described("rate", pa.float64(), "flagged / images", "share"),
        described("low", pa.float64(), "Wilson interval, lower end", "share"),
        described("high", pa.float64(), "Wilson interval, upper end", "share"),
        described("least", pa.float64(), "Clopper–Pearson interval, lower end", "share"),
        described("most", pa.float64(), "Clopper–Pearson interval, upper end", "share"),
    ],
)

NEAR = table_schema(
    "near",
    [
        described("policy", pa.string(), "the policy's name", null=False),
        _CATEGORY,
        described("score", pa.string(), "that is compared", null=False),
        described("threshold", pa.float64(), "what it is compared with", null=False),
        described("within", pa.float64(), "how near is near, in the score's unit"),
        described("reference_near", pa.int64(), "images within", "images"),
        described("reference_images", pa.int64(), "with the score", "images"),
        described("near", pa.int64(), "images of the run within", "images"),
        described("images", pa.int64(), "of the run, with the score", "images"),
    ],
)

# A frozen reference; what is no bin of a measure stands in the file's metadata.
REFERENCE = table_schema(
    "reference",
    [
        described("category", pa.int32(), "its place in the metadata's list", null=False),
        described("measure", pa.string(), "a column of `scores`", null=False),
        described("edge", pa.float64(), "upper edge, included; null: the last bin, which is open"),
        described("count", pa.int64(), "images in the bin", "images", null=False),
        described("sum", pa.float64(), "of their numbers", null=False),
    ],
)
