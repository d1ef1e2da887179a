"""Reads CSV files strictly: UTF-8 (with or without byte order mark), commas, one header line, quotes as in RFC 4180."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from policies.errors import InputError

_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table: where it begins, and its texts by column, as they are written."""

    path: Path
    line: int
    values: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        """A text without outer blanks, which files made by hand often have behind commas."""
        return self.values[column].strip()

    def required(self, column: str) -> str:
        """A text without outer blanks that must not be empty."""
        return self.required_verbatim(column).strip()

    def required_verbatim(self, column: str) -> str:
        """A text that must not be blank, with its outer blanks and line breaks: a prompt's count."""
        if not self[column]:
            raise self.error(f"{column} is empty; every row needs one")
        return self.values[column]

    def number(self, column: str) -> float | None:
        """A finite number; None where the field is empty."""
        text = self[column]
        if not text:
            return None
        try:
            value = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            raise self.error(f"{column} is {text!r}, which is no number; leave it empty when there is none") from None
        if not math.isfinite(value):
            raise self.error(f"{column} is {text!r}, which is no finite number; leave it empty when there is none")
        return value

    def error(self, problem: str) -> InputError:
        """An error about this row."""
        return InputError(f"{self.path}:{self.line}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A CSV file's rows, at least one, all with the same columns."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def need(self, columns: Sequence[str]) -> None:
        """Raises InputError when a column is missing."""
        missing = [name for name in columns if name not in self.columns]
        if missing:
            raise InputError(
                f"{self.path}: has no column {', '.join(missing)}; it needs {', '.join(columns)} and has "
                f"{', '.join(self.columns)}"
            )


def read_table(path: Path) -> Table:
    """Reads a CSV file. Blank lines are left out.

    Raises:
        InputError: the file is missing, not UTF-8, not separated by commas, has no rows, names a column twice, or has a
            row with more or fewer fields than columns.
    """
    text = _read_text(path)
    rows: list[Row] = []
    columns: tuple[str, ...] = ()
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    last_line = 0
    try:
        for fields in reader:
            line, last_line = last_line + 1, reader.line_num
            if not any(map(str.strip, fields)):
                continue
            if not columns:
                columns = _header(path, line, [field.strip() for field in fields])
                continue
            if len(fields) != len(columns):
                raise InputError(
                    f"{path}:{line}: has {len(fields)} fields and the header {len(columns)}; put quotes around fields "
                    "with commas, and write nothing between two commas for an empty one"
                )
            rows.append(Row(path=path, line=line, values=dict(zip(columns, fields, strict=True))))
    except csv.Error as error:
        raise InputError(f"{path}:{last_line + 1}: is no CSV ({error}); check its quotes") from None
    if not rows:
        raise InputError(f"{path}: holds no rows{' below its header' if columns else ', it is empty'}")
    return Table(path=path, columns=columns, rows=tuple(rows))


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; name a CSV file in it") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}:{line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); save it as CSV in UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _header(path: Path, line: int, fields: list[str]) -> tuple[str, ...]:
    for mark, name in _OTHER_SEPARATORS.items():
        if len(fields) == 1 and mark in fields[0]:
            raise InputError(f"{path}:{line}: its columns are separated by {name}; save it with commas")
    twice = sorted({name for name in fields if fields.count(name) > 1})
    if twice:
        raise InputError(f"{path}:{line}: has the column {', '.join(map(repr, twice))} more than once")
    return tuple(fields)
