"""From the scored candidates of a prompt to the pair that trains, or to the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from policies.calibration import Reward
from policies.config import PairsConfig
from policies.seeds import seed_for
from policies.types import Drop, Group, Outcome, Pair, SampleRequest, Scored


class PairSelector:
    """Selects DPO's pairs. A `Selector` of `online_vpo`.

    A group is dropped, whatever the selection, unless two members have finite rewards (`too_few_scores`) and the best
    is better than the worst by more than `min_gap` (`gap_too_small`). So the controls `random` and `reversed` train on
    the groups that `best_worst` would, and differ in one thing only. Ties among several best, or several worst, go to
    the lowest index.
    """

    def __init__(self, reward: Reward, pairs: PairsConfig, *, run_seed: int) -> None:
        self._reward, self._pairs, self._run_seed = reward, pairs, run_seed

    def select(self, request: SampleRequest, scored: Sequence[Scored]) -> Outcome:
        """The pair of a group, or why it is dropped."""
        group = Group(
            group_id=request.group_id,
            prompt=request.prompt,
            members=tuple(scored),
            rewards=tuple(self._reward_of(member) for member in scored),
        )
        rewards = {index: reward for index, reward in enumerate(group.rewards) if reward is not None}
        if len(rewards) < 2:
            return Drop(group=group, reason="too_few_scores")
        best = max(rewards, key=rewards.__getitem__)  # the first of several
        worst = min(rewards, key=rewards.__getitem__)
        if not rewards[best] - rewards[worst] > self._pairs.min_gap:
            return Drop(group=group, reason="gap_too_small")
        match self._pairs.selection:
            case "best_worst":
                return Pair(group=group, chosen=best, rejected=worst)
            case "reversed":
                return Pair(group=group, chosen=worst, rejected=best)
            case "random":
                chosen, rejected, *_ = sorted(rewards, key=lambda index: self._lot(group.group_id, index))
                return Pair(group=group, chosen=chosen, rejected=rejected)

    def _reward_of(self, member: Scored) -> float | None:
        if not member.is_valid:
            return None
        reward = self._reward(member.scores)
        return reward if math.isfinite(reward) else None  # finite scores can still overflow in a sum

    def _lot(self, group_id: str, index: int) -> int:
        return seed_for("random_pair", self._run_seed, group_id, index)
