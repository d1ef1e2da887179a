"""YAML as plain values with the line of every key. Nothing is constructed but text, numbers, booleans, lists and maps.

Scalars read as in YAML 1.2, which is what people expect of a config today: `1e-5` is a number, `no` and `on` are text,
`010` is text rather than eight. Anchors, aliases, merge keys and tags are refused: a config says what it means where
it means it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

KeyPath: TypeAlias = tuple[str | int, ...]
MAX_DEPTH = 20  # a config has three levels, and PyYAML takes quadratic time over deep ones
MAX_CHARACTERS = 200_000  # a config has a few thousand; a model or a log given by mistake has more

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: value for value, name in ((True, "true"), (False, "false")) for word in (name, name.title(), name.upper())
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something wrong at a place: `key` is dotted, or empty when it is about the text itself."""

    key: str
    text: str
    line: int | None = None


@dataclass(slots=True, kw_only=True)
class Document:
    """The value of a YAML text, the line of each key path in it, and what was wrong on the way."""

    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def dotted(path: KeyPath) -> str:
    """A key path as people write it."""
    return ".".join(str(part) for part in path)


def read_yaml(text: str) -> Document:
    """Reads one YAML document. What cannot be read is left out of `value` and named in `problems`."""
    document = Document()
    if len(text) > MAX_CHARACTERS:
        document.problems.append(Problem(key="", text=f"is {len(text)} characters long; this is no configuration"))
        return document
    try:
        refused = _refused_event(text)
        if refused is not None:
            document.problems.append(refused)
            return document
        node = yaml.compose(text, Loader=yaml.BaseLoader)
        if node is not None:
            document.value = _value(node, (), document)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        document.problems.append(
            Problem(key="", text=f"not valid YAML: {what}", line=mark.line + 1 if mark is not None else None)
        )
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        shown = error.character if isinstance(error.character, int) else ord(error.character)
        document.problems.append(
            Problem(key="", text=f"holds the character U+{shown:04X}, which YAML does not allow", line=line)
        )
    return document


def _refused_event(text: str) -> Problem | None:
    """The first anchor, alias, tag or absurd depth.

    Looked for before composing, so that no alias can expand or point at itself.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            what = "an anchor or alias; write the value out where it is used"
        elif tag:
            what = f"the tag {tag}; values are plain text, numbers, booleans, lists and maps"
        elif depth > MAX_DEPTH:
            what = f"more than {MAX_DEPTH} levels; a configuration has three"
        else:
            continue
        mark = event.start_mark
        return Problem(key="", text=f"holds {what}", line=mark.line + 1 if mark is not None else None)
    return None


def _value(node: yaml.Node, path: KeyPath, document: Document) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, index), document) for index, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    try:
        return _plain(node.value) if node.style is None else _encodable(node.value)
    except ValueError as error:
        document.problems.append(Problem(key=dotted(path), text=str(error), line=node.start_mark.line + 1))
        return None


def _mapping(node: yaml.MappingNode, path: KeyPath, document: Document) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
        where = dotted((*path, key)) if key is not None else dotted(path)
        if key is None or key == "<<":
            what = "a merge key; write the keys out" if key else "a key that is a list or map; keys are names"
            document.problems.append(Problem(key=where, text=f"holds {what}", line=line))
        elif key in found:
            first = document.lines[(*path, key)]
            document.problems.append(Problem(key=where, text=f"already set on line {first}; keep one", line=line))
        else:
            document.lines[(*path, key)] = line
            found[key] = _value(value_node, (*path, key), document)
    return found


def _plain(text: str) -> Any:
    """An unquoted scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        if len(text) > 40:
            raise ValueError(f"the number {text[:20]}... has {len(text)} digits; nothing here needs more than 20")
        return int(text)
    if _FLOAT.match(text):
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"the number {text} is too large")
        return number
    if _NOT_FINITE.match(text):
        raise ValueError(f"{text} is not a finite number; every number here must be one")
    return _encodable(text)


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a surrogate pair; write the character itself") from None
    return text
