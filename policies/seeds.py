"""Seeds by name. Every random draw has a seed that follows from the run seed and what is drawn, never from a rank,
a process or the time; so any draw can be made again, anywhere, and a resumed run needs no saved generator state."""

from __future__ import annotations

import hashlib


def seed_for(*parts: int | str) -> int:
    """A seed in [0, 2^53) from a name of several parts, stable across processes and machines.

    53 bits, because seeds go through JSON and many readers of JSON keep numbers as doubles.

    Python's own `hash` of a string differs between processes, so it must not be used for this.
    """
    name = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 11


def candidate_seeds(run_seed: int, group_id: str, prompt_id: str, *, count: int) -> tuple[int, ...]:
    """One seed per candidate of a group; all distinct."""
    return tuple(seed_for("candidate", run_seed, group_id, prompt_id, index) for index in range(count))
