"""One line of metrics.jsonl: what an update did, in numbers that JSON can hold. docs/metrics.md explains each key."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policies.types import Drop, Outcome, Pair, Update


def metrics_line(update: Update, *, seconds: Mapping[str, float], pids: Mapping[str, Any]) -> dict[str, Any]:
    """The line of one update. A value that does not exist is null, never NaN."""
    stats = update.stats
    groups = [outcome.group for outcome in update.outcomes]
    rewards = [reward for group in groups for reward in group.rewards if reward is not None]
    pairs = [outcome for outcome in update.outcomes if isinstance(outcome, Pair)]
    reasons = Counter(outcome.reason for outcome in update.outcomes if isinstance(outcome, Drop))
    line: dict[str, Any] = {
        "update": update.batch_index,
        "policy_version": stats.policy_version,
        "reference_version": stats.reference_version,
        "loss": stats.loss,
        "loss_hex": None if stats.loss is None else stats.loss.hex(),
        "group_ids": [pair.group_id for pair in pairs],
        "dropped": sum(reasons.values()),
        "dropped_reasons": dict(reasons),
        "drop_rate": sum(reasons.values()) / len(update.outcomes),
        "pairs": [_pair(pair) for pair in pairs],
        "videos": sum(len(group.members) for group in groups),
        "unscored": sum(not member.is_valid for group in groups for member in group.members),
        **_spread("reward_", rewards),
        "reward_group_std": _mean_group_std(update.outcomes),
        "gap_mean": float(np.mean([pair.gap for pair in pairs])) if pairs else None,
        "scores": _scores_by_dimension(update.outcomes),
        "weights_hash": stats.weights_hash,
        "seconds": {name: round(value, 6) for name, value in seconds.items()},
        "pids": dict(pids),
    }
    return line | {
        name: value if math.isfinite(value) else None for name, value in stats.metrics.items() if name not in line
    }


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "group_id": pair.group_id,
        "prompt_id": pair.prompt.id,
        "prompt": pair.prompt.text,
        "chosen_seed": pair.chosen_candidate.seed,
        "rejected_seed": pair.rejected_candidate.seed,
        "chosen_reward": pair.group.rewards[pair.chosen],
        "rejected_reward": pair.group.rewards[pair.rejected],
    }


def _mean_group_std(outcomes: Sequence[Outcome]) -> float | None:
    """Spread of rewards within a group, mean over groups: what there is to choose between."""
    groups = [[r for r in outcome.group.rewards if r is not None] for outcome in outcomes]
    spreads = [float(np.std(rewards)) for rewards in groups if len(rewards) > 1]
    return float(np.mean(spreads)) if spreads else None


def _scores_by_dimension(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float | None]]:
    members = [member for outcome in outcomes for member in outcome.group.members if member.is_valid]
    dimensions = dict.fromkeys(name for member in members for name in member.scores)
    return {name: _spread("", [member.scores[name] for member in members]) for name in dimensions}


def _spread(prefix: str, values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return dict.fromkeys((f"{prefix}mean", f"{prefix}std", f"{prefix}p10", f"{prefix}p90"))
    array = np.asarray(values, float)
    return {
        f"{prefix}mean": float(array.mean()),
        f"{prefix}std": float(array.std()),
        f"{prefix}p10": float(np.quantile(array, 0.1)),
        f"{prefix}p90": float(np.quantile(array, 0.9)),
    }
