"""The policy language: JSON documents that say which images are defects, or go to a person."""

from pipeline.policy.language.compiling import Ruling, Slot, rulings
from pipeline.policy.language.deciding import Rows, decide
from pipeline.policy.language.document import (
    DEFECT,
    GOOD,
    OUTCOMES,
    REVIEW,
    Outcome,
    Policy,
    Ref,
    Var,
)
from pipeline.policy.language.explaining import Because, Explanation, Reasons, explain, reasons
from pipeline.policy.language.folding import Part
from pipeline.policy.language.json_schema import json_schema
from pipeline.policy.language.parsing import parse_policy, read_policy
from pipeline.policy.language.resolving import Number, Resolved, ResolvedRuling, resolve
from pipeline.policy.language.thresholds import Threshold, Thresholds

__all__ = [
    "DEFECT",
    "GOOD",
    "OUTCOMES",
    "REVIEW",
    "Because",
    "Explanation",
    "Number",
    "Outcome",
    "Part",
    "Policy",
    "Reasons",
    "Ref",
    "Resolved",
    "ResolvedRuling",
    "Rows",
    "Ruling",
    "Slot",
    "Threshold",
    "Thresholds",
    "Var",
    "decide",
    "explain",
    "json_schema",
    "parse_policy",
    "read_policy",
    "reasons",
    "resolve",
    "rulings",
]
