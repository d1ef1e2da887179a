"""95 % percentile bootstrap intervals over prompts.

Items of one prompt (its pairs, its videos) are not independent, so whole prompts are drawn: as many as there are, with
replacement, `draws` times; the interval runs from the 2.5th to the 97.5th percentile of the metric over draws. The
draws follow from the seed alone. An interval is None with fewer than two prompts, or when the metric is undefined in
more than half of the draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.errors import InputError
from policies.seeds import seed_for

Interval = tuple[float, float]
Floats = NDArray[np.float64]
_DRAWS_AT_ONCE = 1 << 22  # drawn prompts held in memory at a time: 32 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """How often to draw, and from which seed. No draws: no intervals."""

    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 0:
            raise InputError(f"{self.draws} bootstrap draws; give 0 (no intervals) or more")

    def of_share(self, prompt_ids: Sequence[str], counted: Floats, values: Floats) -> Interval | None:
        """Interval of sum(values) / sum(counted) over items.

        Args:
            prompt_ids: of each item.
            counted: 1 where the item counts, else 0. (N,)
            values: what it adds where it counts, as 1 for right and 0 for wrong. (N,)
        """
        prompt_N, prompts = _numbered(prompt_ids)
        totals = np.bincount(prompt_N, counted, prompts)
        sums = np.bincount(prompt_N, values * counted, prompts)
        shares = []
        for picks in self._picks(prompts):
            total = totals[picks].sum(1)
            shares.append(np.divide(sums[picks].sum(1), total, out=np.full(len(total), np.nan), where=total > 0))
        return _percentiles(np.concatenate(shares)) if shares else None

    def of_metric(
        self, prompt_ids: Sequence[str], metric: Callable[[NDArray[np.intp]], float | None]
    ) -> Interval | None:
        """Interval of any metric: a function of the indices of the items drawn (an item may come repeatedly)."""
        prompt_N, prompts = _numbered(prompt_ids)
        items = np.split(np.argsort(prompt_N, kind="stable"), np.cumsum(np.bincount(prompt_N))[:-1])
        found = [
            value if (value := metric(np.concatenate([items[prompt] for prompt in pick]))) is not None else np.nan
            for picks in self._picks(prompts)
            for pick in picks
        ]
        return _percentiles(np.array(found)) if found else None

    def _picks(self, prompts: int) -> Iterator[NDArray[np.intp]]:
        """Indices of the prompts drawn, in blocks (draws, prompts); none when an interval would mean nothing."""
        if prompts < 2:
            return
        rng = np.random.default_rng(seed_for("bootstrap", self.seed))
        block = max(_DRAWS_AT_ONCE // prompts, 1)
        for start in range(0, self.draws, block):
            yield rng.integers(prompts, size=(min(block, self.draws - start), prompts))


def _numbered(prompt_ids: Sequence[str]) -> tuple[NDArray[np.intp], int]:
    """The number of each item's prompt, in order of appearance, and how many prompts there are."""
    numbers: dict[str, int] = {}
    prompt_N = np.array([numbers.setdefault(prompt_id, len(numbers)) for prompt_id in prompt_ids], np.intp)
    return prompt_N, len(numbers)


def _percentiles(values: Floats) -> Interval | None:
    defined = values[np.isfinite(values)]
    if 2 * len(defined) <= len(values):
        return None
    low, high = np.quantile(defined, (0.025, 0.975))
    return float(low), float(high)
