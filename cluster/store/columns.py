"""Curves as columns: per attempt and name, 512 updates side by side in one record.

    runs/<id>/<attempt>/<updates / 512>/<number of the name>

A slot is a float64 whose bits are combined with those of NaN, so that a slot of zeros, which is what a backend fills
records up with, is a value that does not exist. Rejected: an entry per update, of which a curve of 100,000 updates
would have to read every one with all its names.
"""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from cluster.store.records import Records, Splice
from cluster.store.run_items import Line
from cluster.store.run_record import Run, Segment

SLOTS = 512
AT_ONCE = 1024  # records in one read: 4 MiB
_BITS_OF_NAN = 0x7FF8_0000_0000_0000
_DOUBLE, _WORD = struct.Struct("<d"), struct.Struct("<Q")

Updates = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def splices(run: Run, lines: Sequence[Line]) -> list[Splice]:
    """The writes that put lines of the current attempt into their slots; `run` knows all their names."""
    number = {name: index for index, name in enumerate(run.names)}
    slots: defaultdict[tuple[int, int], dict[int, float]] = defaultdict(dict)
    for line in lines:
        chunk, slot = divmod(line.update, SLOTS)
        for name, value in line.points.items():
            if math.isfinite(value):
                slots[number[name], chunk][slot] = value
    return [
        Splice(_key(run.id, run.attempt, chunk, name), 8 * min(values), _packed(values))
        for (name, chunk), values in slots.items()
    ]


async def read_column(records: Records, run: Run, name: str, first: int, end: int) -> tuple[Updates, Values]:
    """The values from update `first` to before `end`, those that exist, and their updates."""
    number = run.names.index(name)
    segments = [Segment(s.attempt, max(s.first, first), min(s.end, end)) for s in run.segments()]
    places = [(segment, chunk) for segment in segments for chunk in _chunks(segment)]
    keys = [_key(run.id, segment.attempt, chunk, number) for segment, chunk in places]
    parts = []
    for start in range(0, len(keys), AT_ONCE):
        stored = await records.read(keys[start : start + AT_ONCE])
        parts += [_slots(*place, data) for place, data in zip(places[start:], stored, strict=False) if data]
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.float64)
    return np.concatenate([updates for updates, _ in parts]), np.concatenate([values for _, values in parts])


def all_keys(run: Run, attempt: int) -> Iterator[str]:
    """Every record that an attempt may have, whether it counts or not."""
    for chunk in _chunks(Segment(attempt, run.attempts[attempt - 1], run.highest_update + 1)):
        yield from (_key(run.id, attempt, chunk, number) for number in range(len(run.names)))


def _slots(segment: Segment, chunk: int, data: bytes) -> tuple[Updates, Values]:
    words = np.frombuffer(data, "<u8", count=len(data) // 8)
    values = (words ^ np.uint64(_BITS_OF_NAN)).view(np.float64)
    updates = chunk * SLOTS + np.arange(len(values), dtype=np.int64)
    there = (words != 0) & (updates >= segment.first) & (updates < segment.end)
    return updates[there], values[there]


def _chunks(segment: Segment) -> range:
    return range(segment.first // SLOTS, (segment.end - 1) // SLOTS + 1) if segment.first < segment.end else range(0)


def _packed(values: dict[int, float]) -> bytes:
    first = min(values)
    data = bytearray(8 * (max(values) + 1 - first))
    for slot, value in values.items():
        (bits,) = _WORD.unpack(_DOUBLE.pack(value))
        _WORD.pack_into(data, 8 * (slot - first), bits ^ _BITS_OF_NAN)
    return bytes(data)


def _key(run_id: str, attempt: int, chunk: int, number: int) -> str:
    return f"runs/{run_id}/{attempt}/{chunk}/{number}"
