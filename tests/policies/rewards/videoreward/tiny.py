"""A VideoReward of a few thousand random weights, with the tokenizer of the goldens."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Qwen2VLConfig, Qwen2VLModel

from policies.rewards.videoreward.network import RewardToken, VideoInput, VideoRewardNetwork
from policies.rewards.videoreward.pixels import FrameRules, patches, resized
from policies.rewards.videoreward.tokens import RewardTokenizer
from tests.policies.rewards import goldens

BASE = goldens.FOLDER / "videoreward" / "base"
TOKENIZER = goldens.FOLDER / "videoreward" / "VideoReward" / "checkpoint-11352" / "tokenizer"
RULES = FrameRules(min_pixels=28 * 28, max_pixels=56 * 56)


def tokenizer(template_type: str = "short_special") -> RewardTokenizer:
    return RewardTokenizer.load(TOKENIZER, template_type=template_type)


def network(*, output_dim: int = 1, reward_token: RewardToken = "special", **options: Any) -> VideoRewardNetwork:
    torch.manual_seed(0)
    config = Qwen2VLConfig.from_pretrained(BASE)
    ids = tokenizer().reward_token_ids if reward_token == "special" else ()
    built = VideoRewardNetwork(
        Qwen2VLModel._from_config(config, dtype=torch.float32),
        output_dim=output_dim,
        reward_token=reward_token,
        reward_token_ids=ids,
        **options,
    )
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return built.eval()


def video(
    prompt: str, *, frames: int = 4, size: tuple[int, int] = (28, 28), template: str = "short_special"
) -> VideoInput:
    rng = torch.Generator().manual_seed(len(prompt) + frames)
    pixels_FHWC = torch.randint(0, 256, (frames, *size, 3), dtype=torch.uint8, generator=rng)
    patches_NP, grid = patches(resized(pixels_FHWC, RULES), RULES)
    ids_L = tokenizer(template).encode(prompt, video_tokens=len(patches_NP) // 4)
    return VideoInput(ids_L=ids_L, patches_NP=patches_NP, grid=grid)
