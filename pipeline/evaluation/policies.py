"""Policies from files, with the numbers that their references name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pipeline.config import EvaluateConfig, MonitorConfig
from pipeline.errors import InputError
from pipeline.evaluation.table import ScoredTable
from pipeline.policy.language import (
    Part,
    Policy,
    Resolved,
    Thresholds,
    read_policy,
    resolve,
)
from pipeline.policy.language.document import Atom, Ref, leaves_of
from pipeline.policy.language.reading import read_json
from pipeline.policy.language.where import Where
from pipeline.scoring.bundle import open_bundle
from pipeline.scoring.calibrated import calibrated_bundles
from pipeline.tables import storage

_SCHEMA_SUFFIX = ".schema.json"


@dataclass(frozen=True)
class KnownThresholds:
    """What references name, and where it is from.

    Attributes:
        thresholds: by name.
        origin: files and digests, for the record.
        bundle: where the bundle lies that some are of; None: none is of a bundle.
        calibration: all of that bundle's `thresholds.json`.
    """

    thresholds: Thresholds
    origin: dict[str, Any]
    bundle: str | None = None
    calibration: Mapping[str, Any] | None = None

    @property
    def calibrated(self) -> bool:
        """A bundle's are among them: rows with the role validation chose them."""
        return self.calibration is not None


def read_policies(places: Sequence[str]) -> list[Policy]:
    """Policies of files, and of all JSON files directly in folders, by name.

    Raises:
        InputError: nothing is there, one is no policy, or two have one name.
    """
    policies: dict[str, Policy] = {}
    for place in places:
        for uri in _files(place):
            with storage.errors_for(uri, "policies"):
                content = storage.read_bytes(uri)
            policy = read_policy(content, uri)
            if policy.name in policies:
                raise InputError(
                    f"policies: {uri}: is called {policy.name!r} as is "
                    f"{policies[policy.name].source}; names tell results apart: give it another"
                )
            policies[policy.name] = policy
    return list(policies.values())


def _files(place: str) -> list[str]:
    with storage.errors_for(place, "policies"):
        fs, path = storage.filesystem(place)
        if not fs.isdir(path):
            return [place]
        names = storage.list_names(place)
    found = [n for n in names if n.endswith(".json") and not n.endswith(_SCHEMA_SUFFIX)]
    if not found:
        raise InputError(f"policies: {place}: holds no policy (a .json file)")
    return [storage.join(place, name) for name in found]


def _instead(store: str, scorer: str) -> str:
    """Where thresholds of a run's own scorer are."""
    names = calibrated_bundles(store, scorer)
    if names:
        return f"bundle={names[0]} was calibrated around the run's own"
    return "none was calibrated around the run's own: run jobs/calibrate.py with its bundle="


def known_thresholds(
    config: EvaluateConfig | MonitorConfig,
    policies: Iterable[Policy],
    table: ScoredTable,
    more: Mapping[str, str] = MappingProxyType({}),
) -> KnownThresholds:
    """Thresholds of the config's own files, and of the bundle where a policy asks for more.

    Raises:
        InputError: a file that can't be used, or a bundle of another scorer.
    """
    known = Thresholds()
    origin: dict[str, Any] = {"files": list(config.thresholds)}
    for uri in config.thresholds:
        known |= Thresholds.from_table(_json(uri), uri)
    asked = {name: policy.source for policy in policies for name in referenced(policy)}
    asked |= dict(more)
    if not asked.keys() - known.names:
        return KnownThresholds(known, origin)
    try:
        bundle = open_bundle(config.bundle, storage.absolute(config.store), verify=False)
    except InputError as error:
        name = min(asked.keys() - known.names)
        there = f"{', '.join(config.thresholds)} has {', '.join(sorted(known.names))}"
        raise InputError(
            f"{asked[name]}: asks for the threshold {name!r}; "
            f"{there if config.thresholds else 'no file of thresholds= is given'}, and {error}"
        ) from None
    content = bundle.calibration
    if content is None:
        raise InputError(
            f"bundle: {bundle.uri}: has no thresholds, and "
            f"{min(asked.keys() - known.names)!r} is asked for; run jobs/calibrate.py, or "
            "give thresholds= with a file of your own"
        )
    scorer = table.origin.get("scorer_digest")
    if scorer is not None and scorer != bundle.scorer_digest:
        raise InputError(
            f"bundle: {bundle.uri}: its thresholds are of the scorer {bundle.scorer_digest[:12]}…, "
            f"and the run was scored with {scorer[:12]}…: a threshold means nothing for another "
            f"scorer's numbers; {_instead(storage.absolute(config.store), scorer)}"
        )
    origin |= {"bundle": bundle.bundle_digest, "thresholds_digest": content["digest"]}
    return KnownThresholds(
        Thresholds.from_bundle(content, "thresholds.json") | known, origin, bundle.uri, content
    )


def referenced(policy: Policy) -> set[str]:
    """Names of the thresholds that a policy takes from a table."""
    rules = [policy.rule, *(override.rule for override in policy.overrides)]
    leaves = (leaf for rule in rules if rule is not None for leaf in leaves_of(rule))
    return {
        leaf.threshold.name
        for leaf in leaves
        if isinstance(leaf, Atom) and isinstance(leaf.threshold, Ref)
    }


def _json(uri: str) -> Any:
    with storage.errors_for(uri, "thresholds"):
        content = storage.read_bytes(uri)
    return read_json(content, Where(f"thresholds: {uri}"), "table of thresholds")


def resolved(
    policies: Sequence[Policy],
    parts: Sequence[Part],
    known: KnownThresholds,
    table: ScoredTable,
) -> list[Resolved]:
    """Every policy with its numbers for the parts of a table.

    Raises:
        InputError: as `resolve`.
    """
    return [resolve(policy, parts, known.thresholds, table.scores) for policy in policies]
