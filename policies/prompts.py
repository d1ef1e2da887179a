"""Prompts: where they are read from, and which of them make update u. Imports no torch.

A prompt source is a `.txt` file (one prompt a line; blank lines and lines starting with # are skipped), a `.jsonl` file
(one object {id, prompt, shape?} a line, shape = {num_frames, height, width}), or `shapes:train`, `shapes:validation`,
`shapes:test`: the bundled world's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from policies.errors import InputError
from policies.online_vpo import PromptBatch
from policies.seeds import seed_for
from policies.shapes.prompts import TEST_PROMPTS, TRAIN_PROMPTS, VALIDATION_PROMPTS
from policies.types import Prompt, VideoShape

SHAPES_PREFIX = "shapes:"
SHAPES_SPLITS = {"train": TRAIN_PROMPTS, "validation": VALIDATION_PROMPTS, "test": TEST_PROMPTS}
_SHAPE_KEYS = ("num_frames", "height", "width")
_MAX_PROBLEMS = 20  # of one file; a file of another kind would otherwise fill the screen


def load_prompts(source: str) -> list[Prompt]:
    """Reads a prompt source.

    Raises:
        InputError: the source cannot be used; every problem as `file:line: what is wrong and what to do`.
    """
    if source.startswith(SHAPES_PREFIX):
        return _shapes_prompts(source)
    path = Path(source)
    readers = {".txt": _read_txt, ".jsonl": _read_jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{source}: prompts come from a .txt file (one a line), a .jsonl file ({{id, prompt, shape?}} a line) or "
            f"{', '.join(SHAPES_PREFIX + split for split in SHAPES_SPLITS)}; rename or convert it"
        )
    prompts = reader(path, _read_text(path))
    if not prompts:
        raise InputError(f"{source}: holds no prompts; write one a line")
    return prompts


def prompt_batches(
    prompts: Sequence[Prompt], *, per_update: int, run_seed: int, first: int, last: int
) -> Iterator[PromptBatch]:
    """The batches of updates `first` to `last - 1`.

    Prompts pass in epochs, each in an order of its own that follows from (run seed, epoch). Batch u is the u-th slice
    of that endless row, so it depends on no state and a resumed run starts anywhere. A batch may straddle epochs, and
    holds a prompt more than once when it is larger than their number.
    """
    if not prompts or per_update < 1:
        raise InputError(f"{len(prompts)} prompts and {per_update} per update make no batch; both must be at least 1")
    orders: dict[int, list[int]] = {}  # of the epochs that the current batch touches
    for update in range(first, last):
        positions = [divmod(row, len(prompts)) for row in range(update * per_update, (update + 1) * per_update)]
        epochs = {epoch for epoch, _ in positions}
        orders = {epoch: orders.get(epoch) or _epoch_order(len(prompts), run_seed, epoch) for epoch in epochs}
        yield PromptBatch(index=update, prompts=tuple(prompts[orders[epoch][index]] for epoch, index in positions))


def _epoch_order(count: int, run_seed: int, epoch: int) -> list[int]:
    """A permutation by sorting hashes: unlike a library's shuffle, it can never change with a version."""
    return sorted(range(count), key=lambda index: seed_for("prompt order", run_seed, epoch, index))


def _shapes_prompts(source: str) -> list[Prompt]:
    split = source.removeprefix(SHAPES_PREFIX)
    if split not in SHAPES_SPLITS:
        raise InputError(f"{source}: the bundled world has the splits {', '.join(SHAPES_SPLITS)}; use shapes:train")
    return [Prompt(id=f"{split}-{index:03d}", text=text) for index, text in enumerate(SHAPES_SPLITS[split])]


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such prompt file; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; name a .txt or .jsonl file in it") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}:{line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); save it as UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None


def _read_txt(path: Path, text: str) -> list[Prompt]:
    lines = [line.strip() for line in text.split("\n")]
    kept = [line for line in lines if line and not line.startswith("#")]
    return [Prompt(id=f"p{index:05d}", text=line) for index, line in enumerate(kept)]


def _read_jsonl(path: Path, text: str) -> list[Prompt]:
    prompts: list[Prompt] = []
    problems: list[str] = []
    line_of_id: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            prompt = _parse_line(line)
            if prompt.id in line_of_id:
                raise ValueError(f"id {prompt.id!r} is already on line {line_of_id[prompt.id]}; ids must be unique")
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
            continue
        line_of_id[prompt.id] = number
        prompts.append(prompt)
    if problems:
        hidden = len(problems) - _MAX_PROBLEMS
        rest = [f"... and {hidden} more"] if hidden > 0 else []
        raise InputError("\n".join(problems[:_MAX_PROBLEMS] + rest))
    return prompts


def _parse_line(line: str) -> Prompt:
    try:
        value = json.loads(line, object_pairs_hook=_unique_keys)
    except (json.JSONDecodeError, RecursionError) as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise ValueError(f"not JSON ({what}); write one object a line") from None
    if not isinstance(value, dict):
        raise ValueError(f'expected an object {{"id": ..., "prompt": ...}}, got {line.strip()[:40]}')
    unknown = sorted(set(value) - {"id", "prompt", "shape"})
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; a line holds id, prompt and, if it differs, shape")
    return Prompt(id=_text(value, "id"), text=_text(value, "prompt"), shape=_shape(value.get("shape")))


def _text(value: dict[str, Any], key: str) -> str:
    if key not in value:
        raise ValueError(f"{key} is missing")
    text = value[key]
    if not isinstance(text, str):
        raise ValueError(f"{key} is {text!r}; expected text")
    if not text.strip():
        raise ValueError(f"{key} is empty; write some text")
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate escape is valid JSON and no character
        raise ValueError(f"{key} holds half a surrogate pair; write the character itself") from None
    return text.strip()


def _shape(value: Any) -> VideoShape | None:
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != set(_SHAPE_KEYS):
        raise ValueError(f"shape is {value!r}; expected an object with {', '.join(_SHAPE_KEYS)}")
    for key in _SHAPE_KEYS:
        if type(value[key]) is not int or value[key] < 1:
            raise ValueError(f"shape.{key} is {value[key]!r}; expected a whole number above 0")
    return VideoShape(**value)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} appears twice")
    return found
