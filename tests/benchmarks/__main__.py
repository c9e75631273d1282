"""`make bench`: every measurement, as ratios with their spread, to a table and a JSON file.

    python -m tests.benchmarks [--short] [--out FILE] [SECTION …]

`--short` measures little of everything: that it works, and its counts, not its times.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks import decoding, growing, ledger, machine, moments, scoring, stages, starting
from tests.benchmarks.ratios import as_markdown

Found = dict[str, Any]


def scored(short: bool) -> Found:
    """(a) The whole job against a bare loop and a DataLoader."""
    rows = []
    sizes = (256,) if short else (256, 640)
    for size in sizes:
        for precision in ("float32",) if short else ("float32", "bfloat16"):
            # Few images have too few commits for a middle.
            images, turns = (256, 1) if short else (scoring.LEAST_IMAGES, 3)
            found = scoring.compare(images, turns, size, precision, {})
            rows += [ratio.row() for ratio in found]
            # The next ones take a quarter of an hour each.
            print(as_markdown(rows[-len(found) :]), file=sys.stderr, flush=True)
    return {"ratios": rows}


def decoded(short: bool) -> Found:
    """(b) Decoding alone."""
    ratios = decoding.measure(1, 0.05) if short else decoding.measure(5)
    return {"ratios": [ratio.row() for ratio in ratios]}


def modelled(short: bool) -> Found:
    """(c) Each model stage against its forward pass."""
    ratios, sizes, boxes = stages.measure(1 if short else 5, 256 if short else 640)
    rows = [ratio.row() for ratio in ratios]
    return {"ratios": rows, "object_store_bytes": sizes, "boxes_of_an_image": boxes}


def written(short: bool) -> Found:
    """(d) The ledger alone."""
    return {"ledger": asdict(ledger.measure(1000 if short else 100_000))}


def summed(short: bool) -> Found:
    """(e) The moments of a fit."""
    return {"ratios": [moments.measure(1 if short else 3, 20_000 if short else 1_000_000).row()]}


def started(short: bool) -> Found:
    """(f) From the start to the first scored block, and what a bare Ray Data chain takes."""
    found = starting.measure(1 if short else 3)
    return {"seconds": found.own, "seconds_without_this_project": found.bare}


def kept(short: bool) -> Found:
    """(g) Peak memory for more and more images."""
    counts = (200, 2000) if short else (2_000, 20_000, 200_000)
    found = growing.memory(counts)
    return {
        "peak_bytes": {
            count: {
                "driver": seen.driver_began + seen.driver,
                "driver_above_its_start": seen.driver,
                "worker": seen.worker,
                "images": seen.images,
            }
            for count, seen in found.items()
        }
    }


def spread(short: bool) -> Found:
    """One, two and four nodes."""
    nodes = (1, 2) if short else (1, 2, 4)
    # A speed is that between commits: few images need small ones.
    small = {"block_rows": 8, "commit_rows": 16}
    found = growing.scaling(nodes, 200, small) if short else growing.scaling(nodes)
    one = found[1]
    return {
        "images_per_s": found,
        "efficiency": {count: speed / (count * one) for count, speed in found.items()},
    }


SECTIONS: dict[str, Callable[[bool], Found]] = {
    "score": scored,
    "decode": decoded,
    "stages": modelled,
    "ledger": written,
    "moments": summed,
    "start": started,
    "memory": kept,
    "nodes": spread,
}


def main() -> None:
    """Runs the sections that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], default=[])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": machine.describe(), "short": options.short}
    print(json.dumps(found["machine"], indent=2), flush=True)
    for name in options.sections or SECTIONS:
        found[name] = SECTIONS[name](options.short)
        rows = found[name].pop("ratios", None)
        print(f"\n## {name}: {SECTIONS[name].__doc__}\n", flush=True)
        if rows is not None:
            print(as_markdown(rows), flush=True)
        if found[name]:
            print(json.dumps(found[name], indent=2), flush=True)
        if rows is not None:
            found[name]["ratios"] = rows
        options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(f"\nwritten to {options.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
