"""The world's learned reward: visual quality, motion quality and text alignment of a clip, as a PreTrainedModel.

Legend: B clips, F frames, H height, W width, C colour channels, L text tokens, V vocabulary, D features.

It is learned from preferences between synthetic clips (policies.rewards.bradley_terry), so its scores have no unit:
they order clips. The heads for VQ and MQ never see the prompt. The head for TA gives one logit per word of the world
and adds those that the prompt names, so it works for combinations of words that it never met.

    model = ShapesRewardModel.from_pretrained(folder)
    model.score_frames(frames_BFHWC, ["a red circle moving left slowly"])       # (B, 3), differentiable
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from policies.errors import InputError
from policies.shapes.prompts import ATTRIBUTE_WORDS, parse_prompt
from policies.shapes.text import END, VOCABULARY
from policies.shapes.world import NUM_FRAMES, SIZE

DIMENSIONS = ("VQ", "MQ", "TA")


class ShapesRewardConfig(PreTrainedConfig):  # type: ignore[misc]
    """Sizes of the model, names of its scores, and the token id of every word it knows."""

    model_type = "shapes_reward"

    def __init__(
        self,
        dimensions: Sequence[str] = DIMENSIONS,
        channels: Sequence[int] = (16, 32, 48, 48),
        features: int = 64,
        vocabulary: dict[str, int] | None = None,
        num_frames: int = NUM_FRAMES,
        size: int = SIZE,
        **kwargs: Any,
    ) -> None:
        self.dimensions = list(dimensions)
        self.channels = list(channels)
        self.features = features
        self.vocabulary = dict(VOCABULARY if vocabulary is None else vocabulary)
        self.num_frames = num_frames
        self.size = size
        super().__init__(**kwargs)


class ShapesRewardModel(PreTrainedModel):  # type: ignore[misc]
    """A small 3-D convolutional network over frames and frame differences, with three heads."""

    config_class = ShapesRewardConfig
    base_model_prefix = "shapes_reward"
    main_input_name = "frames"

    def __init__(self, config: ShapesRewardConfig) -> None:
        super().__init__(config)
        widths = [6, *config.channels]
        strides = [(1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 1, 1)]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv3d(a, b, 3, stride, padding=1), nn.GroupNorm(8, b), nn.SiLU())
            for a, b, stride in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        cells = -(-config.num_frames // 4) * (config.size // 8) ** 2
        self.layout = nn.Linear(widths[-1] * cells, config.features)
        self.statistics = nn.Linear(2 * sum(widths[1:-1]), config.features)
        self.visual = _head(config.features, 1)
        self.motion = _head(config.features, 1)
        self.words = _head(config.features, len(config.vocabulary))
        is_attribute_V = torch.zeros(len(config.vocabulary))
        is_attribute_V[[config.vocabulary[word] for word in ATTRIBUTE_WORDS if word in config.vocabulary]] = 1.0
        self.register_buffer("is_attribute_V", is_attribute_V)
        self.post_init()

    def forward(self, frames: Tensor, input_ids: Tensor) -> Tensor:
        """Raw scores (B, 3) float32 in the order of config.dimensions, differentiable with respect to frames.

        Args:
            frames: BFHWC float in [0, 1], 9 frames of 32x32 RGB.
            input_ids: (B, L) of the world's tokenizer; pads, </s> and filler words count for nothing.
        Raises:
            InputError: frames of another size.
        """
        expected = (self.config.num_frames, self.config.size, self.config.size, 3)
        if frames.shape[1:] != expected:
            raise InputError(f"frames of shape {tuple(frames.shape[1:])}; this reward model takes {expected} (FHWC).")
        features_BD = self._features(frames.permute(0, 4, 1, 2, 3).float())
        logits_BV = self.words(features_BD) * self.is_attribute_V
        alignment_B1 = logits_BV.gather(1, input_ids).sum(1, keepdim=True)
        return torch.cat([self.visual(features_BD), self.motion(features_BD), alignment_B1], dim=1).float()

    def double_products(self) -> ShapesRewardModel:
        """Every matrix product in float64 from here on: in float32 its rounding depends on the number of clips."""
        for module in (self.layout, self.statistics, self.visual, self.motion, self.words):
            module.double()
        return self

    def score_frames(self, frames_BFHWC: Tensor, prompts: Sequence[str]) -> Tensor:
        """Raw scores (B, 3) float32 of clips against prompts given as text. See forward.

        Raises:
            InputError: frames of another size, another number of prompts, or text that is not of this world.
        """
        if len(prompts) != len(frames_BFHWC):
            raise InputError(f"{len(frames_BFHWC)} clips but {len(prompts)} prompts; give one prompt for each clip.")
        scores: Tensor = self(frames_BFHWC, self.token_ids(prompts))
        return scores

    def token_ids(self, prompts: Sequence[str]) -> Tensor:
        """Ids (B, 7) of the world's tokenizer, which is saved beside the model as well: six words and the end."""
        words = [[*parse_prompt(prompt).prompt.split(), END] for prompt in prompts]
        ids = [[self.config.vocabulary[word] for word in line] for line in words]
        return torch.tensor(ids, dtype=torch.long, device=self.device).reshape(len(prompts), 7)

    def _features(self, video_BCFHW: Tensor) -> Tensor:
        change_BCFHW = F.pad(video_BCFHW.diff(dim=2), (0, 0, 0, 0, 1, 0))
        x = torch.cat([2 * video_BCFHW - 1, 4 * change_BCFHW], dim=1)
        summary = []
        for stage in self.stages:
            x = stage(x)
            mean = x.mean((2, 3, 4), keepdim=True)
            spread = ((x - mean).square().mean((2, 3, 4)) + 1e-6).sqrt()  # sqrt has no gradient at 0
            summary += [mean.flatten(1), spread]
        dtype = self.layout.weight.dtype
        layout_BD = F.silu(self.layout(x.flatten(1).to(dtype)))
        return torch.cat([layout_BD, F.silu(self.statistics(torch.cat(summary[:-2], 1).to(dtype)))], dim=1)


def is_inner_matrix(name: str, weight: Tensor) -> bool:
    """Weights between features, which Muon trains: not those at the pixels (stages.0) and not the scores (2.weight)."""
    return weight.dim() >= 2 and not name.startswith("stages.0") and not name.endswith("2.weight")


def _head(features: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2 * features, features), nn.SiLU(), nn.Linear(features, outputs))


def new_reward_model(seed: int) -> ShapesRewardModel:
    """An untrained model; the global random state is left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ShapesRewardModel(ShapesRewardConfig())


AutoConfig.register(ShapesRewardConfig.model_type, ShapesRewardConfig)
AutoModel.register(ShapesRewardConfig, ShapesRewardModel)
