"""Which trainings a run consists of, and what each may see; decided before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from pipeline.config import TrainClassifierConfig
from pipeline.errors import InputError
from pipeline.stats.folds import grouped_folds
from pipeline.tables.roles import FIT, TEST, VALIDATION, require_roles
from pipeline.tables.training_rows import TrainingRows, balanced_weights

FIXED = "fixed"
CROSS_FITTED = (FIT, VALIDATION)


@dataclass(frozen=True)
class Fit:
    """One training. All ids are sorted int64.

    Attributes:
        name: of its files in the store.
        roles: what it may train on.
        training: (N,) ids that gradients come from.
        weights: (N,) float32, of each in the loss.
        stopping: ids that decide when to stop.
        refit: ids of both, for a second training once that is known.
        refit_weights: float32, of each in that one's loss.
        scored: ids that are scored with what comes out.
        fold: the fold that it scores.
        left_out: category and defect type that it was not shown.
    """

    name: str
    roles: tuple[str, ...]
    training: np.ndarray
    weights: np.ndarray
    stopping: np.ndarray
    refit: np.ndarray
    refit_weights: np.ndarray
    scored: np.ndarray
    fold: int | None = None
    left_out: tuple[str, str] | None = None


@dataclass(frozen=True)
class Plan:
    """All trainings of a run.

    Attributes:
        fits: them; the fixed one first.
        folds: (N,) of cross-fitting by row, -1 where none; None: no cross-fitting.
        warnings: what is not as it should be, for people.
    """

    fits: tuple[Fit, ...]
    folds: np.ndarray | None
    warnings: tuple[str, ...]


def plan_fits(rows: TrainingRows, config: TrainClassifierConfig, manifest: str) -> Plan:
    """The fixed model, one per fold, one per defect type left out.

    Args:
        rows: labelled rows of the roles fit, validation and, if it is scored, test.
        config: the settings.
        manifest: for errors.

    Raises:
        InputError: no defects, one kind only in a part, a category that nothing is trained on,
            folds that can't be made, a row outside its roles, a group on both sides.
    """
    _check_kinds(rows, config, manifest)
    warnings: list[str] = []
    folds = _folds(rows, config, manifest, warnings) if config.folds else None
    fits = [_fixed(rows, config)]
    fits += _cross_fits(rows, folds, config) if folds is not None else []
    if config.leave_one_defect_type_out:
        fits += _without_each(rows, config, warnings)
    for fit in fits:
        check_fit(fit, rows, manifest)
    return Plan(tuple(fits), folds, tuple(warnings))


def _check_kinds(rows: TrainingRows, config: TrainClassifierConfig, manifest: str) -> None:
    training = rows.where(np.isin(rows.roles, config.roles))
    which = " and ".join(config.roles)
    for kind, there in (("defect", training.is_defect), ("good image", ~training.is_defect)):
        if not there.any():
            raise InputError(
                f"manifest: {manifest}: no {kind} among the {len(training)} labelled rows with "
                f"role {which}: a classifier needs both kinds; label some and split again, or "
                "score without a classifier"
            )
    lacking = sorted(set(rows.categories) - set(training.categories))
    if lacking:
        raise InputError(
            f"manifest: {manifest}: category {', '.join(lacking)}: has no row with role {which}, "
            "so that nothing is known of it; give it such rows, or leave it out of the manifest"
        )


def _folds(
    rows: TrainingRows, config: TrainClassifierConfig, manifest: str, warnings: list[str]
) -> np.ndarray:
    """(N,) fold numbers from the manifest if they stand there, else made from the groups."""
    inside = np.isin(rows.roles, CROSS_FITTED)
    part = rows.where(inside)
    given = part.table.column("fold")
    if given.null_count == len(part):
        found, small = _made_folds(part, config, manifest)
        if small:
            warnings.append(
                f"strata with fewer groups than {config.folds} folds, merged: {', '.join(small)}"
            )
    elif given.null_count:
        raise InputError(
            f"manifest: {manifest}: column fold: {given.null_count} of {len(part)} rows of fit and "
            "validation have none; fill it for all of them or for none"
        )
    else:
        found = given.to_numpy().astype(np.int64)
        if len(np.unique(found)) != config.folds:
            raise InputError(
                f"folds: {config.folds}: the manifest's column fold holds "
                f"{len(np.unique(found))}; ask for as many, or empty the column"
            )
    warnings += [
        f"fold {fold}: one kind only among its {int((found == fold).sum())} rows"
        for fold in np.unique(found)
        if len(np.unique(part.is_defect[found == fold])) < 2
    ]
    result = np.full(len(rows), -1, np.int64)
    result[inside] = found
    return result


def _made_folds(
    part: TrainingRows, config: TrainClassifierConfig, manifest: str
) -> tuple[np.ndarray, list[str]]:
    assert config.folds is not None  # noqa: S101 - for the type checker
    try:
        return grouped_folds(part.strata, part.groups, config.folds, config.seed)
    except ValueError as error:
        raise InputError(f"manifest: {manifest}: folds: {error}") from None


def _fixed(rows: TrainingRows, config: TrainClassifierConfig) -> Fit:
    cross_fitted = CROSS_FITTED if config.folds else config.roles
    scored = [role for role in (VALIDATION, TEST) if role not in cross_fitted]
    return _fit(
        FIXED,
        config.roles,
        rows.where(np.isin(rows.roles, config.roles)),
        rows.ids[np.isin(rows.roles, scored)],
        config,
    )


def _cross_fits(rows: TrainingRows, folds: np.ndarray, config: TrainClassifierConfig) -> list[Fit]:
    return [
        replace(
            _fit(
                f"fold-{fold}",
                CROSS_FITTED,
                rows.where((folds >= 0) & (folds != fold)),
                rows.ids[folds == fold],
                config,
            ),
            fold=int(fold),
        )
        for fold in np.unique(folds[folds >= 0])
    ]


def _without_each(
    rows: TrainingRows, config: TrainClassifierConfig, warnings: list[str]
) -> list[Fit]:
    """One training per category and defect type, on fit without it; good validation rows beside."""
    fits = []
    cross_fitted = np.isin(rows.roles, CROSS_FITTED)
    pairs = sorted(
        set(zip(rows.categories[rows.is_defect], rows.kinds[rows.is_defect], strict=True))
    )
    for number, (category, kind) in enumerate(pairs):
        here = cross_fitted & (rows.categories == category)
        left_out = here & (rows.kinds == kind) & rows.is_defect
        good = here & (rows.roles == VALIDATION) & ~rows.is_defect
        unseen = ~np.isin(rows.groups, rows.groups[left_out | good])
        training = rows.where(unseen & (rows.roles == FIT))
        reason = _reason_against(left_out, good, training)
        if reason:
            warnings.append(f"leave one out: {category} / {kind}: not judged: {reason}")
            continue
        fit = _fit(f"without-{number:03d}", (FIT,), training, rows.ids[left_out | good], config)
        fits.append(replace(fit, left_out=(str(category), str(kind))))
    return fits


def _reason_against(left_out: np.ndarray, good: np.ndarray, training: TrainingRows) -> str:
    if not left_out.any():
        return "it has no row in fit or validation"
    if not good.any():
        return "the category has no good validation row"
    if len(np.unique(training.groups[training.is_defect])) < 2:
        return "fewer than 2 groups of other defects are left to train on"
    if len(np.unique(training.groups[~training.is_defect])) < 2:
        return "fewer than 2 groups of good rows are left to train on"
    return ""


def _fit(
    name: str,
    roles: Sequence[str],
    rows: TrainingRows,
    scored: np.ndarray,
    config: TrainClassifierConfig,
) -> Fit:
    inner = _inner_part(rows, name, config)
    training = rows.where(~inner)
    return Fit(
        name,
        tuple(roles),
        training.ids,
        balanced_weights(training.categories, training.is_defect),
        rows.ids[inner],
        rows.ids,
        balanced_weights(rows.categories, rows.is_defect),
        scored,
    )


def _inner_part(rows: TrainingRows, name: str, config: TrainClassifierConfig) -> np.ndarray:
    """(N,) bool: whole groups, about the configured share, with both kinds on both sides."""
    parts = max(2, round(1 / config.inner_share))
    for count in range(parts, 1, -1):
        if len(np.unique(rows.groups)) < count:
            continue
        numbers, _ = grouped_folds(rows.strata, rows.groups, count, config.seed)
        for number in range(count):
            inner: np.ndarray = numbers == number
            if all(len(np.unique(rows.is_defect[side])) == 2 for side in (inner, ~inner)):
                return inner
    defects = len(np.unique(rows.groups[rows.is_defect]))
    good = len(np.unique(rows.groups[~rows.is_defect]))
    raise InputError(
        f"{name}: its {len(rows)} training rows hold {defects} groups of defects and {good} of "
        "good rows; early stopping needs both kinds in groups apart from those trained on, so at "
        "least 2 of each: label more, split again, or ask for fewer folds"
    )


def check_fit(fit: Fit, rows: TrainingRows, manifest: str) -> None:
    """Refuses a training that sees rows of another step, or a group that it is judged on.

    Raises:
        InputError: naming the row or the group.
    """
    seen = np.concatenate([fit.training, fit.stopping])
    require_roles(rows.of(seen).table, fit.roles, f"training the classifier ({fit.name})")
    sides = {"training": fit.training, "early stopping": fit.stopping, "scoring": fit.scored}
    groups = {side: np.unique(rows.of(ids).groups) for side, ids in sides.items()}
    for one, other in (
        ("training", "early stopping"),
        ("training", "scoring"),
        ("early stopping", "scoring"),
    ):
        both = np.intersect1d(groups[one], groups[other])
        if len(both):
            raise InputError(
                f"manifest: {manifest}: group_id {both[0]}: lies in {one} and in {other} of "
                f"{fit.name} ({len(both)} such groups), so that the figures would be of rows that "
                "were learnt; split again with groups kept together"
            )


def used_ids(plan: Plan) -> np.ndarray:
    """Every id that some training reads, sorted."""
    return np.unique(
        np.concatenate([np.concatenate([f.training, f.stopping, f.scored]) for f in plan.fits])
    )


def used_table(plan: Plan, rows: TrainingRows, seed: int) -> pa.Table:
    """The rows that are read, in an order by chance that the seed fixes."""
    table = rows.of(used_ids(plan)).table
    order = np.random.default_rng(seed).permutation(table.num_rows)
    return table.select(["image_id", "uri", "sha256", "bytes", "is_defect"]).take(pa.array(order))
