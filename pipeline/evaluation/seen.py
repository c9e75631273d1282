"""Whether rows of runs trained a model or chose a threshold: by their ids, not by their role.

A manifest may have been split anew, or never, since a model was trained; then roles say nothing of
what a bundle's models have seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.evaluation.alike import AlikeOf, alike
from pipeline.evaluation.groups import Codes
from pipeline.evaluation.overlap import Ids
from pipeline.evaluation.policies import KnownThresholds
from pipeline.evaluation.sides import USED, of_roles
from pipeline.evaluation.table import ScoredTable, open_errors, open_runs
from pipeline.policy.language import Policy
from pipeline.policy.language.document import leaves_of
from pipeline.scoring.bundle import NAME_DIGITS
from pipeline.scoring.bundle_training import MODEL_OF, Training, training_of
from pipeline.tables import storage
from pipeline.tables.roles import NORMAL_CALIBRATION, VALIDATION
from pipeline.tables.runs import RunPlaces, load_published

CHOSE = "chose the thresholds"
_MODEL_OF = MODEL_OF | {"detection_count": "detector"}
_NOT_LOOKED_UP = (
    "whether they trained a model or chose the thresholds was not looked up: the table is no "
    "published run"
)
_NAMED = {"gaussians": "Gaussians", "classifier": "classifier", "detector": "detector"}


@dataclass(frozen=True)
class Seen:
    """What is known of the images that made what is judged.

    Attributes:
        ids: by what they did.
        unknown: what nobody can tell of rows, in words.
        looked_up: false for rows of which no image can be known.
    """

    ids: Ids
    unknown: tuple[str, ...] = ()
    looked_up: bool = True

    def says(self, found: Mapping[str, int], rows: int) -> list[str]:
        """What rows have done, in words.

        Args:
            found: by what was done, how many of the rows did it.
            rows: how many there are.
        """
        told = [f"in-sample: {n} of {rows} rows {what}" for what, n in found.items() if n]
        return [*told, *self.unknown]


def scores_read(policies: Iterable[Policy]) -> set[str]:
    """Names of the scores that policies read."""
    rules = (
        rule for one in policies for rule in (one.rule, *(over.rule for over in one.overrides))
    )
    return {leaf.score for rule in rules if rule is not None for leaf in leaves_of(rule)}


def seen_images(
    table: ScoredTable,
    store: str,
    known: KnownThresholds,
    scores: Iterable[str],
    alike_of: AlikeOf = alike,
) -> Seen:
    """The images that trained the models of some scores, and those that chose the thresholds.

    Beside them stand their near-duplicates, as far as the groups of the runs tell.

    Args:
        table: of runs; of another one nothing is known, since only linescore's ids are of contents.
        store: of the runs.
        known: where thresholds come from.
        scores: that are judged.
        alike_of: how near-duplicates are looked up.
    """
    if not table.runs:
        return Seen({}, looked_up=False)
    models = {_MODEL_OF[name] for name in scores if name in _MODEL_OF}
    training = _training(table, store, known) if models else None
    ids: dict[str, npt.NDArray[np.int64]] = {}
    unknown = []
    if models and training is None:
        unknown.append("whether they trained a model is not known: the run's bundle can't be read")
    for model, trained in ({} if training is None else training.ids).items():
        if model in models and trained is not None:
            ids[f"trained the {_NAMED[model]}"] = trained
        elif model in models:
            unknown.append(
                f"whether they trained the {_NAMED[model]} is not known: the bundle has no record"
            )
    if known.calibration is not None:
        found = _chose(store, known.calibration)
        if isinstance(found, str):
            unknown.append(f"whether they {CHOSE} is not known: {found}")
        else:
            ids[CHOSE] = found
    more, doubtful = _near_duplicates(table, store, ids, alike_of)
    return Seen(ids | more, (*unknown, *doubtful))


def _near_duplicates(
    table: ScoredTable, store: str, ids: Ids, alike_of: AlikeOf
) -> tuple[dict[str, Codes], list[str]]:
    """By what the images did that they are alike to; and of which runs nobody knows, in words."""
    if not any(len(known) for known in ids.values()):
        return {}, []
    parts: dict[str, list[Codes]] = {}
    doubtful = []
    for run_id in table.origin["runs"]:
        found = alike_of(table, store, run_id, ids)
        if found is None:
            doubtful.append(run_id)
        for what, images in (found or {}).items():
            parts.setdefault(f"are near-duplicates of images that {what}", []).append(images)
    more = {what: np.unique(np.concatenate(each)) for what, each in parts.items()}
    if not doubtful:
        return more, []
    others = f" and {len(doubtful) - 1} other runs" if len(doubtful) > 1 else ""
    says = (
        "whether they are near-duplicates of images that trained or chose is not known: images of "
        f"{doubtful[0]}{others} were left to earlier runs, and the manifest that says which are "
        "alike can't be read as it was"
    )
    return more, [says]


def _training(table: ScoredTable, store: str, known: KnownThresholds) -> Training | None:
    """Of the first bundle that can be read: runs of one scorer have the same training."""
    for place in _bundles(table, store, known):
        try:
            found = training_of(place, store)
        except (InputError, OSError):
            continue  # another place may have it
        if found.scorer_digest == table.origin["scorer_digest"]:
            return found
    return None


def _bundles(table: ScoredTable, store: str, known: KnownThresholds) -> Iterator[str]:
    """Where a bundle of the runs' scorer may be, the likeliest place first."""
    if known.bundle is not None:
        yield known.bundle
    for run_id in table.origin["runs"]:
        digest = load_published(store, run_id).get("bundle_digest")
        if isinstance(digest, str):
            yield digest[:NAME_DIGITS]
        uri = _at(_record(store, run_id), "bundle", "uri")
        if isinstance(uri, str):
            yield uri


def _record(store: str, run_id: str) -> Any:
    """What the run noted when it began; None where that is gone or damaged."""
    try:
        return storage.read_json(RunPlaces(store, run_id).record)
    except (InputError, OSError):
        return None


def _chose(store: str, calibration: Mapping[str, Any]) -> npt.NDArray[np.int64] | str:
    """Ids of the rows that a calibration took, sorted; or why nobody can tell."""
    run = _at(calibration, "provenance", "run")
    run_id = _at(run, "run_id")
    if not isinstance(run_id, str):
        return "the calibration doesn't say on which run it was made"
    try:
        if load_published(store, run_id).get("finished_at") != _at(run, "finished_at"):
            return f"the run {run_id} was made anew since the calibration"
        parts = [
            *_calibrating(open_runs(store, [run_id])),
            *_calibrating(open_errors(store, run_id)),
        ]
    except (InputError, OSError):
        return f"the run {run_id} that it was made on can't be read"
    return np.unique(np.concatenate([np.zeros(0, np.int64), *parts]))


def _calibrating(table: ScoredTable) -> Iterator[Codes]:
    """Ids of labelled rows of the two roles, as `calibration_rows` takes them."""
    for columns in table.batches(["image_id", "role", "is_defect"]):
        kept = of_roles(columns, [(VALIDATION, NORMAL_CALIBRATION)]) >= 0
        kept &= columns["is_defect"].is_valid().to_numpy(zero_copy_only=False)
        yield columns["image_id"].to_numpy(zero_copy_only=False)[kept]


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def standing(
    seen: Seen, found: Mapping[str, Codes], rows: int, roles: Iterable[str], *, calibrated: bool
) -> list[str]:
    """What the rows that judge have done; that they did nothing only where that was looked up.

    Args:
        seen: as of `seen_images`.
        found: by what was done, how many of the rows did it, as of `overlaps`.
        rows: how many judge.
        roles: that were asked for.
        calibrated: thresholds come from a calibration.
    """
    told = seen.says({what: int(counts.sum()) for what, counts in found.items()}, rows)
    # Of rows whose role trains or chooses, `judging` has told already.
    if told or {*roles} & {*USED}:
        return told
    if not seen.looked_up:
        return [_NOT_LOOKED_UP] if calibrated else []
    if not seen.ids:
        return []
    chose = " and no threshold calibrated" if calibrated else ""
    return [f"no model behind these scores was trained{chose} on them"]
