"""Micro-batches of videos of any length and size: as many at once as their pixels allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_ON_GPU, _ON_CPU = 8_000_000, 2_000_000


def budget_of(micro_batch_pixels: int | None, device: str) -> int:
    """The budget that a config gives, or what suits a device where it gives none."""
    return micro_batch_pixels or (_ON_CPU if device == "cpu" else _ON_GPU)


def micro_batches(costs: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices of inputs that go through a network together: each once, alike in cost, so that little is padding.

    Args:
        costs: of each input, pixels.
        budget: what the costs of a micro-batch add up to at most; an input of more goes alone.
    """
    batch: list[int] = []
    total = 0
    for index in sorted(range(len(costs)), key=costs.__getitem__):
        if batch and total + costs[index] > budget:
            yield batch
            batch, total = [], 0
        batch.append(index)
        total += costs[index]
    if batch:
        yield batch
