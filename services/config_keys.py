"""What the configuration's keys are: their types in words, their documentation, and which one a misspelling meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from pydantic.fields import FieldInfo

from policies.config import Config
from services.config_types import Sections, expected, is_list, is_map, sections_of

KeyPath: TypeAlias = tuple[str, ...]  # the index of a list's item is a part like any other: reward.also.0.path
A_NAME = "NAME"  # in the path of a key: any name that the map there may hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One setting: `sampling.fps`. `expected` is its type in words; `model` the kind of section that alone has it."""

    path: KeyPath
    expected: str
    required: bool
    default: Any
    doc: str
    model: str | None = None

    @property
    def dotted(self) -> str:
        return ".".join(self.path)


def all_keys(section: type[Config], prefix: KeyPath = ()) -> Iterator[Key]:
    """Every setting of a section and its subsections, in the order of the source."""
    for name, info in section.model_fields.items():
        kinds = () if is_list(info.annotation) else sections_of(info)
        if kinds and is_map(info.annotation):
            yield _key(info, (*prefix, name))
            yield from all_keys(kinds[0], (*prefix, name, A_NAME))
        elif len(kinds) == 1:
            yield from all_keys(kinds[0], (*prefix, name))
        elif kinds:
            yield from _keys_of_kinds(kinds, (*prefix, name))
        else:
            yield _key(info, (*prefix, name))


def _keys_of_kinds(kinds: Sections, prefix: KeyPath) -> Iterator[Key]:
    """What all kinds of a section have, then what each adds."""
    common = set[str].intersection(*(set(kind.model_fields) for kind in kinds))
    for name, info in kinds[0].model_fields.items():
        if name == "model":
            doc = " ".join(kind.model_fields[name].description or "" for kind in kinds)
            yield replace(_key(info, (*prefix, name)), expected=" or ".join(map(model_of, kinds)), doc=doc)
        elif name in common and not _differs(name, kinds):
            yield _key(info, (*prefix, name))
    for kind in kinds:
        for name, info in kind.model_fields.items():
            if name != "model" and (name not in common or _differs(name, kinds)):
                yield replace(_key(info, (*prefix, name)), model=model_of(kind))


def _differs(name: str, kinds: Sections) -> bool:
    infos = [kind.model_fields[name] for kind in kinds]
    return len({(str(info.description), expected(info)) for info in infos}) > 1


def _key(info: FieldInfo, path: KeyPath) -> Key:
    return Key(
        path=path,
        expected=expected(info),
        required=info.is_required(),
        default=None if info.is_required() else _default(info),
        doc=" ".join((info.description or "").split()),
    )


def model_of(kind: type[Config]) -> str:
    """Which `model` makes a section one of this kind."""
    return str(kind.model_fields["model"].get_default())


def _default(info: FieldInfo) -> Any:
    default = info.get_default(call_default_factory=True, validated_data={})
    return {name: {} for name in default} if is_map(info.annotation) and sections_of(info) else default


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where a path leads."""

    path: KeyPath  # as far as it is known
    info: FieldInfo | None  # of the field at its end, or of the list or map that it is in; None: the root
    kinds: Sections  # what may be there
    sections: Sections  # what is there, by its `model`; all of `kinds` where that says nothing

    @property
    def is_section(self) -> bool:
        return bool(self.kinds)


def find(path: KeyPath, values: Any, root: type[Config]) -> Found:
    """The setting or section that a path leads to or into, from the section `root`.

    Args:
        values: the settings as written: their `model` says of which kind a section is.
    """
    found = Found(path=(), info=None, kinds=(root,), sections=(root,))
    items: Sections = ()  # what the items of the list or map at `found` may be
    for part in path:
        values = _item(values, part)
        if items and (part.isdigit() or (found.info is not None and is_map(found.info.annotation))):
            info, kinds, items = found.info, items, ()
        else:
            having = [section for section in found.sections if part in section.model_fields]
            if not having:
                break
            info = having[0].model_fields[part]
            is_container = is_list(info.annotation) or is_map(info.annotation)
            kinds, items = ((), sections_of(info)) if is_container else (sections_of(info), ())
        found = Found(path=(*found.path, part), info=info, kinds=kinds, sections=_chosen(kinds, values))
    return found


def _chosen(kinds: Sections, values: Any) -> Sections:
    if len(kinds) < 2 or not isinstance(values, dict):
        return kinds
    model = values.get("model", model_of(kinds[0]))
    return tuple(kind for kind in kinds if model_of(kind) == model) or kinds


def _item(values: Any, part: str) -> Any:
    if isinstance(values, list):
        return values[int(part)] if part.isdigit() and int(part) < len(values) else None
    return values.get(part) if isinstance(values, dict) else None


def value_at(values: Any, path: KeyPath) -> Any:
    """What is written at a path; None where nothing is."""
    for part in path:
        values = _item(values, part)
    return values


def put(values: dict[str, Any], path: KeyPath, value: Any) -> bool:
    """Sets what is written at a path, and makes the sections around it. False when a list has no such item."""
    inner: Any = values
    for part, is_last in zip(path, [*[False] * (len(path) - 1), True], strict=True):
        if isinstance(inner, list):
            if _item(inner, part) is None:
                return False
            index: Any = int(part)
        else:
            index = part
            if not is_last and not isinstance(inner.get(part), dict | list):
                inner[part] = {}
        if is_last:
            inner[index] = value
        else:
            inner = inner[index]
    return True


def without_kinds(location: tuple[str | int, ...], values: Any, root: type[Config]) -> KeyPath:
    """The path of a setting from pydantic's location, which names the kind of a section as if it were a key."""
    path: KeyPath = ()
    is_kind = False
    for part in location:
        if is_kind:
            is_kind = False
            continue
        path = (*path, str(part))
        found = find(path, values, root)
        is_kind = found.path == path and len(found.kinds) > 1
    return path


def suggestion(path: KeyPath, values: Any, root: type[Config]) -> str:
    """Which key an unknown one may have meant, as the end of a message."""
    wrong, parent = path[-1], find(path[:-1], values, root)
    is_known = parent.path == path[:-1] and parent.is_section
    siblings = list(parent.sections[0].model_fields) if is_known else []
    others = [model_of(kind) for kind in parent.kinds if is_known and wrong in kind.model_fields]
    if others:
        return f"it belongs to model: {' or '.join(others)}"
    elsewhere = [key.dotted for key in all_keys(root) if key.path[-1] == wrong]
    near = difflib.get_close_matches(wrong, siblings, n=1, cutoff=0.6)
    if near and not elsewhere:
        return f"did you mean {near[0]}?"
    if not elsewhere:
        names = {key.path[-1]: key.dotted for key in all_keys(root)}
        close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.8)
        elsewhere = [names[close[0]]] if close else []
    if elsewhere:
        return f"did you mean {elsewhere[0]}?"
    return f"known here: {', '.join(siblings)}" if siblings else "remove it"
