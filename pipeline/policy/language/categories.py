"""Named groups of categories, spelt out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.policy.language.fields import name, texts
from pipeline.policy.language.where import Where, alternatives, kind, shown

MARK = "@"
# Groups within groups within groups: more than anybody names, less than Python's stack.
MAX_NESTING = 32


@dataclass(frozen=True)
class CategoryGroups:
    """The document's groups.

    Attributes:
        members: of each group as written: categories, and other groups with their @.
        where: where the groups stand.
        known: groups that are spelt out already.
    """

    members: Mapping[str, list[str]]
    where: Where
    known: dict[str, frozenset[str]] = field(default_factory=dict, compare=False)

    def spelt_out(self, names: list[str], where: Where) -> frozenset[str]:
        """The categories that a list of categories and groups names.

        Raises:
            InputError: an unknown group, or one that contains itself.
        """
        return self._spelt_out(names, where, ())

    def _spelt_out(self, names: list[str], where: Where, above: tuple[str, ...]) -> frozenset[str]:
        found: set[str] = set()
        for at, entry in enumerate(names):
            if entry.startswith(MARK):
                found |= self._group(entry[1:], where.item(at), above)
            else:
                found.add(entry)
        return frozenset(found)

    def _group(self, group: str, where: Where, above: tuple[str, ...]) -> frozenset[str]:
        if group not in self.members:
            marked = [MARK + known for known in self.members]
            raise where.error(
                f"there is no group {shown(MARK + group)}; {alternatives(MARK + group, marked)}"
            )
        if group in above:
            circle = " → ".join(MARK + one for one in (*above[above.index(group) :], group))
            raise where.error(f"the groups go round in a circle: {circle}; take one link out")
        if len(above) >= MAX_NESTING:
            raise where.error(f"groups lie {len(above)} deep in groups; {MAX_NESTING} is the limit")
        if group not in self.known:
            inside = self.where.key(group)
            self.known[group] = self._spelt_out(self.members[group], inside, (*above, group))
        return self.known[group]


def parse_groups(value: Any, where: Where) -> CategoryGroups:
    """The `groups` of a document, each checked to be free of circles.

    Raises:
        InputError: a wrong name or list, an unknown group, or one that contains itself.
    """
    if not isinstance(value, dict):
        raise where.error(f"is {kind(value)}; an object belongs here: name to list of categories")
    members = {}
    for key, listing in value.items():
        if key.startswith(MARK):
            raise where.key(key).error(f"the @ stands where a group is used: name it {key[1:]!r}")
        members[name(key, where.key(key))] = texts(listing, "categories", where.key(key))
    groups = CategoryGroups(members, where)
    for group in members:
        groups.spelt_out([MARK + group], where)
    return groups
