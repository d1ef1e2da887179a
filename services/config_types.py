"""What the type of a setting says: the sections that it may hold, and itself in words."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from policies.config import Config

Sections: TypeAlias = tuple[type[Config], ...]  # none: a plain value; several: the kinds that its `model` chooses among


def sections_of(info: FieldInfo) -> Sections:
    """The config classes that a field, or each item of it, may be of."""
    return _sections(info.annotation)


def _sections(annotation: Any) -> Sections:
    origin = get_origin(annotation)
    if origin is Annotated or is_list(annotation):
        return _sections(get_args(annotation)[0])
    if origin is dict:
        return _sections(get_args(annotation)[1])
    if origin in (Union, UnionType):
        return tuple(section for member in get_args(annotation) for section in _sections(member))
    return (annotation,) if isinstance(annotation, type) and issubclass(annotation, Config) else ()


def is_list(annotation: Any) -> bool:
    return get_origin(annotation) is tuple and get_args(annotation)[-1] is Ellipsis


def is_map(annotation: Any) -> bool:
    return get_origin(annotation) is dict


def expected(info: FieldInfo) -> str:
    """A field's type in words: "a whole number above 0 or null"."""
    return _words(info.annotation, info.metadata)


def expected_name(info: FieldInfo) -> str:
    """A name in such a map, in words: "text matching ^[a-z]+$"."""
    return _words(get_args(info.annotation)[0], [])


def _words(annotation: Any, metadata: list[Any]) -> str:
    origin = get_origin(annotation)
    if _sections(annotation):
        if is_list(annotation) or is_map(annotation):
            return "a list of sections" if is_list(annotation) else "a map of names to sections"
        return "a section"
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
    return names[annotation] + _bounds(metadata)


def _bounds(metadata: list[Any]) -> str:
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
    found = [
        f"{word} {bound if isinstance(bound, int) else format(bound, 'g')}"
        for item in metadata
        for name, word in words.items()
        if (bound := getattr(item, name, None)) is not None
    ]
    patterns = [item.pattern for item in metadata if getattr(item, "pattern", None)]
    shown = [f"matching {pattern}" for pattern in patterns]
    return "".join(f" {part}" for part in (" and ".join(found), *shown) if part)


def _plural(annotation: Any) -> str:
    base, *extra = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    constraints = [part for item in extra for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
    return {int: "whole numbers", float: "numbers", str: "texts"}.get(base, "values") + _bounds(constraints)
