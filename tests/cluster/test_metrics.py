import json
import math

import numpy as np
import pytest

from cluster.metrics import metrics_line
from policies.types import Update, UpdateStats
from tests.cluster.outcomes import drop, pair


def update(loss: float | None = math.log(2), metrics: dict[str, float] | None = None) -> Update:
    stats = UpdateStats(
        batch_index=3,
        policy_version=3,
        reference_version=0,
        loss=loss,
        metrics={"implicit_accuracy": 0.5} if metrics is None else metrics,
        weights_hash="hash-4",
    )
    return Update(batch_index=3, outcomes=(pair(), drop()), stats=stats)


def line(of: Update) -> dict[str, object]:
    return metrics_line(of, seconds={"generate": 1.0}, pids={"learner": [7]})


def test_the_line_says_which_pair_trained_and_what_was_dropped() -> None:
    found = line(update())
    assert found["update"] == 3
    assert found["group_ids"] == ["u000003-p001"]
    assert found["pairs"] == [
        {
            "group_id": "u000003-p001",
            "prompt_id": "p7",
            "prompt": "a red circle moving left slowly",
            "chosen_seed": 102,
            "rejected_seed": 101,
            "chosen_reward": 0.5,
            "rejected_reward": -1.0,
        }
    ]
    assert (found["dropped"], found["dropped_reasons"], found["drop_rate"]) == (1, {"too_few_scores": 1}, 0.5)


def test_rewards_count_every_scored_member_and_no_failed_one() -> None:
    found = line(update())
    assert found["reward_mean"] == (0.25 - 1.0 + 0.5 + 0.5) / 4
    assert (found["videos"], found["unscored"]) == (5, 1)
    assert found["gap_mean"] == 1.5
    assert found["reward_group_std"] == pytest.approx(np.std([0.25, -1.0, 0.5]))  # the other group has one score only
    assert found["scores"]["VQ"]["mean"] == found["reward_mean"]  # type: ignore[index]


def test_the_loss_is_there_to_the_last_bit() -> None:
    found = line(update())
    assert float.fromhex(str(found["loss_hex"])) == math.log(2)


def test_a_skipped_batch_and_a_missing_value_are_null_in_strict_json() -> None:
    found = line(update(loss=None, metrics={"kl_base": math.nan}))
    assert (found["loss"], found["loss_hex"], found["kl_base"]) == (None, None, None)
    json.dumps(found, allow_nan=False)
