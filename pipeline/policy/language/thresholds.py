"""Thresholds by name: from a bundle's `thresholds.json`, or from a table of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.policy.language.fields import finite, text
from pipeline.policy.language.where import Where, alternatives, kind, listed, shown

# The version of thresholds.json that is read here.
BUNDLE_VERSION = "1"
OVERALL = "overall"


@dataclass(frozen=True)
class Threshold:
    """A threshold that was looked up.

    Attributes:
        value: finite, as its table has it.
        origin: where it comes from, in words.
    """

    value: float
    origin: str


@dataclass(frozen=True)
class Absent:
    """A threshold that its table names without a value.

    Attributes:
        reason: why there is none.
    """

    reason: str


Entry = Threshold | Absent


@dataclass(frozen=True)
class Thresholds:
    """Tables of thresholds.

    Attributes:
        everywhere: by name: the same for every category.
        of_category: by name and category.
    """

    everywhere: Mapping[str, Entry] = field(default_factory=dict)
    of_category: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict)

    @classmethod
    def from_bundle(cls, content: Any, source: str = "thresholds.json") -> Thresholds:
        """Those of a calibration: `score.rule` of each category, `score.overall.rule` of all.

        Args:
            content: all of `thresholds.json`, as read from JSON.
            source: what to call it.

        Raises:
            InputError: it is no such file, or of another version.
        """
        where = Where(source)
        if not isinstance(content, dict) or not isinstance(content.get("thresholds"), dict):
            raise where.error(f"is {kind(content)} without `thresholds`; give a thresholds.json")
        if content.get("schema_version") != BUNDLE_VERSION:
            raise where.key("schema_version").error(
                f"is {kind(content.get('schema_version'))}; this linescore reads "
                f"{BUNDLE_VERSION!r}: calibrate again"
            )
        return _from_scores(content["thresholds"], where.key("thresholds"))

    @classmethod
    def from_table(cls, table: Any, source: str = "thresholds") -> Thresholds:
        """Those of a table: name to a number, or to an object of category to number.

        Args:
            table: as read from JSON.
            source: what to call it.

        Raises:
            InputError: another shape, or a threshold that is no finite number.
        """
        where = Where(source)
        everywhere: dict[str, Entry] = {}
        of_category: dict[str, Mapping[str, Entry]] = {}
        for name, value in _object(table, where).items():
            here = where.key(text(name, where))
            origin = f"{source}, {name}"
            if not isinstance(value, dict):
                everywhere[name] = Threshold(finite(value, here), origin)
                continue
            of_category[name] = {
                category: Threshold(finite(number, here.key(category)), f"{origin} of {category}")
                for category, number in value.items()
            }
        return cls(everywhere, of_category)

    def __or__(self, other: Thresholds) -> Thresholds:
        """Both; where both have a name, the other's."""
        names = other.names
        everywhere = {name: one for name, one in self.everywhere.items() if name not in names}
        by_category = {name: one for name, one in self.of_category.items() if name not in names}
        return Thresholds(
            everywhere | dict(other.everywhere), by_category | dict(other.of_category)
        )

    @property
    def names(self) -> frozenset[str]:
        """All names."""
        return frozenset(self.everywhere) | frozenset(self.of_category)

    def value(self, name: str, category: str | None) -> float:
        """A known name's threshold for a category; NaN where it has none."""
        entry = self.everywhere.get(name)
        if entry is None:
            entry = self.of_category[name].get("" if category is None else category)
        return entry.value if isinstance(entry, Threshold) else float("nan")

    def find(self, name: str, category: str | None, where: Where) -> Threshold:
        """The threshold of a name for a category.

        Args:
            name: of the threshold.
            category: whose rows are decided.
            where: what asks for it, for the error.

        Raises:
            InputError: an unknown name, none for this category, or one without a value.
        """
        entry = self.everywhere.get(name)
        if entry is None:
            if name not in self.of_category:
                raise where.error(
                    f"there is no threshold {shown(name)}; {alternatives(name, self.names)}"
                )
            entry = self.of_category[name].get("" if category is None else category)
        if entry is None:
            has = listed(sorted(self.of_category[name])) or "none"
            raise where.error(
                f"there is no threshold {shown(name)} for the category {shown(category)}; there "
                f"are those for {has}: add it, or give the category a rule without it"
            )
        if isinstance(entry, Absent):
            raise where.error(
                f"the threshold {shown(name)} has no value for the category {shown(category)}: "
                f"{entry.reason}; use another rule of the calibration, or a number"
            )
        return entry


def _from_scores(scores: dict[str, Any], where: Where) -> Thresholds:
    everywhere: dict[str, Entry] = {}
    of_category: dict[str, dict[str, Entry]] = {}
    for score, found in scores.items():
        here = where.key(score)
        parts = _object(found, here)
        for rule, entry in _object(parts.get(OVERALL, {}), here.key(OVERALL)).items():
            name = f"{score}.{OVERALL}.{rule}"
            everywhere[name] = _entry(
                entry, here.key(OVERALL).key(rule), f"{score} {rule} of all categories together"
            )
        inside = here.key("categories")
        for category, rules in _object(parts.get("categories", {}), inside).items():
            for rule, entry in _object(rules, inside.key(category)).items():
                of_category.setdefault(f"{score}.{rule}", {})[category] = _entry(
                    entry, inside.key(category).key(rule), f"{score} {rule} of {category}"
                )
    return Thresholds(everywhere, of_category)


def _entry(entry: Any, where: Where, says: str) -> Entry:
    value = _object(entry, where).get("value")
    if value is None:
        return Absent(str(entry.get("reason") or "its calibration found none"))
    fallback = entry.get("fallback")
    instead = f" (by {fallback}, the calibration's fallback)" if fallback else ""
    return Threshold(finite(value, where.key("value")), f"{where.source}, {says}{instead}")


def _object(value: Any, where: Where) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise where.error(f"is {kind(value)}; an object belongs here")
    return value
