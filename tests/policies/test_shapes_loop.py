"""The whole loop in one process on the bundled world, judged by the exact scorer that it never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from policies.calibration import Calibration, Reward
from policies.config import LearnerConfig, LoraConfig, ObjectiveConfig, PairsConfig, PolicyConfig, ShapesRewardConfig
from policies.generator import LocalGenerator
from policies.learner import LocalLearner
from policies.load import load_policy
from policies.online_vpo import LoopPlan, PromptBatch, run_online_vpo
from policies.rewards.model import load_reward_model
from policies.scorer import LocalScorer
from policies.selection import PairSelector
from policies.shapes.prompts import TEST_PROMPTS, TRAIN_PROMPTS
from policies.shapes.truth import score_clips
from policies.types import Candidate, Prompt, Sampling, VideoShape
from policies.weights import MemoryWeights

SEED, UPDATES = 0, 12
SHAPE = VideoShape(num_frames=9, height=32, width=32)
SAMPLING = Sampling(num_inference_steps=6, guidance_scale=1.0, max_sequence_length=8)
PLAN = LoopPlan(run_seed=SEED, candidates_per_prompt=4, reference_update_interval=10, is_online=True,
                sampling=SAMPLING, shape=SHAPE)  # fmt: skip


class World:
    """Everything of a run, in one process."""

    def __init__(self, selection: str) -> None:
        policy = load_policy(PolicyConfig(path="shapes", lora=LoraConfig(rank=8, alpha=8)), seed=SEED)
        self._policy, self._selection = policy, selection
        self._weights = MemoryWeights()
        self._weights.publish(0, policy.export("policy"))
        self._generator = LocalGenerator(policy, self._weights)
        self._model = load_reward_model(ShapesRewardConfig(), device="cpu")
        self._scorer = LocalScorer(self._model, fps=8)
        config = LearnerConfig(learning_rate=1e-3, adam_betas=(0.9, 0.95), warmup_updates=5)
        objective = ObjectiveConfig(beta=100.0, draws_per_pair=2)
        self._learner = LocalLearner(policy, config, objective, run_seed=SEED, max_sequence_length=8)

    async def ground_truth(self) -> float:
        """Mean over test prompts, always of the same noise."""
        drawn = await self._draw(TEST_PROMPTS[::2], index=0, version=self._learner.policy_version)
        scores = score_clips(np.stack([c.frames for c in drawn]), [c.prompt.text for c in drawn])
        return float(np.mean([score.ground_truth for score in scores]))

    async def learn(self) -> None:
        calibration_clips = await self._draw(TRAIN_PROMPTS[::4], index=1, version=0)
        calibration = Calibration.fit([s.scores for s in await self._scorer.score(calibration_clips)])
        reward = Reward.of(ShapesRewardConfig(), dimensions=self._model.dimensions, calibration=calibration)
        pairs = PairsConfig.model_validate({"selection": self._selection})
        texts = np.random.default_rng(SEED).choice(TRAIN_PROMPTS, (UPDATES, 8))
        batches = [PromptBatch(index=u, prompts=prompts(row)) for u, row in enumerate(texts)]
        loop = run_online_vpo(
            batches,
            generator=self._generator,
            scorer=self._scorer,
            selector=PairSelector(reward, pairs, run_seed=SEED),
            learner=self._learner,
            plan=PLAN,
        )
        async for _ in loop:
            self._weights.publish(self._learner.policy_version, self._policy.export("policy"))

    async def _draw(self, texts: Sequence[str], *, index: int, version: int) -> list[Candidate]:
        plan = replace(PLAN, run_seed=SEED + 1, candidates_per_prompt=2)
        requests = plan.requests(PromptBatch(index=index, prompts=prompts(texts)))
        groups = [await self._generator.sample(replace(request, policy_version=version)) for request in requests]
        return [candidate for group in groups for candidate in group]


def prompts(texts: Sequence[str]) -> tuple[Prompt, ...]:
    return tuple(Prompt(id=str(text), text=str(text)) for text in texts)


@pytest.mark.slow
async def test_a_dozen_updates_improve_what_the_reward_model_cannot_see_and_exchanged_labels_spoil_it() -> None:
    gains = {}
    for selection in ("best_worst", "reversed"):
        world = World(selection)
        before = await world.ground_truth()
        await world.learn()
        gains[selection] = await world.ground_truth() - before
    assert gains["best_worst"] > 0.06
    assert gains["reversed"] < -0.06
