"""VideoReward and VideoScore of any size with random weights, to measure without their checkpoints.

Everything around the networks (tokenizer, frame rules) is that of the tiny checkpoints in tests/goldens. Their
tokenizers make more tokens of a text than real ones would, so `text_tokens` cuts it to the published length.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2VLConfig, Qwen2VLModel

from policies.rewards.published import PublishedFolder
from policies.rewards.videoreward.model import VideoReward
from policies.rewards.videoreward.network import VideoRewardNetwork
from policies.rewards.videoreward.pixels import FrameRules
from policies.rewards.videoreward.template import VIDEO_TOKEN
from policies.rewards.videoreward.tokens import RewardTokenizer
from policies.rewards.videoscore.idefics2 import Idefics2ScoreNetwork, idefics2_config
from policies.rewards.videoscore.idefics2_reader import Idefics2Reader, image_rules
from policies.rewards.videoscore.inputs import FramesInput
from policies.rewards.videoscore.model import VideoScore
from policies.rewards.videoscore.tokens import load_tokenizer

GOLDENS = Path(__file__).parents[1] / "goldens"

VIDEOREWARD: dict[str, dict[str, Any]] = {
    "qwen2-vl-2b": {
        "text": {
            "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
            "num_key_value_heads": 2, "vocab_size": 151660, "mrope_section": [16, 24, 24],
        },
        "vision": {"depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": 1536},
        "text_tokens": 850,
    },
    "tiny": {
        "text": {
            "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 512, "mrope_section": [2, 3, 3],
        },
        "vision": {"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 64},
        "text_tokens": 100,
    },
}  # fmt: skip
VIDEOSCORE: dict[str, dict[str, Any]] = {
    "idefics2-8b": {
        "text": {
            "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 32003,
        },
        "vision": {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16},
        "perceiver": {
            "resampler_n_latents": 64, "resampler_depth": 3, "resampler_n_heads": 16, "resampler_head_dim": 96,
            "num_key_value_heads": 4,
        },
        "text_tokens": 350,
    },
    "tiny": {"text": {}, "vision": {}, "perceiver": {}, "text_tokens": 100},
}  # fmt: skip


def random_videoreward(size: str, *, device: str, dtype: torch.dtype, micro_batch_pixels: int) -> VideoReward:
    """VideoReward at a size, with random weights and the published rules of frames."""
    sizes = VIDEOREWARD[size]
    text = dict(sizes["text"])
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": text.pop("mrope_section")}
    tokenizer = _ShortText(sizes["text_tokens"])
    config = Qwen2VLConfig(
        text_config={
            **text,
            "rope_parameters": rope,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": None,
        },
        vision_config={**sizes["vision"], "mlp_ratio": 4, "patch_size": 14, "spatial_merge_size": 2},
        video_token_id=tokenizer.video_token_id,
    )
    network = VideoRewardNetwork(
        _filled(lambda: Qwen2VLModel(config), device, dtype),
        output_dim=1,
        reward_token="special",
        reward_token_ids=tokenizer.reward_token_ids,
        rotary="published" if dtype == torch.bfloat16 else "exact",
    )
    return VideoReward(
        network.eval().requires_grad_(False),
        tokenizer=tokenizer,
        rules=FrameRules(),
        own_scale=None,
        files={},
        revision=f"random {size}",
        micro_batch_pixels=micro_batch_pixels,
    )


def random_videoscore(size: str, *, device: str, dtype: torch.dtype, micro_batch_pixels: int) -> VideoScore:
    """VideoScore on Idefics2 at a size, with random weights and the published rules of frames."""
    sizes = VIDEOSCORE[size]
    folder = PublishedFolder(
        path=GOLDENS / "videoscore" / "VideoScore", setting="", repository="TIGER-Lab/VideoScore", revision=None
    )
    content = json.loads((folder.path / "config.json").read_text())
    for part in ("text", "vision", "perceiver"):
        content[f"{part}_config"] |= sizes[part]
    config = idefics2_config(content)
    reader = _ShortFramesText(
        load_tokenizer(folder.path / "tokenizer.json"),
        source="tokenizer.json",
        rules=image_rules(folder),
        tokens_per_frame=config.perceiver_config.resampler_n_latents,
        max_frames=16,
    )
    reader.text_tokens = sizes["text_tokens"]
    network = _filled(
        lambda: Idefics2ScoreNetwork(config, rules=reader.rules, image_token_id=reader.image_token_id), device, dtype
    )
    network.finish_loading()
    return VideoScore(
        network.eval().requires_grad_(False),
        reader=reader,
        files={},
        revision=f"random {size}",
        micro_batch_pixels=micro_batch_pixels,
    )


def _filled(build: Any, device: str, dtype: torch.dtype) -> Any:
    """A network without its own initialisation, which takes minutes at real sizes."""
    torch.manual_seed(0)
    with torch.device("meta"):
        network: nn.Module = build()
    network = network.to(dtype).to_empty(device=device)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.02) if weight.ndim > 1 else nn.init.ones_(weight)
    return network


class _ShortText(RewardTokenizer):
    """The tiny checkpoint's tokenizer, with the text before and after the video cut to a number of tokens."""

    def __init__(self, text_tokens: int) -> None:
        folder = GOLDENS / "videoreward" / "VideoReward" / "checkpoint-11352" / "tokenizer"
        super().__init__(
            load_tokenizer(folder / "tokenizer.json"), template_type="detailed_special", source=VIDEO_TOKEN
        )
        self._text_tokens = text_tokens

    def encode(self, prompt: str, *, video_tokens: int) -> Tensor:
        ids_L = super().encode(prompt, video_tokens=video_tokens)
        rest = [token for token in ids_L.tolist() if token not in (self.video_token_id, *self.reward_token_ids)]
        return torch.tensor(
            [self.video_token_id] * video_tokens + rest[: self._text_tokens - 3] + list(self.reward_token_ids)
        )


class _ShortFramesText(Idefics2Reader):
    """Likewise for VideoScore: frames keep their tokens."""

    text_tokens = 0

    def read(self, sampled_FHWC: Tensor, prompt: str) -> FramesInput:
        whole = super().read(sampled_FHWC, prompt)
        return FramesInput(ids_L=whole.ids_L[-self.text_tokens - len(sampled_FHWC) * (self.tokens_per_frame + 4) :],
                           frames_FCHW=whole.frames_FCHW)  # fmt: skip
