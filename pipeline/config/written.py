"""YAML in which a setting of text takes what was written, whatever else YAML sees in it.

To YAML 2026-11-25 is a date, 20261125 a number, 0012 is 10 and `no` is false. Runs, categories and
columns are named so, and a name that turns into another one means another run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml

from pipeline.config.sections import Section

_TAG = "tag:yaml.org,2002:"
_DATE = f"{_TAG}timestamp"
_MERGE = f"{_TAG}merge"


@dataclass(frozen=True, repr=False)
class Written:
    """A number or a truth, as YAML has it and as it was written."""

    text: str
    value: float | bool

    def __repr__(self) -> str:
        return repr(self.value)  # as errors quote it


class RepeatedKeyError(yaml.MarkedYAMLError):
    """A key that stands twice in one mapping, of which YAML would keep the last alone.

    Attributes:
        key: as it was written.
        lines: where it stands, from 1.
    """

    def __init__(self, first: yaml.ScalarNode, again: yaml.ScalarNode) -> None:
        super().__init__(None, None, f"{again.value}: stands twice", again.start_mark)
        self.key = str(again.value)
        self.lines = (first.start_mark.line + 1, again.start_mark.line + 1)


class _Loader(yaml.SafeLoader):
    """A safe loader that keeps how numbers were written, and leaves dates and keys as text."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Not when it is made: `<<` has put keys of others into it by then, which may stand twice.
        node = super().compose_mapping_node(anchor)
        seen: dict[str, yaml.ScalarNode] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in seen:
                raise RepeatedKeyError(seen[key.value], key)
            seen[key.value] = key
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        makers: dict[str, Callable[[Any], float | bool]] = {
            f"{_TAG}int": self.construct_yaml_int,
            f"{_TAG}float": self.construct_yaml_float,
            f"{_TAG}bool": self.construct_yaml_bool,
        }
        if not isinstance(node, yaml.ScalarNode) or node.tag not in (*makers, _DATE):
            return super().construct_object(node, deep)
        text = str(node.value)
        try:
            return text if node.tag == _DATE else Written(text, makers[node.tag](node))
        except (ValueError, LookupError):
            return text  # 0b_ only looks like a number

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep)
        return {k.text if isinstance(k, Written) else k: value for k, value in found.items()}


def read_yaml(text: str) -> Any:
    """What a YAML document says, with `Written` for its numbers and truths.

    Raises:
        RepeatedKeyError: a key stands twice in a mapping.
        yaml.YAMLError: it is none.
        RecursionError: it is nested without end.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader, by its base


def as_wanted(model: type[Section], values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose `Written` are text where a setting of text is meant, else numbers and truths.

    Raises:
        RecursionError: a value holds itself.
    """
    return {key: _wanted(value, _below(model, key)) for key, value in values.items()}


def _wanted(value: Any, annotation: Any) -> Any:
    if isinstance(value, Written):
        return value.text if _is_text(annotation) else value.value
    if isinstance(value, dict):
        return {key: _wanted(inner, _below(annotation, key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_wanted(inner, _below(annotation)) for inner in value]
    return value


def _is_text(annotation: Any) -> bool:
    """Whether text is meant, or a list of it, for which a single value may stand."""
    kinds = list(_kinds(annotation))
    return bool(kinds) and all(_is_text_kind(kind) for kind in kinds)


def _is_text_kind(kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return all(isinstance(word, str) for word in get_args(kind))
    return kind is str or (get_origin(kind) is tuple and _is_text(get_args(kind)[0]))


def _below(annotation: Any, key: object = None) -> Any:
    """The type of what a section, a mapping or a list of some type holds; None: not known."""
    for kind in _kinds(annotation):
        if get_origin(kind) in (tuple, dict):
            return next(of for of in reversed(get_args(kind)) if of is not Ellipsis)
        if isinstance(kind, type) and issubclass(kind, Section) and key in kind.model_fields:
            return kind.model_fields[str(key)].annotation
    return None


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types that a value may have, without None."""
    if get_origin(annotation) is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for each in get_args(annotation):
            yield from _kinds(each)
    elif annotation not in (None, NoneType):
        yield annotation
