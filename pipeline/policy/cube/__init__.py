"""The score cube: exact counts of many rules at once, from one scan of the rows."""

from pipeline.policy.cube.counting import cells, count, counts, crossed
from pipeline.policy.cube.grid import Grid, Layout
from pipeline.policy.cube.planner import plan
from pipeline.policy.cube.plans import Plan, Settings
from pipeline.policy.cube.rules import Groups, Rows, Rules, conjunction, exception
from pipeline.policy.cube.sparse import Cells, merge

__all__ = [
    "Cells",
    "Grid",
    "Groups",
    "Layout",
    "Plan",
    "Rows",
    "Rules",
    "Settings",
    "cells",
    "conjunction",
    "count",
    "counts",
    "crossed",
    "exception",
    "merge",
    "plan",
]
