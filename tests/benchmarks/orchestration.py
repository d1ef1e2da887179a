"""What orchestration costs: the same updates by a straight-line loop, by `in_process` and by `split`, alternated.

    python -m tests.benchmarks.orchestration [--updates 20] [--rounds 5] [--inference-steps 6] [--json]

Time runs from the first request to the last commit, start-up apart; threads, checkpoint interval and slices are equal,
and `split` has one generator, so that all three do the same work one after the other. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cluster.config import RunConfig
from cluster.controller import run
from cluster.observer import SilentObserver
from cluster.parts import sampling_of, set_threads, shape_of
from policies.learner import LocalLearner
from policies.load import load_policy
from policies.online_vpo import LoopPlan
from policies.prompts import load_prompts, prompt_batches
from policies.rewards.model import load_reward_model
from policies.types import Candidate, Group, Pair, Scored
from policies.weights import WeightDirectory


class Stopwatch(SilentObserver):
    """Seconds from the first request to the last commit."""

    def __init__(self) -> None:
        self.begun = self.ended = 0.0

    def on_stage(self, name: str) -> None:
        if name == "train":
            self.begun = time.perf_counter()

    def on_commit(self, update: int) -> None:
        self.ended = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.ended - self.begun


def config_of(folder: Path, *, mode: str, updates: int, interval: int, inference_steps: int) -> RunConfig:
    """The bundled world's demo, without calibration and tests, which are not orchestration."""
    return RunConfig.model_validate(
        {
            "run_id": mode,
            "output_dir": str(folder),
            "updates": updates,
            "prompts_per_update": 8,
            "reference_update_interval": 20,
            "policy": {"path": "shapes", "lora": {"rank": 8, "alpha": 8.0}},
            "sampling": {
                "candidates_per_prompt": 4,
                "num_inference_steps": inference_steps,
                "guidance_scale": 1.0,
                "max_sequence_length": 8,
                "num_frames": 9,
                "height": 32,
                "width": 32,
                "fps": 8.0,
            },
            "prompts": {"train": "shapes:train"},
            "reward": {"combine": "weighted_sum"},
            "objective": {"beta": 100.0, "draws_per_pair": 2},
            "learner": {"learning_rate": 1e-3, "adam_betas": (0.9, 0.95), "warmup_updates": 5},
            "checkpoint": {"interval_updates": interval},
            "placement": {"mode": mode, "generators": 1},
        }
    )


def straight_line(config: RunConfig, folder: Path) -> float:
    """The algorithm written down without any of the orchestration: no groups, no records, no versions, no event loop
    around more than one call. It saves its state as often as the runs do: a loop that cannot resume is no peer."""
    set_threads(config)
    policy = load_policy(config.policy, seed=config.seed)
    model = load_reward_model(config.reward, device="cpu")
    learner = LocalLearner(
        policy,
        config.learner,
        config.objective,
        run_seed=config.seed,
        max_sequence_length=config.sampling.max_sequence_length,
    )
    sampling, shape = sampling_of(config), shape_of(config)
    plan = LoopPlan(
        run_seed=config.seed,
        candidates_per_prompt=4,
        is_online=True,
        sampling=sampling,
        shape=shape,
        reference_update_interval=config.reference_update_interval,
    )
    prompts = load_prompts("shapes:train")
    weights = WeightDirectory(folder / "weights")
    interval = config.checkpoint.interval_updates
    assert isinstance(interval, int)
    begun = time.perf_counter()
    for batch in prompt_batches(prompts, per_update=8, run_seed=config.seed, first=0, last=config.updates):
        if plan.is_swap_due(learner):
            asyncio.run(learner.update_reference())
        pairs = []
        policy.blend("policy", "behaviour")
        for request in plan.requests(batch):
            (embedding,) = policy.embed([request.prompt.text], max_sequence_length=sampling.max_sequence_length)
            with torch.no_grad(), policy.use("behaviour"):
                latents = policy.sample(embedding, None, request.seeds, shape=shape, sampling=sampling)
            frames = policy.decode(latents)
            with torch.no_grad():
                scores = model.score([model.prepare(clip, request.prompt.text, config.sampling.fps) for clip in frames])
            rewards = scores.sum(1).tolist()
            members = tuple(
                Scored(
                    candidate=Candidate(
                        group_id=request.group_id,
                        prompt=request.prompt,
                        shape=shape,
                        seed=seed,
                        policy_version=batch.index,
                        weights_hash="",
                        latents=latents[i],
                        frames=None,
                    ),
                    scores={"sum": rewards[i]},
                )
                for i, seed in enumerate(request.seeds)
            )
            group = Group(group_id=request.group_id, prompt=request.prompt, members=members, rewards=tuple(rewards))
            pairs.append(Pair(group=group, chosen=rewards.index(max(rewards)), rejected=rewards.index(min(rewards))))
        asyncio.run(learner.update(pairs, batch_index=batch.index))
        if learner.policy_version % interval == 0:
            weights.publish(learner.policy_version, policy, "policy", {})
            learner.save(folder / f"{learner.policy_version:06d}")
    return time.perf_counter() - begun


def placed(config: RunConfig) -> float:
    """The same by the program itself."""
    watch = Stopwatch()
    run(config, observer=watch)
    return watch.seconds


def measure(*, updates: int, rounds: int, inference_steps: int, interval: int) -> dict[str, Any]:
    """Alternates the three, so that a machine that drifts drifts for all of them, and takes medians of ratios."""
    seconds: dict[str, list[float]] = {"straight_line": [], "in_process": [], "split": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            common: Mapping[str, Any] = {"updates": updates, "interval": interval, "inference_steps": inference_steps}
            seconds["straight_line"].append(
                straight_line(config_of(folder, mode="in_process", **common), folder / "straight")
            )
            for mode in ("in_process", "split"):
                seconds[mode].append(placed(config_of(folder, mode=mode, **common)))

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))

    added = statistics.median(s - i for s, i in zip(seconds["split"], seconds["in_process"], strict=True))
    return {
        "in_process_over_straight_line": ratio("in_process", "straight_line"),
        "split_over_in_process": ratio("split", "in_process"),
        "split_over_straight_line": ratio("split", "straight_line"),
        "split_added_ms_per_update": 1000 * added / updates,
        "updates": updates,
        "seconds_per_update": statistics.median(seconds["in_process"]) / updates,
        "seconds": seconds,
        "inference_steps": inference_steps,
        "checkpoint_interval_updates": interval,
        "rounds": rounds,
        "machine": {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "ray": version("ray"),
            "diffusers": version("diffusers"),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--interval", type=int, default=5, help="updates between checkpoints")
    parser.add_argument("--inference-steps", type=int, default=6, help="more make an update's compute longer")
    parser.add_argument("--json", action="store_true", help="the default and only form; accepted for symmetry")
    arguments = parser.parse_args()
    print(
        json.dumps(
            measure(
                updates=arguments.updates,
                rounds=arguments.rounds,
                interval=arguments.interval,
                inference_steps=arguments.inference_steps,
            )
        )
    )


if __name__ == "__main__":
    main()
