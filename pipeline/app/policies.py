"""The policies of the app: read, given their numbers for a run, and moved by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from types import MappingProxyType

import numpy as np

from pipeline.app.held import Held
from pipeline.config import AppConfig, EvaluateConfig
from pipeline.errors import InputError
from pipeline.evaluation.counting import parts_of
from pipeline.evaluation.policies import known_thresholds, read_policies
from pipeline.policy.formula import settled
from pipeline.policy.language import (
    Number,
    Part,
    Policy,
    Ref,
    Resolved,
    ResolvedRuling,
    Thresholds,
    parse_policy,
    resolve,
)
from pipeline.policy.language.compiling import Slot
from pipeline.scoring.bundle import open_bundle
from pipeline.scoring.calibrated import calibrated_bundles
from pipeline.tables import storage

MOVED = "moved in the app"
# What is shown where no policy can be used: there has to be a threshold to drag.
UNUSUAL = "most-unusual-5-percent"
_USUAL_SHARE = 0.95
# Places of a slider between the least and the largest score.
_STEPS = 1000
# Decimal places of a slider's ends: rounding in the last places of a float isn't shown.
_PLACES = 12


@dataclass(frozen=True)
class Usable:
    """The policies of a run.

    Attributes:
        resolved: by name, with their numbers.
        refused: by name why a policy can't be used on this run.
        provisional: none can, and what is resolved is the app's own.
    """

    resolved: Mapping[str, Resolved]
    refused: Mapping[str, str]
    provisional: bool = False


@dataclass(frozen=True)
class Slider:
    """A threshold, or one threshold of each category, that a person may move.

    Attributes:
        number: which of the policy's.
        score: that is compared with it.
        name: what it is called.
        shift: all categories' thresholds are moved by as much, since they differ; else it is the
            threshold itself.
        value: where it stands in the policy; 0 for a shift.
        low: least place.
        high: largest place.
        step: between two places.
    """

    number: int
    score: str
    name: str
    shift: bool
    value: float
    low: float
    high: float
    step: float


def usable(config: AppConfig, run_id: str, bundle: str | None, held: Held) -> Usable:
    """The policies that are configured, for a run; one that can't be used costs no other.

    Args:
        config: the app's settings.
        run_id: the run.
        bundle: the one it was scored with, unless the settings name another.
        held: its rows.

    Raises:
        InputError: no policy file at all, or one that is no policy.
    """
    policies = read_policies(config.policies)
    asked = EvaluateConfig(
        store=config.store,
        run_id=(run_id,),
        policies=config.policies,
        thresholds=config.thresholds,
        bundle=config.bundle or _calibrated(config.store, bundle, held),
    )
    found: dict[str, Resolved] = {}
    refused: dict[str, str] = {}
    for policy in policies:
        try:
            found[policy.name] = _resolved(policy, asked, held)
        except InputError as error:
            refused[policy.name] = str(error)
    own = {} if found else _most_unusual(held)
    return Usable(MappingProxyType(found or own), MappingProxyType(refused), bool(own))


def _calibrated(store: str, bundle: str | None, held: Held) -> str:
    """A run's bundle; another one with thresholds for its scorer, where it has none itself.

    `calibrate` writes a new bundle: the one that a run was scored with for it never has any.
    """
    if bundle is None:
        return "latest"
    place = storage.absolute(store)
    try:
        if open_bundle(bundle, place, verify=False).calibration is not None:
            return bundle
    except InputError:
        pass  # moved or deleted
    names = calibrated_bundles(place, str(held.table.origin.get("scorer_digest")))
    return names[0] if names else bundle


def _most_unusual(held: Held) -> dict[str, Resolved]:
    """A threshold below the highest scores, to start from; empty: there is no score."""
    for score in sorted(held.scores, key=lambda name: (name != "anomaly_score", name)):
        there = held.scores[score][np.isfinite(held.scores[score])]
        if not len(there):
            continue
        threshold = float(np.quantile(there, _USUAL_SHARE, method="higher"))
        decide = {"score": score, "ge": threshold, "reason": "among the highest scores"}
        document = {"policy": "v1", "name": UNUSUAL, "decide": decide, "on_missing": "review"}
        parts, _ = parts_of(held.groups, by_type=False)
        policy = parse_policy(document, "the app")
        return {UNUSUAL: resolve(policy, parts, Thresholds(), held.table.scores)}
    return {}


def _resolved(policy: Policy, asked: EvaluateConfig, held: Held) -> Resolved:
    known = known_thresholds(asked, [policy], held.table)
    parts, _ = parts_of(held.groups, by_type=policy.oracle)
    return resolve(policy, parts, known.thresholds, held.table.scores)


def _name_of(slot: Slot) -> str:
    sign = ">" if slot.strict else "≥"
    named = f" ({slot.value.name})" if isinstance(slot.value, Ref) else ""
    # A rule's `review` may compare the same score as what it decides.
    asked = " → review" if "review" in slot.path.split(".") else ""
    return f"{slot.score} {sign}{named}{asked}"


def _keys(policy: Resolved) -> list[tuple[str, bool, object]]:
    """What tells the policy's thresholds apart, in order: the numbers of its sliders."""
    found: dict[tuple[str, bool, object], None] = {}
    for ruling in policy.rulings.values():
        for slot in ruling.ruling.slots:
            found.setdefault((slot.score, slot.strict, slot.value))
    return list(found)


def sliders(policy: Resolved, held: Held, category: str | None) -> list[Slider]:
    """The thresholds that decide images of a category, or of all (None)."""
    keys = _keys(policy)
    found: dict[int, tuple[Slot, list[float]]] = {}
    for part, ruling in policy.rulings.items():
        if category not in (None, part.category):
            continue
        for slot, number in zip(ruling.ruling.slots, ruling.numbers, strict=True):
            place = keys.index((slot.score, slot.strict, slot.value))
            # In the column's type: 0.7 in float32 is shown as 0.7.
            shown = float(str(policy.dtypes[slot.score].type(number.shown)))
            found.setdefault(place, (slot, []))[1].append(shown)
    return [_slider(n, slot, at, held) for n, (slot, at) in sorted(found.items())]


def _slider(number: int, slot: Slot, at: Sequence[float], held: Held) -> Slider:
    low, high = held.ends[slot.score]
    shift = len(set(at)) > 1
    own = 0.0 if shift else at[0]
    if shift:
        low, high = low - high, high - low
    low, high = min(low, own), max(high, own)
    step = _round_step((high - low) / _STEPS)
    # On the steps' own grid, so that what is chosen is a round number.
    low, high = (round(end(at / step) * step, _PLACES) for end, at in ((floor, low), (ceil, high)))
    return Slider(number, slot.score, _name_of(slot), shift, own, low, high, step)


def _round_step(step: float) -> float:
    """The next power of ten, or two or five times one, that isn't larger."""
    if not step > 0:
        return 0.001
    power = 10.0 ** np.floor(np.log10(step))
    return float(max(power * nice for nice in (1, 2, 5) if power * nice <= step * (1 + 1e-9)))


def moved(policy: Resolved, moves: Mapping[int, float], category: str | None) -> Resolved:
    """The policy with thresholds of a category, or of all (None), elsewhere.

    Args:
        policy: as it is.
        moves: by slider the threshold, or what is added to each category's.
        category: whose thresholds are moved.

    Raises:
        InputError: a threshold beyond the type of its score.
    """
    keys = _keys(policy)
    chosen = {keys[number]: to for number, to in moves.items() if number < len(keys)}
    if not chosen:
        return policy
    inside = [part for part in policy.rulings if category in (None, part.category)]
    shared = _shared(policy, inside)
    rulings = dict(policy.rulings)
    for part in inside:
        rulings[part] = _moved_ruling(policy, rulings[part], chosen, shared)
    told = repr(sorted((n, to) for n, to in moves.items())) + str(category)
    digest = hashlib.sha256(f"{policy.digest} {told}".encode()).hexdigest()
    return replace(policy, rulings=rulings, digest=digest)


def _shared(policy: Resolved, parts: Sequence[Part]) -> dict[tuple[str, bool, object], bool]:
    """Whether a threshold is the same in all of the parts."""
    found: dict[tuple[str, bool, object], set[float]] = {}
    for part in parts:
        ruling = policy.rulings[part]
        for slot, number in zip(ruling.ruling.slots, ruling.numbers, strict=True):
            found.setdefault((slot.score, slot.strict, slot.value), set()).add(number.shown)
    return {key: len(values) == 1 for key, values in found.items()}


def _moved_ruling(
    policy: Resolved,
    ruling: ResolvedRuling,
    chosen: Mapping[tuple[str, bool, object], float],
    shared: Mapping[tuple[str, bool, object], bool],
) -> ResolvedRuling:
    numbers = []
    for slot, number in zip(ruling.ruling.slots, ruling.numbers, strict=True):
        key = (slot.score, slot.strict, slot.value)
        if key in chosen:
            to = chosen[key] if shared[key] else number.shown + chosen[key]
            number = _number(to, slot, policy)
        numbers.append(number)
    return replace(ruling, numbers=tuple(numbers))


def _number(to: float, slot: Slot, policy: Resolved) -> Number:
    dtype = policy.dtypes[slot.score]
    with np.errstate(over="ignore"):
        shown = settled(to, dtype)
    if not np.isfinite(shown):
        raise InputError(f"threshold of {slot.score}: {to!r}: lies beyond {dtype}")
    return Number(settled(to, dtype, strict=slot.strict) + 0.0, shown + 0.0, MOVED)
