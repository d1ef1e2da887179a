"""The reward of a run: calibrated once on the initial policy, then frozen, so that its curve has one scale."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.config import RunConfig
from cluster.evaluation import EvaluationPlan, draw_samples
from cluster.parts import sampling_of, shape_of
from cluster.run_directory import RunDirectory, write_atomic, write_json
from policies.calibration import Calibration, Reward, check_weights
from policies.errors import InputError
from policies.online_vpo import Generator, Scorer
from policies.prompts import prompt_batches
from policies.seeds import seed_for
from policies.types import Prompt


async def calibrated_reward(
    config: RunConfig,
    directory: RunDirectory,
    prompts: Sequence[Prompt],
    *,
    generator: Generator,
    scorer: Scorer,
    reward_model: Mapping[str, Any],
) -> Reward:
    """The run's reward. Raw weighted sums need no calibration; otherwise the run's own is read, or made.

    Args:
        reward_model: what the scorer says that it scores with.
    Raises:
        InputError: the reward model is not the one that the run began with, or lacks a dimension that has a weight.
    """
    _check_reward_model(directory, reward_model)
    dimensions = reward_model["dimensions"]
    check_weights(config.reward, dimensions)  # before anything is drawn
    if config.reward.combine == "weighted_sum":
        return Reward.of(config.reward, dimensions=dimensions)
    file = directory.path / "calibration.json"
    if not file.is_file():
        if config.reward.combine == "own_scale":
            calibration = _own_scale(reward_model)
        else:
            calibration = await _calibrate(config, prompts, generator=generator, scorer=scorer)
        write_atomic(file, calibration.to_json().encode(), flush=True)
    return Reward.of(config.reward, dimensions=dimensions, calibration=Calibration.from_json(file.read_text()))


def _check_reward_model(directory: RunDirectory, reward_model: Mapping[str, Any]) -> None:
    """A run is scored with one revision from start to end, or its rewards would not be comparable."""
    file = directory.path / "reward_model.json"
    if not file.is_file():
        write_json(file, reward_model, flush=True)
        return
    begun = json.loads(file.read_bytes())
    if begun["revision"] != reward_model["revision"]:
        changed = [name for name in begun["files"] if begun["files"][name] != reward_model["files"].get(name)]
        raise InputError(
            f"the reward model is now {reward_model['name']}@{reward_model['revision'][:12]}, and the run began with "
            f"{begun['name']}@{begun['revision'][:12]} (changed: {', '.join(changed) or 'its settings'}); put the "
            "files back, or begin another run"
        )


def _own_scale(reward_model: Mapping[str, Any]) -> Calibration:
    """The scale that the reward model was published with; one without scores on it already."""
    if reward_model["own_scale"] is not None:
        return Calibration(**reward_model["own_scale"])
    names = reward_model["dimensions"]
    return Calibration(mean=dict.fromkeys(names, 0.0), std=dict.fromkeys(names, 1.0))


async def _calibrate(
    config: RunConfig, prompts: Sequence[Prompt], *, generator: Generator, scorer: Scorer
) -> Calibration:
    """Mean and deviation of each dimension over samples of version 0, spread over the training prompts."""
    per_prompt = config.sampling.candidates_per_prompt
    plan = EvaluationPlan(
        seed=seed_for("calibration", config.seed),
        samples_per_prompt=per_prompt,
        sampling=sampling_of(config),
        shape=shape_of(config),
    )
    count = math.ceil(config.reward.calibration_samples / per_prompt)
    (batch,) = prompt_batches(prompts, per_update=count, run_seed=plan.seed, first=0, last=1)
    samples = await draw_samples(
        plan.requests(batch.prompts, version=0), generator=generator, scorer=scorer, reward=None
    )
    return Calibration.fit([sample.scores for sample in samples if sample.scores])
