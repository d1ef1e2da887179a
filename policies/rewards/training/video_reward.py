"""VideoReward while it is trained: a base Qwen2-VL, what of it is trained, and how it is saved.

Differences from the published training (VideoAlign's code):

1. Trained weights and their moments are float32 while forwards run in bfloat16; rotary frequencies are exact.
2. Only the reward tokens' rows of the embedding have a gradient; the reference trains all and puts the others back.
3. One process; the 8 devices of the published run are accumulated micro-batches here.
4. Checkpoints are safetensors under the published names; nothing is pickled.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer
from torch import Tensor
from transformers import Qwen2VLModel

from policies.errors import InputError
from policies.rewards.published import PublishedFolder, check_finite, listed, open_published
from policies.rewards.training.config import RewardTrainingConfig
from policies.rewards.training.layers import TrainedRows
from policies.rewards.training.optimizer import WeightGroup
from policies.rewards.training.tune import choose_trained, weight_groups
from policies.rewards.videoreward.checkpoint import EMBEDDING, HEAD, base_config, base_weights
from policies.rewards.videoreward.keys import stored_name
from policies.rewards.videoreward.model import VideoReward
from policies.rewards.videoreward.network import VideoBatch, VideoInput, VideoRewardNetwork
from policies.rewards.videoreward.pixels import FrameRules
from policies.rewards.videoreward.rotary import set_rotary
from policies.rewards.videoreward.template import DIMENSIONS, REWARD_TOKENS
from policies.rewards.videoreward.tokens import RewardTokenizer
from policies.seeds import seed_for

BASE_REPOSITORY = "Qwen/Qwen2-VL-2B-Instruct"
_BASE_FILES = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*.json",
    "vocab.json",
    "merges.txt",
)
_TOKENIZER_FILES = (
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "chat_template.json",
)
_HEAD_STD = 0.02  # of Qwen2-VL's new weights
_LORA_WEIGHT = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[ab])")  # of TrainedLora
_BASE_WEIGHT = re.compile(r"(?P<layer>.+)\.base\.(?P<leaf>weight|bias)")  # of TrainedLora and TrainedRows


class VideoRewardTrainee:
    """VideoReward being trained. Legend: N videos, D = 3 dimensions.

    Args:
        model: the same network behind the protocol of reward models: prepares videos, and scores without a gradient.
        network: with trained weights in float32.
    """

    dimensions = DIMENSIONS

    def __init__(
        self,
        model: VideoReward,
        network: VideoRewardNetwork,
        *,
        tokenizer: Tokenizer,
        pad_token_id: int,
        base: PublishedFolder,
        config: RewardTrainingConfig,
    ) -> None:
        self.model, self.network = model, network
        self._tokenizer, self._pad_token_id, self._base, self._config = tokenizer, pad_token_id, base, config

    @classmethod
    def load(cls, config: RewardTrainingConfig) -> VideoRewardTrainee:
        """Loads the base model and its tokenizer, adds reward tokens and head, and chooses what is trained.

        Raises:
            InputError: a file is missing or damaged, or the base is not a Qwen2-VL.
        """
        base = open_published(
            config.model.base,
            setting="model.base",
            repository=BASE_REPOSITORY,
            revision=config.model.base_revision,
            patterns=_BASE_FILES,
        )
        tokenizer = _with_reward_tokens(base.file("tokenizer.json"))
        reading = RewardTokenizer(tokenizer, template_type=config.model.template, source="tokenizer.json of the base")
        network = _network(base, reading, config)
        choose_trained(network, config.tune, reading.reward_token_ids, config.seed)
        if config.model.gradient_checkpointing:
            network.model.activation_checkpointing_enable({"use_reentrant": False})
        model = VideoReward(
            network,
            tokenizer=reading,
            rules=_frame_rules(network.model, config),
            own_scale=None,
            files={},
            revision="in training",
            micro_batch_pixels=config.micro_batch_pixels,
        )
        return cls(model, network, tokenizer=tokenizer, pad_token_id=reading.pad_token_id, base=base, config=config)

    def prepare(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> VideoInput:
        """As VideoReward's. Raises InputError."""
        return self.model.prepare(frames_FHWC, prompt, fps)

    def score(self, inputs: Sequence[VideoInput]) -> Tensor:
        """Raw scores (N, D) float32 with a graph; all in one forward."""
        self.network.train()
        batch = VideoBatch.of(inputs, pad_token_id=self._pad_token_id, device=self.network.device)
        with self._precision():
            scores_ND: Tensor = self.network(batch)
        return scores_ND

    def measure(self, inputs: Sequence[VideoInput]) -> Tensor:
        """Raw scores (N, D) float32 on CPU, without gradient and dropout; in micro-batches by pixels."""
        self.network.eval()
        with self._precision():
            return self.model.score(inputs)

    def weight_groups(self) -> list[WeightGroup]:
        """Everything that is trained, by learning rate."""
        return weight_groups(self.network, self._config.optimizer)

    def save(self, folder: Path) -> None:
        """Writes model.safetensors (all weights, LoRA beside them, under the published names) and tokenizer/."""
        dtype = getattr(torch, self._config.model.dtype)
        tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in self._stored()}
        check_finite(tensors, folder)
        (folder / "tokenizer").mkdir(parents=True)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        for name in _TOKENIZER_FILES:
            if (self._base.path / name).is_file():
                shutil.copyfile(self._base.path / name, folder / "tokenizer" / name)
        self._tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))

    def _stored(self) -> Iterator[tuple[str, Tensor]]:
        """Weights by their names in the published file."""
        for name, weight in self.network.state_dict().items():
            if match := _LORA_WEIGHT.fullmatch(name):
                yield f"{stored_name(match['layer'])}.lora_{match['side'].upper()}.default.weight", weight
            elif match := _BASE_WEIGHT.fullmatch(name):
                embedding = self.network.get_submodule(match["layer"])
                if isinstance(embedding, TrainedRows):
                    yield stored_name(EMBEDDING), embedding.whole()
                else:
                    yield f"{stored_name(match['layer'])}.base_layer.{match['leaf']}", weight
            elif not name.endswith(".rows_KE"):
                yield stored_name(name), weight

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(
            self.network.device.type,
            torch.bfloat16,
            enabled=self._config.model.dtype == "bfloat16",
            cache_enabled=False,
        )


def _with_reward_tokens(file: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise InputError(f"{file} cannot be read as a tokenizer: {error}") from error
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in REWARD_TOKENS.values()]
    )
    return tokenizer


def _network(base: PublishedFolder, tokenizer: RewardTokenizer, config: RewardTrainingConfig) -> VideoRewardNetwork:
    """The base's weights, cut or extended to the tokenizer, and a head drawn from the seed."""
    dtype = getattr(torch, config.model.dtype)
    architecture = base_config(base)
    architecture.text_config.vocab_size = len(tokenizer)
    with torch.device("meta"):
        network = VideoRewardNetwork(
            Qwen2VLModel._from_config(architecture, dtype=dtype, attn_implementation="sdpa"),
            output_dim=config.model.head_rows,
            reward_token=config.model.reward_token,
            reward_token_ids=tokenizer.reward_token_ids,
            rotary="exact",
        )
    weights = base_weights(base, vocabulary=len(tokenizer))
    shapes = {name: weight.shape for name, weight in network.state_dict().items()}
    rng = torch.Generator().manual_seed(seed_for("head", config.seed))
    weights[HEAD] = torch.empty(shapes[HEAD]).normal_(std=_HEAD_STD, generator=rng)
    wrong = [
        name
        for name in shapes.keys() | weights.keys()
        if name not in weights or shapes.get(name) != weights[name].shape
    ]
    if wrong:
        raise InputError(f"model.base: the weights in {base.path} do not fit its config.json: {listed(wrong)}")
    check_finite(weights, base.path)
    device = config.model.device
    placed = {name: weight.to(device, dtype, copy=True) for name, weight in weights.items()}
    network.load_state_dict(placed, assign=True)
    set_rotary(network.model, "exact")
    return network


def _frame_rules(model: Qwen2VLModel, config: RewardTrainingConfig) -> FrameRules:
    vision = model.config.vision_config
    return FrameRules(
        every_frame=config.model.frames == "all",
        fps=config.model.fps,
        num_frames=config.model.num_frames,
        min_pixels=config.model.min_frame_pixels,
        max_pixels=config.model.max_frame_pixels,
        patch_size=vision.patch_size,
        merge_size=vision.spatial_merge_size,
        temporal_patch_size=vision.temporal_patch_size,
    )
