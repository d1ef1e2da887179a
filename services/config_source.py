"""A configuration file as its author wrote it, and how it becomes a checked one, whatever it configures.

Every problem is reported at once, each with its place (`run.yaml:12` or `--set a.b`), what is wrong and what would be
right. Relative paths in the file are relative to the file; those given with `--set` to the working directory or, where
there is no such file, to the config file; `output_dir` always to the working directory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from policies.config import Config
from policies.errors import InputError
from services.config_keys import KeyPath, all_keys, find, model_of, put, suggestion, value_at, without_kinds
from services.config_types import expected, expected_name, is_map, sections_of
from services.yaml_source import Document, Problem, dotted, read_yaml

_PASSES = 12  # each removes what it found wrong; a config is five levels deep

_UNKNOWN_KIND = "union_tag_invalid"  # pydantic's word for a section whose `model` there is not

Root = TypeVar("Root", bound=Config)


def read_document(path: str | Path) -> Document:
    """A YAML file's values and their lines. Raises InputError when the file cannot be read."""
    file = Path(path)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such config file; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; name a YAML file") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}:{line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); save it as UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    return read_yaml(text)


@dataclass(slots=True, kw_only=True)
class Source:
    """Where each setting came from.

    Args:
        name: what to call the document in messages.
        folder: what its relative paths are relative to.
        root: the section that the whole document is.
        needs: the least that it needs, for messages.
    """

    document: Document
    name: str
    folder: Path
    root: type[Config]
    needs: str
    overridden: dict[KeyPath, str] = field(default_factory=dict)

    def values(self, overrides: Sequence[str]) -> tuple[dict[str, Any], list[Problem]]:
        """The document's settings with the overrides, and what is wrong with these.

        Raises:
            InputError: the document holds no settings at all.
        """
        self.refuse(self.document.problems)
        if not isinstance(self.document.value, dict):
            given = self.document.value
            what = "is empty" if given is None else f"holds {shown(given)} instead of settings"
            raise InputError(f"{self.name}: {what}; {self.needs}")
        values = _fill_empty_sections(self.document.value, self.root)
        return values, [problem for override in overrides for problem in self.apply(values, override)]

    def apply(self, values: dict[str, Any], override: str) -> list[Problem]:
        """Sets one `a.b=value` in `values`, and says what is wrong with it."""
        key, equals, text = override.partition("=")
        path: KeyPath = tuple(part.strip() for part in key.split("."))
        where = dotted(path)
        self.overridden[path] = f"--set {where}"
        if not equals or "" in path:
            del self.overridden[path]
            return [Problem(key=f"--set {override}", text="expected KEY=VALUE, as in learner.learning_rate=1e-4")]
        parsed = read_yaml(text)
        if parsed.problems:
            return [Problem(key=where, text=problem.text) for problem in parsed.problems]
        found = find(path, values, self.root)
        if found.info is not None and len(found.path) < len(path) and not found.is_section:
            wanted = expected(found.info)
            if "map" not in wanted:
                return [Problem(key=where, text=f"{dotted(found.path)} has no parts; it is {wanted}, set it whole")]
        if not put(values, path, parsed.value):
            return [Problem(key=where, text="no such item; an item of a list is set by its number, from 0")]
        return []

    @property
    def lines(self) -> dict[KeyPath, int]:
        """The line of every setting in the file."""
        return {tuple(map(str, path)): line for path, line in self.document.lines.items()}

    def place(self, path: KeyPath) -> tuple[str, KeyPath, int]:
        """Where the setting, or the section around it, was written: (place, its own path, line)."""
        lines = self.lines
        for length in range(len(path), -1, -1):
            prefix = path[:length]
            inner = next((own for own in self.overridden if prefix and own[:length] == prefix), None)
            if inner is not None and (inner == prefix or prefix not in lines):
                return self.overridden[inner], inner, 0
            if prefix in lines:
                return f"{self.name}:{lines[prefix]}", prefix, lines[prefix]
        return self.name, (), 0

    def _path_of(self, key: str) -> KeyPath:
        """The path of a dotted key; a name that has dots itself is told by how it was written."""
        written = [path for path in self.lines if path and f"{key}.".startswith(f"{dotted(path)}.")]
        known = max(written, key=lambda path: len(dotted(path)), default=())
        rest = key[len(dotted(known)) :].lstrip(".")
        return (*known, *rest.split(".")) if rest else known

    def report(self, problems: Sequence[Problem]) -> str:
        """One line per problem, in the order of the file; overrides last."""
        lines: list[tuple[int, str]] = []
        for problem in problems:
            if problem.key.startswith("--"):
                lines.append((1_000_000_000, f"{problem.key}: {problem.text}"))
                continue
            path = self._path_of(problem.key)
            place, own, line = self.place(path)
            if problem.line is not None:
                place, line = f"{self.name}:{problem.line}", problem.line
            is_named = problem.text.startswith(f"{problem.key} ") or (place.startswith("--") and own == path)
            shown = "" if is_named else problem.key
            order = 1_000_000_000 if place.startswith("--") else line
            lines.append((order, ": ".join(part for part in (place, shown, problem.text) if part)))
        return "\n".join(text for _, text in sorted(dict.fromkeys(lines), key=lambda item: item[0]))

    def refuse(self, problems: Sequence[Problem]) -> None:
        """Raises InputError when there is any problem."""
        if problems:
            raise InputError(self.report(problems))

    def mentioned(self, section: KeyPath, message: str) -> KeyPath:
        """The written setting under `section` that a message speaks of, or the section itself."""
        written = [path for path in (*self.overridden, *self.lines) if path[: len(section)] == section]
        for path in sorted(written, key=len, reverse=True):
            if len(path) > len(section) and re.search(rf"\b{re.escape(dotted(path[len(section) :]))}\b", message):
                return path
        return section

    def resolve(self, key: str, written: str) -> Path:
        """An absolute path, by the rules of this module."""
        path = Path(written).expanduser()
        here = Path.cwd() / path
        is_from_shell = tuple(key.split(".")) in self.overridden
        if key == "output_dir" or (is_from_shell and here.exists()):
            return here.resolve()
        return (self.folder / path).resolve()


def validated(
    values: dict[str, Any], source: Source, root: type[Root]
) -> tuple[Root | None, list[Problem], dict[str, Any]]:
    """Validates, and goes on without what was wrong until nothing new is found.

    Returns: the config where there was nothing wrong, the problems, and the values without the wrong ones.
    """
    values = json.loads(json.dumps(values))
    problems: dict[KeyPath, Problem] = {}
    for _ in range(_PASSES):
        try:
            config = root.model_validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            if not _collect(error, values, source, problems):
                break
        else:
            return None if problems else config, list(problems.values()), values
    return None, list(problems.values()), values


def _collect(error: ValidationError, values: dict[str, Any], source: Source, problems: dict[KeyPath, Problem]) -> bool:
    """Adds new problems and repairs `values`. False when nothing could be repaired."""
    is_repaired = False
    for item in error.errors(include_url=False):
        location = without_kinds(item["loc"], values, source.root)
        if item["type"] == "value_error" and not isinstance(value_at(values, location), str):
            message = str(item["ctx"]["error"])
            path = source.mentioned(location, message)
            if any(known[-1] and known[-1] in message for known in problems if known):
                message = ""  # may come only from what was taken out
            is_repaired |= bool(location) and _remove(values, path, source.root)
        else:
            path, message = _own_problem(item["type"], location, values, source.root)
            is_required = item["type"] == "missing" or find(path, values, source.root).info is not None
            wrong = location if item["type"] == _UNKNOWN_KIND else path
            is_repaired |= _remove(values, wrong, source.root, required=is_required)
        if message and not any(path[: len(known)] == known for known in problems if known):
            problems[path] = Problem(key=dotted(path), text=message)
    return is_repaired


def _own_problem(kind: str, location: KeyPath, values: dict[str, Any], root: type[Config]) -> tuple[KeyPath, str]:
    """The setting that a pydantic error is about, and the error in this program's words."""
    if kind == "string_pattern_mismatch" and location[-1] == "[key]":  # pydantic's word for a name in a map
        info = find(location[:-2], values, root).info
        assert info is not None, f"a map without a field at {location}"
        return location[:-1], f"cannot be a name; expected {expected_name(info)}"
    if kind == "extra_forbidden":
        return location, f"unknown key; {suggestion(location, values, root)}"
    found = find(location, values, root)
    known, info = found.path, found.info
    assert info is not None, f"pydantic error {kind} at {location}"
    if kind == "missing" and location == known:
        needs = [key.dotted for key in all_keys(root) if key.required and key.path[: len(known)] == known]
        return known, f"missing; needs {', '.join(needs)}" if found.is_section else f"missing; {info.description}"
    path, wanted = known, "a section" if found.is_section else expected(info)
    if kind == _UNKNOWN_KIND:
        path, wanted = (*known, "model"), " or ".join(model_of(section) for section in found.kinds)
    elif "map" in wanted and len(location) > len(known) and isinstance(value_at(values, known), dict):
        path, wanted = (*known, location[len(known)]), "a number"
    value = value_at(values, path)
    hint = _hint(wanted, value) if wanted != "a number" or path == known else ""
    return path, f"expected {wanted}, got {shown(value)}{hint}"


def _hint(wanted: str, value: Any) -> str:
    if wanted.startswith("text") and isinstance(value, int | float):
        return "; put it in quotes"
    if "number" in wanted and isinstance(value, str):
        parsed = read_yaml(value).value
        return "; remove the quotes" if isinstance(parsed, int | float) else ""
    if "whole number" in wanted and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    return ""


def _remove(values: dict[str, Any], path: KeyPath, root: type[Config], *, required: bool = False) -> bool:
    """Takes a setting out of `values`, or puts a stand-in where one is required."""
    if not path:
        return False
    inner, last = value_at(values, path[:-1]), path[-1]
    if isinstance(inner, list):
        inner[int(last)] = {}
        return True
    if not isinstance(inner, dict):
        return False
    found = find(path, values, root)
    if required and found.path == path and found.info is not None and found.info.is_required():
        inner[last] = {} if found.is_section else "shapes"
        return True
    return inner.pop(last, None) is not None


def _fill_empty_sections(values: dict[str, Any], root: type[Config]) -> dict[str, Any]:
    """A section whose keys are all commented out reads as null; it means its defaults."""

    def filled(key: str, value: Any) -> Any:
        info = root.model_fields.get(key)
        if info is None or not sections_of(info):
            return value
        if is_map(info.annotation) and isinstance(value, dict):
            return {name: {} if section is None else section for name, section in value.items()}
        return {} if value is None else value

    return {key: filled(key, value) for key, value in values.items()}


def shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a section" if value else "an empty section"
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
