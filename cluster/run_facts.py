"""What the files of a run say, as the store takes it: the same whether a run tells it live or its directory is read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.run_directory import RunDirectory
from cluster.store.run_items import Happened, Item, Line, Pair, Sample, Side

_NESTED = ("scores", "seconds")
_NO_CURVES = ("update", "policy_version")
_UPDATE = re.compile(rb'\{"update": (\d+)[,}]')


def line_of(line: Mapping[str, Any]) -> Line:
    """The numbers of a line of metrics.jsonl. Nested ones have dotted names: `scores.VQ.mean`, `seconds.generate`."""
    return Line(update=int(line["update"]), points=dict(_numbers(line)))


def validation_of(line: Mapping[str, Any]) -> Line:
    """The numbers of a line of validation.jsonl, at the update that made the version which was measured."""
    points = {f"validation.{name}": value for name, value in _numbers(line)}
    return Line(update=max(int(line["policy_version"]) - 1, 0), points=points)


def events_of(line: Mapping[str, Any]) -> list[Happened]:
    """What can be seen from a line alone: a renewed reference, a batch without a usable pair."""
    update, found = int(line["update"]), []
    if line.get("reference_version") == line.get("policy_version") != 0:
        found.append(Happened(what="swap", text="the policy became its own reference", update=update))
    if line.get("loss") is None:
        found.append(Happened(what="skipped", text="none of the batch's groups had a usable pair", update=update))
    return found


def pairs_of(directory: RunDirectory, update: int, group_ids: Sequence[str]) -> Iterator[Pair]:
    """The pairs of groups that an update trained on; a group whose file cannot be read is left out."""
    for group_id in group_ids:
        try:
            yield _pair(directory, update, json.loads(directory.group_file(group_id).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            continue


def samples_of(directory: RunDirectory) -> list[Sample]:
    """The videos of samples/index.json: of the initial policy, and of the version that was tested."""
    try:
        index = json.loads((directory.samples / "index.json").read_bytes())
        tested = int(json.loads((directory.path / "test.json").read_bytes())["policy_version"])
        return [
            _sample(entry, when, version) for entry in index for when, version in (("before", 0), ("after", tested))
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def lines_between(file: Path, first: int, end: int) -> Iterator[dict[str, Any]]:
    """The complete lines of metrics.jsonl for the updates from `first` to before `end`."""
    try:
        with file.open("rb") as lines:
            for text in lines:
                known = _UPDATE.match(text)
                if known is not None and not first <= int(known[1]) < end:
                    continue
                line = _object(text)
                if isinstance(line.get("update"), int) and first <= line["update"] < end:
                    yield line
    except FileNotFoundError:
        return


def told_of(directory: RunDirectory, line: Mapping[str, Any]) -> list[Item]:
    """All that is to be told of an update."""
    pairs = pairs_of(directory, int(line["update"]), line.get("group_ids") or [])
    return [line_of(line), *events_of(line), *pairs]


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text) if text.endswith(b"\n") else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _numbers(line: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in line.items():
        if isinstance(value, dict) and (prefix or key in _NESTED):
            yield from _numbers(value, f"{prefix}{key}.")
        elif _is_number(value) and (prefix or key not in _NO_CURVES):
            yield f"{prefix}{key}", float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _pair(directory: RunDirectory, update: int, record: Mapping[str, Any]) -> Pair:
    chosen, rejected = (_side(record["members"][record[name]]) for name in ("chosen", "rejected"))
    shared = [name for name in chosen.scores if name in rejected.scores]
    group_id = record["group_id"]
    places = {
        "latents": directory.latents_file(group_id),
        "chosen_video": directory.samples / f"{group_id}-chosen.mp4",
        "rejected_video": directory.samples / f"{group_id}-rejected.mp4",
    }
    return Pair(
        group_id=group_id,
        update=update,
        prompt_id=record["prompt"]["id"],
        prompt=record["prompt"]["text"],
        policy_version=record["policy_version"],
        chosen=chosen,
        rejected=rejected,
        margin=chosen.reward - rejected.reward,
        conflicts=tuple(name for name in shared if chosen.scores[name] < rejected.scores[name]),
        files={name: str(path.relative_to(directory.path)) for name, path in places.items() if path.is_file()},
    )


def _side(member: Mapping[str, Any]) -> Side:
    return Side(seed=member["seed"], reward=float(member["reward"]), scores=dict(member["scores"]))


def _sample(entry: Mapping[str, Any], when: str, version: int) -> Sample:
    side = entry[when]
    return Sample(
        name=f"{entry['name']}-{when}",
        file=f"samples/{entry['name']}-{when}.mp4",
        prompt=entry["prompt"],
        seed=entry["seed"],
        policy_version=version,
        reward=side["reward"],
        scores=side["scores"] or {},
    )
