"""How the world's reward is trained: the loop of `policies.rewards.training` on synthetic pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from policies.optimizers import Schedule
from policies.rewards.training.loop import Step, train
from policies.rewards.training.losses import PairLoss
from policies.rewards.training.optimizer import AdamSettings, RewardOptimizer, WeightGroup
from policies.shapes.reward import ShapesRewardModel, is_inner_matrix

ClipsAndIds = tuple[Tensor, Tensor]
"""What the reward model takes: frames BFHWC in [0, 1] and token ids (B, L)."""

Progress = Callable[[int, int, float], None]
"""Called after each training step with steps done, steps in all, loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardTraining:
    """Settings. The learning rate rises over the warm-up and falls linearly to zero; Muon trains the inner matrices."""

    steps: int = 900
    lr: float = 3e-3
    warmup_steps: int = 20
    theta: float = 3.0
    shrinkage: float = 1e-3


def train_reward(
    model: ShapesRewardModel,
    steps: Iterable[Step[ClipsAndIds]],
    settings: RewardTraining,
    *,
    seed: int,
    progress: Progress | None = None,
) -> ShapesRewardModel:
    """Trains the model in place and returns it in evaluation mode.

    Args:
        steps: at least `settings.steps` of them.
        seed: of what the model draws while it is trained (nothing, as it is).
        progress: called after each step.
    Raises:
        NonFiniteError: a loss or gradient is not finite.
    """
    model.train()
    named = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    inner = [name for name, weight in named.items() if is_inner_matrix(name, weight)]
    optimizer = RewardOptimizer(
        [
            WeightGroup(name="inner", weights={n: named[n] for n in inner}, lr=settings.lr, is_muon=True),
            WeightGroup(name="rest", weights={n: named[n] for n in named if n not in inner}, lr=settings.lr),
        ],
        Schedule(lr=1.0, steps=settings.steps, warmup_steps=settings.warmup_steps, decay_start=0.0),
        AdamSettings(betas=(0.9, 0.95)),
    )
    loss = PairLoss(theta=settings.theta, shrinkage=settings.shrinkage, invalid="left_out")
    for stats in train(lambda videos: model(*videos), steps, loss=loss, optimizer=optimizer, seed=seed):
        if progress is not None:
            progress(stats.step, settings.steps, stats.loss)
        if stats.step == settings.steps:
            break
    model.eval()
    return model
