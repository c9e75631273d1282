"""Splitting: a manifest in, the same rows with groups, roles and folds out."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config import SplitConfig
from pipeline.errors import InputError
from pipeline.scoring.outage import OutageGuard
from pipeline.scoring.prepare import options_for
from pipeline.stages.cluster import connected
from pipeline.stages.contact_sheets import draw_sheets
from pipeline.stages.groups import Grouping, make_groups
from pipeline.stages.provenance import environment, now
from pipeline.stages.roles import Roles, give_roles
from pipeline.stages.worker_errors import driver_errors
from pipeline.tables import storage
from pipeline.tables.manifest import open_manifest, with_all_columns, write_manifest
from pipeline.tables.roles import ROLES
from pipeline.tables.schemas import MANIFEST, UNREACHABLE_ERRORS

# Groups of this many images and more are counted together.
_MANY = 10


def run_split(config: SplitConfig) -> dict[str, Any]:
    """Splits a manifest and writes the new one, its report and the contact sheets.

    Returns:
        The report: counts per category, defect type and role, groups, thresholds, warnings and
        where everything lies.

    Raises:
        InputError: something given is wrong; nothing has been written.
        RunError: the archive is out of reach, or the store failed.
    """
    with driver_errors(f"split {config.name}"):
        return _split(config)


def _split(config: SplitConfig) -> dict[str, Any]:
    store, source = storage.absolute(config.store), storage.absolute(config.manifest)
    target = storage.join(store, "manifests", f"{config.name}.parquet")
    if target == source:
        raise InputError(
            f"name: {config.name}: the new manifest would replace {source}, on which runs may be "
            "built; give another name"
        )
    manifest = open_manifest(source)
    rows = _ordered(with_all_columns(storage.read_parquet(source)))
    options = options_for(config.limits)
    storage.require_writable(store, "store")
    with connected(config.ray):
        grouping = make_groups(rows, config, options)
    lost = [line for line in grouping.unreadable if line.startswith(UNREACHABLE_ERRORS)]
    OutageGuard(rows.num_rows, config.max_unreachable).add(len(lost))
    roles = give_roles(rows, grouping, config)
    folder = storage.join(store, "reports", config.name)
    sheets = []
    if config.near_duplicates.contact_sheet:
        sheets = draw_sheets(folder, rows, list(grouping.pairs), options)
    table = _filled(rows, grouping, roles)
    write_manifest(target, table)
    report = {
        "manifest": target,
        "manifest_digest": hashlib.sha256(storage.read_bytes(target)).hexdigest(),
        "source": source,
        "source_digest": manifest.digest,
        "finished_at": now(),
        "config": config.model_dump(mode="json"),
        "environment": environment(),
        "counts": role_counts(table),
        "groups": group_facts(table, grouping),
        "leaks": folder_leaks(table),
        "unreadable": list(grouping.unreadable),
        "warnings": [*roles.warnings, *_column_warnings(rows, config)],
        "contact_sheets": sheets,
    }
    storage.write_json(storage.join(folder, "split.json"), report)
    return report


def _ordered(rows: pa.Table) -> pa.Table:
    # By content alone: a manifest whose rows were shuffled gives the same split.
    return rows.sort_by([("category", "ascending"), ("image_id", "ascending")])


def _filled(rows: pa.Table, grouping: Grouping, roles: Roles) -> pa.Table:
    values = {"group_id": grouping.group_ids, "role": roles.roles, "fold": roles.folds}
    for name, column in values.items():
        place, field = rows.schema.get_field_index(name), MANIFEST.field(name)
        rows = rows.set_column(place, field, pa.array(column, field.type))
    return rows


def role_counts(table: pa.Table) -> list[dict[str, Any]]:
    """Images per category and defect type, in all and in each role; `none` has no role."""
    names = ("category", "defect_type", "role")
    counts = Counter(zip(*(table.column(name).to_pylist() for name in names), strict=True))
    cells = sorted({key[:2] for key in counts}, key=lambda cell: [(x is None, x) for x in cell])
    return [
        {"category": category, "defect_type": kind}
        | {role or "none": counts[category, kind, role] for role in (*ROLES, None)}
        | {"images": sum(counts[category, kind, role] for role in (*ROLES, None))}
        for category, kind in cells
    ]


def group_facts(table: pa.Table, grouping: Grouping) -> list[dict[str, Any]]:
    """Per category the number of groups, how large they are, and the threshold they come from."""
    found = {pairs.category: pairs for pairs in grouping.pairs}
    categories = np.array(table.column("category").to_pylist(), object)
    facts = []
    for category in sorted(set(categories.tolist()), key=lambda name: (name is None, name or "")):
        ids = table.column("group_id").to_numpy()[categories == category]
        _, members = np.unique(ids, return_counts=True)
        sizes = Counter(np.minimum(members, _MANY).tolist())
        pairs = found.get(category)
        facts.append(
            {
                "category": category,
                "images": len(ids),
                "groups": len(members),
                "largest": int(members.max()),
                "groups_by_size": {
                    f"{size}{'+' if size == _MANY else ''}": sizes[size] for size in sorted(sizes)
                },
                "max_distance": pairs and pairs.max_distance,
                "max_distance_from": pairs and ("config" if pairs.given else "images"),
            }
        )
    return facts


def folder_leaks(table: pa.Table) -> list[dict[str, Any]]:
    """Per category, the good images of the folder `test`, and those with a twin in `train`.

    A twin is a good image of the folder `train` in the same group: what the folders as they
    lie would give away.
    """
    names = ("category", "split", "is_defect", "group_id")
    rows = list(zip(*(table.column(name).to_pylist() for name in names), strict=True))
    trained = {group for _, split, defect, group in rows if split == "train" and defect is False}
    good: Counter[str | None] = Counter()
    leaking: Counter[str | None] = Counter()
    for category, split, defect, group in rows:
        if split == "test" and defect is False:
            good[category] += 1
            leaking[category] += group in trained
    return [
        {
            "category": category,
            "good_test_images": good[category],
            "with_twin_in_train": leaking[category],
        }
        for category in sorted(good, key=lambda name: (name is None, name or ""))
    ]


def _column_warnings(rows: pa.Table, config: SplitConfig) -> list[str]:
    lines = []
    if rows.column("role").null_count < rows.num_rows:
        lines.append("the manifest had roles: they are given anew")
    if config.part_pattern is None and not config.near_duplicates.find:
        lines.append(
            "near_duplicates.find is off and there is no part_pattern: an image alone is "
            "a group, unless the manifest's group_id says otherwise"
        )
    return lines
