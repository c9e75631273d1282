"""linescore from Python: a store's tables, scoring without Ray, decisions with their reasons.

Names that are given from outside and are wrong raise `pipeline.errors.InputError`, whose message
says what, where, which value, and the way out. Loading a run or deciding imports no network;
`load_scorer` imports torch.
"""

from pipeline.api.deciding import decide, explain, load_policy, load_thresholds
from pipeline.api.evaluating import Evaluation, Sweep, evaluate, evaluate_sweep
from pipeline.api.stores import (
    Run,
    load_bundle,
    load_manifest,
    load_run,
    load_scorer,
    published_runs,
)

__all__ = [
    "Evaluation",
    "Run",
    "Sweep",
    "decide",
    "evaluate",
    "evaluate_sweep",
    "explain",
    "load_bundle",
    "load_manifest",
    "load_policy",
    "load_run",
    "load_scorer",
    "load_thresholds",
    "published_runs",
]
