"""Builds the three parts of a run from its configuration, in whatever process they live."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cluster.config import RunConfig
from cluster.described_scorer import DescribedScorer
from cluster.run_directory import RunDirectory
from policies.generator import LocalGenerator
from policies.learner import AllReduce, LocalLearner
from policies.load import load_policy
from policies.policy import VideoPolicy
from policies.prompts import load_prompts
from policies.rewards.model import load_reward_model
from policies.types import Prompt, Sampling, Selection, UpdateStats, VideoShape
from policies.weights import WeightDirectory, weights_hash


def set_threads(config: RunConfig) -> None:
    """CPU threads are part of the run's numbers, so every process that computes sets them first."""
    torch.set_num_threads(config.torch_threads)


def sampling_of(config: RunConfig) -> Sampling:
    """The run's sampling, as requests carry it."""
    section = config.sampling
    return Sampling(
        num_inference_steps=section.num_inference_steps,
        guidance_scale=section.guidance_scale,
        max_sequence_length=section.max_sequence_length,
        negative_prompt=section.negative_prompt,
    )


def shape_of(config: RunConfig) -> VideoShape:
    """The run's default shape."""
    section = config.sampling
    return VideoShape(num_frames=section.num_frames, height=section.height, width=section.width)


def load_run_prompts(config: RunConfig) -> dict[str, list[Prompt]]:
    """Train, validation and test prompts, as far as the configuration names them."""
    sections = config.prompts
    named = {"train": sections.train, "validation": sections.validation, "test": sections.test}
    return {name: load_prompts(source) for name, source in named.items() if source is not None}


def embed_prompts(policy: VideoPolicy, config: RunConfig) -> None:
    """Embeds every prompt of the run once; the text encoder then leaves memory."""
    texts = {prompt.text for prompts in load_run_prompts(config).values() for prompt in prompts}
    if config.sampling.guidance_scale > 1:
        texts.add(config.sampling.negative_prompt)
    policy.embed(sorted(texts), max_sequence_length=config.sampling.max_sequence_length)
    policy.release_text_encoder()


class LearnerPart:
    """A learner with its policy and the place where its weights are published."""

    def __init__(self, learner: LocalLearner, policy: VideoPolicy, weights: WeightDirectory) -> None:
        self._learner, self._policy, self._weights = learner, policy, weights
        self.weights_hash = weights_hash(self.export())

    @property
    def policy_version(self) -> int:
        return self._learner.policy_version

    @property
    def reference_version(self) -> int:
        return self._learner.reference_version

    async def update(self, batch: Sequence[Selection], *, batch_index: int) -> UpdateStats:
        """One update; the pairs carry their latents."""
        stats = await self._learner.update(batch, batch_index=batch_index)
        self.weights_hash = stats.weights_hash
        return stats

    async def update_reference(self) -> int:
        return await self._learner.update_reference()

    def export(self) -> dict[str, Tensor]:
        """A copy of the policy's weights."""
        return self._policy.export("policy")

    def publish(self) -> None:
        """Writes the current version into the run directory; harmless to repeat."""
        self._weights.publish(self.policy_version, self._policy, "policy")

    def save(self, folder: Path) -> dict[str, str]:
        """Writes the learner's state; sha256 by file name."""
        return self._learner.save(folder)

    def restore(self, folder: Path) -> None:
        """Goes on from what `save` wrote."""
        self._learner.restore(folder)
        self.weights_hash = weights_hash(self.export())


def build_learner(
    config: RunConfig,
    run_dir: Path,
    policy: VideoPolicy,
    *,
    rank: int = 0,
    world_size: int = 1,
    all_reduce: AllReduce | None = None,
) -> LearnerPart:
    """A learner that trains this policy."""
    learner = LocalLearner(
        policy,
        config.learner,
        config.objective,
        run_seed=config.seed,
        max_sequence_length=config.sampling.max_sequence_length,
        rank=rank,
        world_size=world_size,
        all_reduce=all_reduce,
    )
    learner.rehearse(_rehearsal_prompts(config, world_size), shape_of(config))
    return LearnerPart(learner, policy, WeightDirectory(RunDirectory(run_dir).weights))


def _rehearsal_prompts(config: RunConfig, world_size: int) -> list[Prompt]:
    """As many as fill one forward of each rank."""
    count = config.prompts_per_update
    if config.learner.pairs_per_forward is not None:
        count = min(count, -(-config.learner.pairs_per_forward * world_size // config.objective.draws_per_pair))
    return load_run_prompts(config)["train"][:count]


def generator_part(config: RunConfig, run_dir: Path) -> LocalGenerator:
    """The generator of a process of its own."""
    set_threads(config)
    policy = load_policy(config.policy, seed=config.seed, weight_sets=("behaviour",))
    embed_prompts(policy, config)
    weights = WeightDirectory(RunDirectory(run_dir).weights)
    return LocalGenerator(policy, weights, candidates_per_slice=config.sampling.candidates_per_slice)


def scorer_part(config: RunConfig) -> DescribedScorer:
    """The scorer of a process of its own."""
    set_threads(config)
    return DescribedScorer(load_reward_model(config.reward, device=config.policy.device), fps=config.sampling.fps)


def learner_part(
    config: RunConfig, run_dir: Path, rank: int, world_size: int, all_reduce: AllReduce | None
) -> LearnerPart:
    """The learner of a rank."""
    set_threads(config)
    policy = load_policy(config.policy, seed=config.seed, weight_sets=("policy", "reference"))
    embed_prompts(policy, config)
    return build_learner(config, run_dir, policy, rank=rank, world_size=world_size, all_reduce=all_reduce)
