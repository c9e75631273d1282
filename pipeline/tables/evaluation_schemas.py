"""The Arrow schemas of what an evaluation writes: figures, quality of scores, mistakes, choices."""

from __future__ import annotations

import pyarrow as pa

from pipeline.tables.schemas import described, table_schema

# Rates of `figures`, each with the ends of its Wilson interval and its Clopper–Pearson bounds.
RATES = {
    "precision": "TP / (TP + FP): share of defects among flagged images",
    "recall": "TP / defects: share of the defects that are flagged",
    "fpr": "FP / good: share of the good images that are flagged (false alarms)",
    "fnr": "FN / defects: share of the defects that pass unseen (missed)",
    "flagged_rate": "flagged / all rows, labelled or not",
    "review_rate": "images that a person looks at / all rows, labelled or not",
}
_WHOSE = [
    described("policy", pa.string(), "the policy's name", null=False),
    described(
        "digest", pa.string(), "of what it decides: equal digests are one policy", null=False
    ),
]
_PART = [
    described("category", pa.string(), "null: all of them, or rows without one"),
    described("defect_type", pa.string(), "null: all of them"),
]
_COUNTS = [
    ("good", "labelled good"),
    ("defects", "labelled defects"),
    ("unlabelled", "rows that nobody has labelled"),
    ("tp", "defects that are flagged"),
    ("fp", "good images that are flagged: false alarms"),
    ("tn", "good images that pass"),
    ("fn", "defects that pass unseen: missed"),
    ("review_good", "good images that a person looks at; neither TN nor FP"),
    ("review_defects", "defects that a person looks at; neither TP nor FN"),
    ("flagged_unlabelled", "rows without a label that are flagged"),
    ("review_unlabelled", "rows without a label that a person looks at"),
]

FIGURES = table_schema(
    "figures",
    [
        *_WHOSE,
        described("oracle", pa.bool_(), "reads ground truth, which no line knows", null=False),
        described(
            "level", pa.string(), "all, category, defect_type, or macro: the mean over categories"
        ),
        *_PART,
        described("measured_on", pa.string(), "which rows, and whether they chose anything"),
        *(described(name, pa.int64(), meaning, "images") for name, meaning in _COUNTS),
        described("categories", pa.int64(), "macro: over how many categories FNR exists"),
        *(
            described(f"{rate}{suffix}", pa.float64(), f"{meaning}{what}")
            for rate, meaning in RATES.items()
            for suffix, what in (
                ("", "; null where there is nothing to divide by"),
                ("_low", "; Wilson interval, lower end"),
                ("_high", "; Wilson interval, upper end"),
                ("_least", "; Clopper–Pearson interval, lower end"),
                ("_most", "; Clopper–Pearson interval, upper end"),
            )
        ),
        described("f1", pa.float64(), "harmonic mean of precision and recall"),
        described("f2", pa.float64(), "the same, recall weighing twice as much"),
    ],
)

QUALITY = table_schema(
    "quality",
    [
        described("score", pa.string(), "the score column", null=False),
        described("category", pa.string(), "null: all of them together"),
        described("good", pa.int64(), "labelled good, with a score", "images"),
        described("defects", pa.int64(), "labelled defects, with a score", "images"),
        described("missing", pa.int64(), "labelled rows without this score", "images"),
        *(
            described(f"{area}{suffix}", pa.float64(), f"{meaning}{what}")
            for area, meaning in (
                ("auroc", "area under the ROC curve"),
                ("average_precision", "area under the precision–recall curve"),
            )
            for suffix, what in (
                ("", "; null where one kind is missing"),
                ("_low", ", lower end of the interval"),
                ("_high", ", upper end of the interval"),
            )
        ),
        described("interval", pa.string(), "how the interval was found"),
    ],
)

MISTAKES = table_schema(
    "mistakes",
    [
        *_WHOSE,
        described("kind", pa.string(), "false_negative or false_positive", null=False),
        described("rank", pa.int32(), "1: nearest to a threshold", null=False),
        described("image_id", pa.int64(), "of the image, where the table has one"),
        described("uri", pa.string(), "where it lies, where the table says so"),
        *_PART,
        described("score", pa.string(), "the comparison that decided: its score"),
        described("value", pa.float64(), "the image's score"),
        described("threshold", pa.float64(), "what it was compared with"),
        described(
            "distance", pa.float64(), "|value - threshold| over the score's standard deviation"
        ),
        described("reason", pa.string(), "in words"),
    ],
)

HISTOGRAMS = table_schema(
    "histograms",
    [
        described("score", pa.string(), "the score column", null=False),
        described("category", pa.string(), "null: all of them together"),
        described("low", pa.float64(), "from this score on"),
        described("high", pa.float64(), "below this score; the last bin holds it too"),
        described("good", pa.int64(), "labelled good", "images"),
        described("defects", pa.int64(), "labelled defects", "images"),
        described("unlabelled", pa.int64(), "that nobody has labelled", "images"),
    ],
)

FLIPS = table_schema(
    "flips",
    [
        described("champion", pa.string(), "the policy in use", null=False),
        described("challenger", pa.string(), "the policy that would take its place", null=False),
        described("image_id", pa.int64(), "of the image, where the table has one"),
        described("uri", pa.string(), "where it lies, where the table says so"),
        *_PART,
        described("is_defect", pa.bool_(), "ground truth; null: nobody knows"),
        described("champion_decision", pa.string(), "good, review or defect", null=False),
        described("challenger_decision", pa.string(), "good, review or defect", null=False),
    ],
)

DECISIONS = table_schema(
    "decisions",
    [
        described("image_id", pa.int64(), "of the image, where the table has one"),
        described("uri", pa.string(), "where it lies, where the table says so"),
        *_PART,
        described("is_defect", pa.bool_(), "ground truth; null: nobody knows"),
        described("decision", pa.string(), "good, review or defect", null=False),
        described("reason", pa.string(), "what decided, in words", null=False),
        *_WHOSE,
    ],
)
