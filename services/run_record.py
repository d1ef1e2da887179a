"""What a run directory says about a run, complete or not, as plain JSON values for the report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

MAX_POINTS = 2000  # per curve; more than a screen has pixels
MAX_PAIR_UPDATES = 400  # newest updates whose pairs can be looked through
MAX_BROWSER_INT = 2**53 - 1  # seeds are larger
_NOT_CURVES = {"update", "policy_version", "reference_version", "dropped", "videos", "unscored"}


@dataclass(slots=True, kw_only=True)
class RunRecord:
    """A run's files, read. What is missing is empty; what could not be read is said in `notes`."""

    run_dir: Path
    config_text: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    reward_model: Mapping[str, Any] | None = None
    calibration: Mapping[str, Any] | None = None
    test: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None
    versions: Mapping[str, Any] | None = None
    samples: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, run_dir: Path, config: Mapping[str, Any]) -> RunRecord:
        """Reads every file that is there."""
        record = cls(run_dir=run_dir, config=config)
        record.config_text = (run_dir / "config.yaml").read_text(errors="replace")
        record.lines = [line for line in record._json_lines("metrics.jsonl") if type(line.get("update")) is int]
        record.validation = record._json_lines("validation.jsonl")
        record.reward_model = record._mapping("reward_model.json")
        record.calibration = record._mapping("calibration.json")
        record.test = record._mapping("test.json")
        record.result = record._mapping("result.json")
        record.versions = record._mapping("versions.json")
        index = record._json("samples/index.json")
        record.samples = [item for item in index if isinstance(item, dict)] if isinstance(index, list) else []
        return record

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self.run_dir / name).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            self.notes.append(f"{name} could not be read: {error}")
            return None

    def _mapping(self, name: str) -> Mapping[str, Any] | None:
        value = self._json(name)
        return value if isinstance(value, dict) else None

    def _json_lines(self, name: str) -> list[dict[str, Any]]:
        try:
            text = (self.run_dir / name).read_text(errors="replace")
        except OSError:
            return []
        found = []
        for number, line in enumerate(text.split("\n"), start=1):
            try:
                value = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError):
                self.notes.append(f"{name}:{number} could not be read and is left out")
                continue
            if isinstance(value, dict):
                found.append(value)
        return found


def swaps(lines: Sequence[Mapping[str, Any]]) -> list[int]:
    """The updates at whose start the policy became its own reference."""
    found = []
    for before, line in pairwise(lines):
        reference = line.get("reference_version")
        if reference is not None and reference == line.get("policy_version") != before.get("reference_version"):
            found.append(line["update"])
    return found


def curves(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Columns by name, `update` among them, thinned to MAX_POINTS by averaging neighbours.

    Nested values get dotted names: `scores.VQ.mean`, `seconds.generate`.
    """
    rows = [dict(_numbers(line)) for line in lines]
    names = list(dict.fromkeys(name for row in rows for name in row))
    size = math.ceil(len(rows) / MAX_POINTS) or 1
    buckets = [rows[start : start + size] for start in range(0, len(rows), size)]
    columns: dict[str, list[float | None]] = {"update": [float(bucket[-1]["update"]) for bucket in buckets]}
    for name in names:
        if name not in _NOT_CURVES:
            columns[name] = [_mean([row[name] for row in bucket if name in row]) for bucket in buckets]
    return columns


def pairs_of(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The pairs of the newest updates, as they are written."""
    return [
        {
            "update": line["update"],
            "pairs": [pair for pair in line.get("pairs") or [] if isinstance(pair, dict)],
            "dropped_reasons": line.get("dropped_reasons") or {},
        }
        for line in lines[-MAX_PAIR_UPDATES:]
    ]


def for_browser(value: Any) -> Any:
    """The same value with null for numbers that JSON cannot hold, and text for those that JavaScript would round."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) > MAX_BROWSER_INT:
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): for_browser(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [for_browser(inner) for inner in value]
    return value


def _numbers(line: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in line.items():
        if isinstance(value, dict) and (prefix or key in ("scores", "seconds")):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield f"{prefix}{key}", float(value)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
