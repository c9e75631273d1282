"""Roles and folds of labelled rows, and what has to be said about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.config import SplitConfig
from pipeline.errors import InputError
from pipeline.stages.groups import Grouping
from pipeline.stats.assignment import Assignment, GroupedRows, Shares, assign
from pipeline.stats.strata import LabelledRows, Strata, stratify
from pipeline.tables.roles import FIT, NORMAL_CALIBRATION, ROLES, TEST, VALIDATION

_GOOD, _DEFECT = "good", "defect"
# Examples named in a warning; the others are counted.
_EXAMPLES = 3


@dataclass(frozen=True)
class Roles:
    """What N manifest rows are for.

    Attributes:
        roles: (N,) role names, None for rows that take no part.
        folds: (N,) folds of cross-fitting, None for rows that have none.
        warnings: what people should know, a line each.
    """

    roles: list[str | None]
    folds: list[int | None]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Labelled:
    """The rows that take part: with a category and a known label."""

    places: np.ndarray
    rows: LabelledRows
    uris: list[str]
    from_train: np.ndarray


def give_roles(rows: pa.Table, grouping: Grouping, config: SplitConfig) -> Roles:
    """Shares labelled rows out to roles, and `fit` and `validation` to folds.

    Args:
        rows: the manifest, N rows.
        grouping: a group goes to one role, and to one fold; an image that can't be read has no
            role, since it may be the twin of any.
        config: the split's settings.

    Raises:
        InputError: no labelled good image anywhere, or fewer groups than folds.
    """
    labelled = _labelled(rows, grouping)
    strata = stratify(labelled.rows, config.smallest_stratum)
    shares = _shares(strata, config)
    allowed = np.ones((len(labelled.places), len(ROLES)), bool)
    allowed[labelled.rows.defects, ROLES.index(NORMAL_CALIBRATION)] = False
    if not config.train_to_test:
        allowed[labelled.from_train, ROLES.index(TEST)] = False
    grouped = GroupedRows(labelled.rows.groups, strata.of_row, allowed)
    found = assign(grouped, Shares(shares, strata.coarser), config.seed)
    roles: list[str | None] = [None] * rows.num_rows
    for place, part in zip(labelled.places.tolist(), found.parts.tolist(), strict=True):
        roles[place] = ROLES[part]
    folds, fold_warnings = _folds(labelled, strata, found.parts, config)
    all_folds: list[int | None] = [None] * rows.num_rows
    for place, fold in folds:
        all_folds[place] = fold
    warnings = [
        *_unlabelled_warnings(int(grouping.readable.sum()), labelled),
        *_strata_warnings(strata, config.smallest_stratum),
        *_large_groups(labelled, strata, found),
        *_empty_roles(labelled, found, config),
        *fold_warnings,
    ]
    return Roles(roles, all_folds, tuple(warnings))


def _labelled(rows: pa.Table, grouping: Grouping) -> _Labelled:
    truth, categories = rows.column("is_defect").to_pylist(), rows.column("category").to_pylist()
    places = np.array(
        [
            place
            for place, (label, category) in enumerate(zip(truth, categories, strict=True))
            if label is not None and category is not None and grouping.readable[place]
        ],
        np.int64,
    )
    chosen = rows.take(places)
    defects = np.array(chosen.column("is_defect").to_pylist(), bool)
    if not (~defects).any():
        raise InputError(
            "manifest: no readable image with a category and is_defect = false, and a split needs "
            "good images; label some (the columns category and is_defect), or index a labelled "
            "source"
        )
    types = [
        kind or (_DEFECT if defect else _GOOD)
        for kind, defect in zip(chosen.column("defect_type").to_pylist(), defects, strict=True)
    ]
    labels = LabelledRows(
        np.array(chosen.column("category").to_pylist(), str),
        np.array(types, str),
        defects,
        grouping.group_ids[places],
    )
    from_train = np.array([split == "train" for split in chosen.column("split").to_pylist()], bool)
    return _Labelled(places, labels, chosen.column("uri").to_pylist(), from_train)


def _shares(strata: Strata, config: SplitConfig) -> np.ndarray:
    """(S, 4) shares of each stratum, in the order of the roles."""
    good, defects = config.good.model_dump(), config.defects.model_dump()
    by_kind = [[kind.get(role, 0.0) for role in ROLES] for kind in (good, defects)]
    shares: np.ndarray = np.array(by_kind)[strata.defects.astype(int)]
    return shares


def _folds(
    labelled: _Labelled, strata: Strata, parts: np.ndarray, config: SplitConfig
) -> tuple[list[tuple[int, int]], list[str]]:
    """(manifest row, fold) of the rows of `fit` and `validation`, and warnings."""
    if config.folds is None:
        return [], []
    inside = np.flatnonzero(np.isin(parts, [ROLES.index(FIT), ROLES.index(VALIDATION)]))
    groups = labelled.rows.groups[inside]
    if len(np.unique(groups)) < config.folds:
        raise InputError(
            f"folds: {config.folds} asked for, and fit and validation hold "
            f"{len(np.unique(groups))} groups; ask for fewer folds"
        )
    shares = np.full((len(strata.defects), config.folds), 1 / config.folds)
    anywhere = np.ones((len(inside), config.folds), bool)
    grouped = GroupedRows(groups, strata.of_row[inside], anywhere)
    found = assign(grouped, Shares(shares, strata.coarser), config.seed)
    warnings = []
    defects = labelled.rows.defects[inside]
    for kind, members in ((_GOOD, ~defects), (_DEFECT, defects)):
        lacking = sorted(set(range(config.folds)) - set(found.parts[members].tolist()))
        if lacking:
            warnings.append(
                f"folds {', '.join(map(str, lacking))} hold no {kind} image: what is trained or "
                f"judged on them has one class only; ask for fewer than {config.folds} folds"
            )
    rows = labelled.places[inside].tolist()
    return list(zip(rows, found.parts.tolist(), strict=True)), warnings


def _unlabelled_warnings(total: int, labelled: _Labelled) -> list[str]:
    left = total - len(labelled.places)
    return [f"{left} images without a label or a category have no role"] if left else []


def _strata_warnings(strata: Strata, smallest: int) -> list[str]:
    lines = []
    for merged in strata.merged:
        types = ", ".join(f"{name} ({groups} groups)" for name, groups in merged.types)
        lines.append(
            f"{merged.category}: {types} are shared out together, since one has fewer than "
            f"{smallest} groups: a role may lack it"
        )
    lines += [
        f"{category}: {name}: only {groups} groups, fewer than {smallest}: a role may lack it"
        for category, name, groups in strata.small
    ]
    return lines


def _large_groups(labelled: _Labelled, strata: Strata, found: Assignment) -> list[str]:
    """Groups with more rows of a stratum than its smallest role should hold."""
    wanted = np.where(found.wanted > 0, found.wanted, np.inf).min(axis=1)
    pairs, first, rows = np.unique(
        np.stack([strata.of_row, labelled.rows.groups]),
        axis=1,
        return_index=True,
        return_counts=True,
    )
    large = np.flatnonzero(rows > np.maximum(wanted[pairs[0]], 1))
    lines = []
    for index in large[np.argsort(-rows[large], kind="stable")][:_EXAMPLES]:
        row = first[index]
        stratum = pairs[0][index]
        lines.append(
            f"{labelled.rows.categories[row]}: group {pairs[1][index]} holds {rows[index]} of the "
            f"{int(found.wanted[stratum].sum())} images of {labelled.rows.types[row]}, such as "
            f"{labelled.uris[row]}, more than the {wanted[stratum]:.1f} of a role: shares can't be "
            "kept; look at the contact sheet and lower near_duplicates.by_category."
            f"{labelled.rows.categories[row]}, or narrow part_pattern"
        )
    if len(large) > _EXAMPLES:
        lines.append(f"{len(large) - _EXAMPLES} more groups are larger than a role")
    return lines


def _empty_roles(labelled: _Labelled, found: Assignment, config: SplitConfig) -> list[str]:
    """Categories that a role has no good image or no defect of, though a share is asked for."""
    lines = []
    names = labelled.rows.categories
    for category in sorted(set(names.tolist())):
        for kind, members, shares in (
            (_GOOD, ~labelled.rows.defects, config.good.model_dump()),
            (_DEFECT, labelled.rows.defects, config.defects.model_dump()),
        ):
            inside = found.parts[(names == category) & members]
            there = {ROLES[part] for part in inside.tolist()}
            lacking = [role for role, share in shares.items() if share and role not in there]
            if lacking:
                lines.append(_lacking(category, kind, lacking, len(inside)))
    return lines


def _lacking(category: str, kind: str, roles: Sequence[str], images: int) -> str:
    if not images:
        line = f"{category}: has no labelled {kind} image"
    else:
        line = f"{category}: no {kind} image in {', '.join(roles)} ({images} in all)"
    if kind == _GOOD and FIT in roles:
        line += "; without good fit images it can't be fitted, and jobs/fit.py refuses it"
    return line
