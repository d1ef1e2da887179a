"""Whether the model of a service is the one that a run's configuration describes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from policies.config import RewardModelConfig
from policies.errors import InputError

# Settings of a reward section that do not change what a video scores.
_NOT_OF_THE_SCORES = {"weights", "device", "combine", "calibration_samples", "micro_batch_pixels", "also"}


def check_model(reward: RewardModelConfig, described: Mapping[str, Any], *, app: str) -> None:
    """Compares a run's `reward` section with what a replica says of itself.

    Raises:
        InputError: they differ in something that changes scores.
    """
    if "reward" not in described:
        raise InputError(f"placement.reward_app is {app!r}, which belongs to another run; name a model of a service")
    for key, wanted, served in _differences("reward", reward.model_dump(mode="json"), described["reward"]):
        raise InputError(
            f"placement.reward_app: {app} is served with {key}: {served} and the run's configuration says {wanted}; "
            "make the two the same, or set placement.reward_app: null for replicas of the run's own"
        )


def _differences(name: str, run: Mapping[str, Any], served: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Key, the run's value and the served one."""
    keys = (run.keys() | served.keys()) - _NOT_OF_THE_SCORES
    for key in sorted(keys, key=lambda key: (key != "model", key)):  # the others follow from another model
        if run.get(key) != served.get(key):
            yield f"{name}.{key}", run.get(key), served.get(key)
    nothing: dict[str, Any] = {}
    for index, (one, other) in enumerate(zip_longest(run.get("also", ()), served.get("also", ()), fillvalue=nothing)):
        yield from _differences(f"{name}.also.{index}", one, other)
