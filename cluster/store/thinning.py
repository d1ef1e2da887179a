"""Fewer points that draw the same curve: of each bucket of updates its lowest and its highest, so that spikes stay."""

from __future__ import annotations

import numpy as np

from cluster.store.columns import Updates, Values

FEWEST = 4


def thinned(updates: Updates, values: Values, max_points: int) -> tuple[Updates, Values]:
    """At most `max_points` (>= 4) of the points, in order: the first, the last, and both extremes of each bucket."""
    if len(values) <= max_points:
        return updates, values
    inner = slice(1, -1)
    buckets = (max_points - 2) // 2
    first, last = int(updates[0]) + 1, int(updates[-1])
    bucket = (updates[inner] - first) * buckets // max(last - first, 1)
    starts = np.flatnonzero(np.diff(bucket, prepend=-1))
    kept = np.zeros(len(values), bool)
    kept[[0, -1]] = True
    for extremes in (np.minimum.reduceat(values[inner], starts), np.maximum.reduceat(values[inner], starts)):
        is_extreme = values[inner] == np.repeat(extremes, np.diff(starts, append=len(bucket)))
        places = np.flatnonzero(is_extreme)
        _, firsts = np.unique(bucket[places], return_index=True)
        kept[1 + places[firsts]] = True
    return updates[kept], values[kept]
