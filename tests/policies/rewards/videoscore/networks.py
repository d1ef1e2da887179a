"""VideoScore networks and inputs of the reference values."""

from __future__ import annotations

import json
from functools import cache

import torch
from safetensors.torch import load_file

from policies.rewards.videoscore.idefics2 import Idefics2ScoreNetwork, idefics2_config
from policies.rewards.videoscore.idefics2_reader import Idefics2Reader
from policies.rewards.videoscore.inputs import FramesInput
from policies.rewards.videoscore.pixels import ImageRules
from policies.rewards.videoscore.tokens import load_tokenizer
from tests.policies.rewards import goldens

FOLDER = goldens.FOLDER / "videoscore" / "VideoScore"
RULES = ImageRules()
EXPECTED = goldens.expected("videoscore")


def reader(max_frames: int = 16) -> Idefics2Reader:
    file = FOLDER / "tokenizer.json"
    return Idefics2Reader(
        load_tokenizer(file), source=str(file), rules=RULES, tokens_per_frame=8, max_frames=max_frames
    )


@cache
def network(dtype: torch.dtype = torch.float32) -> Idefics2ScoreNetwork:
    config = idefics2_config(json.loads((FOLDER / "config.json").read_text(encoding="utf-8")))
    with torch.device("meta"):
        built = Idefics2ScoreNetwork(config, rules=RULES, image_token_id=config.image_token_id)
    weights = load_file(FOLDER / "model.safetensors")
    built.load_state_dict({name: weight.to(dtype) for name, weight in weights.items()}, assign=True)
    built.finish_loading()
    return built.eval().requires_grad_(False)


@cache
def frames_input(name: str, max_frames: int = 16) -> FramesInput:
    clip = goldens.clip(name)
    indices = reader(max_frames).indices(len(clip.frames_FHWC), clip.fps)
    return reader(max_frames).read(torch.from_numpy(clip.frames_FHWC[indices]), goldens.prompt(name))


def logits(scores: dict[str, float]) -> torch.Tensor:
    """Reference scores, (1, D)."""
    return torch.tensor([list(scores.values())])


def reference(name: str, row: str = "fp32") -> torch.Tensor:
    return logits(EXPECTED["clips"][name]["scores"][row]["logits"])
