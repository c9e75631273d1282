"""How rules will be counted: steps, the scans that they share, and the reason in words."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.policy.cube.grid import Layout
from pipeline.policy.cube.rules import Groups, Rules

_MB = 1e6
EVERYTHING = 1 << 30


@dataclass(frozen=True)
class Settings:
    """Limits of counting.

    Attributes:
        memory_bytes: that all arrays may take, the result included; the caller's batches and the
            rules' thresholds are not.
        threads: that count; the counts are the same with any number.
        block_rows: rows that a thread works on at a time, at most.
        kinds: the ways that may be chosen.
    """

    memory_bytes: int = 1 << 30
    threads: int = 2
    block_rows: int = 1 << 18
    kinds: tuple[str, ...] = ("dense", "sparse", "bitmaps")


@dataclass(frozen=True, eq=False)
class Step:
    """Some rules, some parts, one way of counting.

    Attributes:
        kind: `dense`, `sparse` or `bitmaps`.
        rules: which of the plan's.
        layout: parts, thresholds and groups.
        nbytes: that it takes at most.
        cost: estimated nanoseconds of one core.
        at_once: sparse: groups of a part looked up at a time; bitmaps: rows at a time.
    """

    kind: str
    rules: tuple[int, ...]
    layout: Layout
    nbytes: int
    cost: float
    at_once: int = EVERYTHING


@dataclass(frozen=True, eq=False)
class Plan:
    """How rules will be counted.

    Attributes:
        rules: all of them.
        groups: what they are counted by.
        rows: how many come at most.
        settings: the limits.
        passes: steps that share a scan of the rows; a scan for each.
        block_rows: rows that a thread works on at a time.
        overhead: bytes of the result, the thresholds and the blocks being worked on.
        why: what was thought of each way.
    """

    rules: tuple[Rules, ...]
    groups: Groups
    rows: int
    settings: Settings
    passes: tuple[tuple[Step, ...], ...]
    block_rows: int
    overhead: int
    why: str

    @property
    def kind(self) -> str:
        """`dense`, `parts` (dense, some parts at a time), `sparse` or `bitmaps`; or several."""
        kinds = sorted({step.kind for steps in self.passes for step in steps})
        if "dense" in kinds and self.scans > 1:
            kinds[kinds.index("dense")] = "parts"
        return " + ".join(kinds) or "nothing"

    @property
    def scans(self) -> int:
        """How often the rows are read."""
        return len(self.passes)

    @property
    def nbytes(self) -> int:
        """Bytes of arrays that it takes at most."""
        taken = max((sum(step.nbytes for step in steps) for steps in self.passes), default=0)
        return self.overhead + taken

    @property
    def says(self) -> str:
        """The plan in words."""
        rules = sum(shape.count for shape in self.rules)
        scans = "1 scan" if self.scans == 1 else f"{self.scans} scans"
        return (
            f"{self.kind}: {rules:,} rules in {self.groups.count:,} groups of {self.rows:,} rows, "
            f"{scans}, at most {megabytes(self.nbytes)} of {megabytes(self.settings.memory_bytes)}"
            f" ({self.why})"
        )


def megabytes(nbytes: float) -> str:
    """In MB, for people."""
    return f"{nbytes / _MB:,.1f} MB"
