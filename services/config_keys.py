"""What the configuration's keys are: their types in words, their documentation, and which one a misspelling meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from cluster.config import RunConfig
from policies.config import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One setting: `sampling.fps`. `expected` is its type in words."""

    path: tuple[str, ...]
    expected: str
    required: bool
    default: Any
    doc: str

    @property
    def dotted(self) -> str:
        return ".".join(self.path)


def all_keys(section: type[Config] = RunConfig, prefix: tuple[str, ...] = ()) -> Iterator[Key]:
    """Every setting of a section and its subsections, in the order of the source."""
    for name, info in section.model_fields.items():
        subsection = section_of(info)
        if subsection is not None:
            yield from all_keys(subsection, (*prefix, name))
        else:
            yield Key(
                path=(*prefix, name),
                expected=expected(info),
                required=info.is_required(),
                default=None if info.is_required() else info.get_default(),
                doc=" ".join((info.description or "").split()),
            )


def section_of(info: FieldInfo) -> type[Config] | None:
    """The config class of a field that is a section of its own."""
    annotation = info.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Config) else None


def find(path: tuple[str | int, ...]) -> tuple[tuple[str, ...], FieldInfo | None]:
    """The setting or section that a path leads to or into: its own path, and its field (None: the root)."""
    section: type[Config] | None = RunConfig
    info: FieldInfo | None = None
    known: tuple[str, ...] = ()
    for part in path:
        if section is None or not isinstance(part, str) or part not in section.model_fields:
            break
        info = section.model_fields[part]
        known = (*known, part)
        section = section_of(info)
    return known, info


def expected(info: FieldInfo) -> str:
    """A field's type in words: "a whole number above 0 or null"."""
    return _words(info.annotation, info.metadata)


def suggestion(path: tuple[str | int, ...]) -> str:
    """Which key an unknown one may have meant, as the end of a message."""
    parent, wrong = tuple(str(part) for part in path[:-1]), str(path[-1])
    _, info = find(parent)
    section = RunConfig if not parent else section_of(info) if info is not None else None
    siblings = list(section.model_fields) if section is not None else []
    elsewhere = [key.dotted for key in all_keys() if key.path[-1] == wrong]
    near = difflib.get_close_matches(wrong, siblings, n=1, cutoff=0.6)
    if near and not elsewhere:
        return f"did you mean {near[0]}?"
    if not elsewhere:
        names = {key.path[-1]: key.dotted for key in all_keys()}
        close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.8)
        elsewhere = [names[close[0]]] if close else []
    if elsewhere:
        return f"did you mean {elsewhere[0]}?"
    return f"known here: {', '.join(siblings)}" if siblings else "remove it"


def _words(annotation: Any, metadata: list[Any]) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        base, *extra = get_args(annotation)
        constraints = [part for item in extra for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return _words(base, constraints)
    if origin in (Union, UnionType):
        members = [_words(member, metadata) for member in get_args(annotation) if member is not NoneType]
        return " or ".join([*members, *(["null"] if NoneType in get_args(annotation) else [])])
    if origin is Literal:
        values = get_args(annotation)
        return " or ".join(str(value) for value in values)
    if origin is tuple:
        members_of = get_args(annotation)
        if len(members_of) == 2 and members_of[1] is Ellipsis:
            return f"a list of {_plural(members_of[0])}"
        return f"a list of {len(members_of)} {_plural(members_of[0])}"
    if origin is dict:
        return f"a map of names to {_plural(get_args(annotation)[1])}"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return names.get(annotation, "a section") + _bounds(metadata)


def _bounds(metadata: list[Any]) -> str:
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
    found = [
        f"{word} {getattr(item, name):g}"
        for item in metadata
        for name, word in words.items()
        if getattr(item, name, None) is not None
    ]
    patterns = [item.pattern for item in metadata if getattr(item, "pattern", None)]
    shown = [f"matching {pattern}" for pattern in patterns]
    return "".join(f" {part}" for part in (" and ".join(found), *shown) if part)


def _plural(annotation: Any) -> str:
    base, *extra = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    constraints = [part for item in extra for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
    return {int: "whole numbers", float: "numbers", str: "texts"}.get(base, "values") + _bounds(constraints)
