"""Micro-batches of videos of any length and size: as many at once as their pixels allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


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
