import re
from typing import Any

import pytest

from cluster.serving.same_model import check_model
from policies.config import RewardModelConfig, ShapesRewardConfig, VideoRewardConfig
from policies.errors import InputError


def served(reward: RewardModelConfig) -> dict[str, Any]:
    return {"reward": reward.model_dump(mode="json")}


PUBLISHED = VideoRewardConfig(path="/models/vr", dtype="bfloat16")


@pytest.mark.parametrize(
    ("run", "other"),
    [
        (ShapesRewardConfig(), ShapesRewardConfig(weights={"VQ": 1}, calibration_samples=8, combine="weighted_sum")),
        (PUBLISHED, PUBLISHED.model_copy(update={"device": "cuda:1", "micro_batch_pixels": 1000})),
        (ShapesRewardConfig(also=(PUBLISHED,)), ShapesRewardConfig(also=(PUBLISHED,))),
    ],
)
def test_what_does_not_change_scores_may_differ(run: RewardModelConfig, other: RewardModelConfig) -> None:
    check_model(run, served(other), app="toy")


@pytest.mark.parametrize(
    ("run", "other", "says"),
    [
        (PUBLISHED, ShapesRewardConfig(), "reward.model: shapes and the run's configuration says videoreward"),
        (PUBLISHED, PUBLISHED.model_copy(update={"dtype": "float32"}), "reward.dtype: float32 and the run's"),
        (PUBLISHED, PUBLISHED.model_copy(update={"revision": "b"}), "reward.revision: b and the run's"),
        (PUBLISHED, PUBLISHED.model_copy(update={"rotary": "exact"}), "reward.rotary: exact and the run's"),
        (ShapesRewardConfig(), ShapesRewardConfig(path="/mine"), "reward.path: /mine and the run's"),
        (
            ShapesRewardConfig(),
            ShapesRewardConfig(also=(PUBLISHED,)),
            "reward.also.0.model: videoreward and the run's configuration says None",
        ),
    ],
)
def test_what_changes_scores_is_named(run: RewardModelConfig, other: RewardModelConfig, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"toy is served with {says}")):
        check_model(run, served(other), app="toy")


def test_replicas_of_another_run_are_not_shared() -> None:
    with pytest.raises(InputError, match="belongs to another run"):
        check_model(ShapesRewardConfig(), {"name": "brightness"}, app="toy")
