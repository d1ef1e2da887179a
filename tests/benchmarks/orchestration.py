"""What orchestration costs: the same updates by a straight-line loop, by `in_process` and by `split`, alternated.

    python -m tests.benchmarks.orchestration [--updates 20] [--rounds 5] [--inference-steps 6] [--json]

A round starts the three in fresh processes and lets them take turns, one update each, so that a machine whose speed
drifts drifts for all of them. Time runs from the first request to the last commit; start-up and the turns of the
others do not count. Threads, checkpoint interval and slices are equal, and `split` has one generator, so that all
three do the same work one after the other. Ratios and differences are medians over all rounds' blocks of updates, a
block being as long as the checkpoint interval. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any, TypeAlias

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

RUNNERS = ("straight_line", "in_process", "split")
TURN_LIMIT_S = 600.0

Finished: TypeAlias = tuple[str, list[float]]
"""A runner's name and the seconds of its turns."""


class Turns:
    """One runner's place in the ring: it works while it holds the token, and only then does its time count."""

    def __init__(self, mine: Semaphore, next_one: Semaphore) -> None:
        self._mine, self._next = mine, next_one
        self._since = 0.0
        self.seconds: list[float] = []  # of each turn

    def take(self) -> None:
        """Waits for the token."""
        if not self._mine.acquire(timeout=TURN_LIMIT_S):
            raise TimeoutError(f"waited {TURN_LIMIT_S:g} s for a turn: one of the other runners is stuck")
        self.seconds.append(0.0)
        self._since = time.perf_counter()

    def count(self) -> None:
        """Counts the time of this turn up to here."""
        now = time.perf_counter()
        self.seconds[-1] += now - self._since
        self._since = now

    def pass_on(self) -> None:
        """The next runner's turn."""
        self._next.release()


class TurnTaker(SilentObserver):
    """A turn for each update, and a last one for the last commit; what comes after that commit does not count."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def on_stage(self, name: str) -> None:
        if name == "train":
            self._turns.take()

    def on_update(self, line: Mapping[str, Any]) -> None:
        self._turns.count()
        self._turns.pass_on()
        self._turns.take()

    def on_commit(self, update: int) -> None:
        if update > 0:  # version 0 is committed before training
            self._turns.count()


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


def straight_line(config: RunConfig, folder: Path, turns: Turns) -> None:
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
    learner.rehearse(prompts[: config.prompts_per_update], shape)  # start-up, as in the runs
    weights = WeightDirectory(folder / "weights")
    interval = config.checkpoint.interval_updates
    assert isinstance(interval, int)
    for batch in prompt_batches(prompts, per_update=8, run_seed=config.seed, first=0, last=config.updates):
        turns.take()
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
        turns.count()
        turns.pass_on()
    turns.take()  # the others' last commit has one, too
    turns.pass_on()


def placed(config: RunConfig, folder: Path, turns: Turns) -> None:
    """The same by the program itself."""
    run(config, observer=TurnTaker(turns))
    turns.pass_on()


def _runner(name: str, mine: Semaphore, next_one: Semaphore, done: Queue[Finished], **sizes: Any) -> None:
    """A process of its own: one of the three, from loading to its last commit."""
    turns = Turns(mine, next_one)
    with tempfile.TemporaryDirectory() as folder:
        mode = "in_process" if name == "straight_line" else name
        go = straight_line if name == "straight_line" else placed
        go(config_of(Path(folder), mode=mode, **sizes), Path(folder), turns)
    done.put((name, turns.seconds))


def race(**sizes: Any) -> dict[str, list[float]]:
    """One round: seconds of each turn, by runner."""
    context = multiprocessing.get_context("spawn")
    tokens = [context.Semaphore(number) for number in (1, 0, 0)]
    done = context.Queue()
    runners = [
        context.Process(target=_runner, args=(name, tokens[i], tokens[(i + 1) % 3], done), kwargs=sizes)
        for i, name in enumerate(RUNNERS)
    ]
    for runner in runners:
        runner.start()
    for name, runner in zip(RUNNERS, runners, strict=True):
        runner.join()
        if runner.exitcode != 0:
            for other in runners:
                other.terminate()
            raise RuntimeError(f"{name} ended with exit code {runner.exitcode}; its error is above")
    return dict(done.get(timeout=TURN_LIMIT_S) for _ in RUNNERS)


def measure(*, updates: int, rounds: int, inference_steps: int, interval: int) -> dict[str, Any]:
    """Runs the rounds and compares."""
    seconds: dict[str, list[float]] = {name: [] for name in RUNNERS}  # of each round
    blocks: dict[str, list[float]] = {name: [] for name in RUNNERS}  # per update, of each round's blocks
    for _ in range(rounds):
        for name, turns in race(updates=updates, interval=interval, inference_steps=inference_steps).items():
            seconds[name].append(sum(turns))
            blocks[name] += [statistics.mean(turns[i : i + interval]) for i in range(0, updates, interval)]

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(blocks[one], blocks[other], strict=True))

    added = statistics.median(s - i for s, i in zip(blocks["split"], blocks["in_process"], strict=True))
    return {
        "in_process_over_straight_line": ratio("in_process", "straight_line"),
        "split_over_in_process": ratio("split", "in_process"),
        "split_over_straight_line": ratio("split", "straight_line"),
        "split_added_ms_per_update": 1000 * added,
        "updates": updates,
        "seconds_per_update": statistics.median(blocks["in_process"]),
        "seconds": seconds,
        "blocks": len(blocks["split"]),
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
