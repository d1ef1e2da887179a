"""Configuration of a reward model's training. Light: pydantic only, no torch.

The defaults are the recipe that VideoReward was trained with, as its own model_config.json records it (arXiv
2501.13918): 8 devices with a pair each, accumulated 4 times, make `batch_pairs` 32.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from policies.config import Config, Decay, NonNegativeFloat, PositiveFloat, PositiveInt

Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class TrainedModelConfig(Config):
    base: str
    """Folder or hub id of the base model, Qwen2-VL, with its tokenizer."""
    base_revision: str | None = None
    """Hub revision, when `base` is a hub id."""
    device: str = "cpu"
    """Torch device: cpu, cuda, cuda:1, ..."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of what is frozen and of the computation; trained weights and their moments are float32 in any case."""
    reward_token: Literal["special", "last"] = "special"
    """special: each score is read at a token of its own; last: all of them at the last token."""
    output_dim: Literal[1, 3] | None = None
    """Rows of the head: 1, shared by the three tokens, or 3; null: 1 with special, 3 with last."""
    prompt_template: Literal["detailed_special", "short_special", "short"] | None = None
    """detailed_special (published), short_special or short; null: detailed_special with special, short with last."""
    frames: Literal["sampled", "all"] = "sampled"
    """sampled: evenly, by fps or num_frames; all: every frame of a clip."""
    fps: PositiveFloat = 2.0
    """Frames per second that are looked at."""
    num_frames: PositiveInt | None = None
    """Frames that are looked at, instead of a rate."""
    min_frame_pixels: PositiveInt = 128 * 28 * 28
    """Area of a frame after resizing, at least about."""
    max_frame_pixels: PositiveInt = 200_704
    """Likewise, at most."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a quarter more time."""

    @model_validator(mode="after")
    def _head_and_token_go_together(self) -> TrainedModelConfig:
        if self.reward_token == "last" and self.output_dim == 1:
            raise ValueError("output_dim is 1 and reward_token last; one row cannot tell three scores apart there")
        if self.reward_token == "special" and self.prompt_template == "short":
            raise ValueError("prompt_template short has no reward tokens; use short_special, or reward_token last")
        return self

    @property
    def head_rows(self) -> int:
        """output_dim, decided."""
        return self.output_dim or (1 if self.reward_token == "special" else 3)

    @property
    def template(self) -> str:
        """prompt_template, decided."""
        return self.prompt_template or ("detailed_special" if self.reward_token == "special" else "short")


class TrainedLoraConfig(Config):
    rank: PositiveInt = 64
    """Rank of every LoRA matrix pair."""
    alpha: PositiveFloat = 128
    """Scale: the update is multiplied by alpha / rank."""
    dropout: Share = 0.05
    """Share of a layer's inputs that LoRA does not see, drawn anew at each step."""


class TuneConfig(Config):
    llm: Literal["lora", "full", "frozen"] = "lora"
    """The language model: LoRA on its seven linear layers, all of its weights, or none."""
    lora: TrainedLoraConfig = TrainedLoraConfig()
    """LoRA, with llm: lora."""
    vision: bool = True
    """Train all of the vision tower, its merger apart."""
    merger: bool = True
    """Train all of the merger, which makes tokens of patches."""
    embeddings: Literal["reward_tokens", "all", "frozen"] = "reward_tokens"
    """Token embeddings: the rows of the reward tokens, where there are any, all rows, or none. The head is trained in
    any case."""


class RewardLossConfig(Config):
    type: Literal["btt", "bt", "regression"] = "btt"
    """btt: Bradley-Terry with ties (Rao and Kupper); bt: without, pairs labelled same are left out; regression: squared
    error against ratings."""
    theta: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 5.0
    """Width of a tie in btt: equal scores are tied with probability (theta - 1) / (theta + 1)."""
    invalid: Literal["in_mean", "left_out"] = "in_mean"
    """Dimensions of a pair without a usable label add nothing to the loss; in_mean: they still count in its mean, as in
    the published training."""
    shrinkage: NonNegativeFloat = 0.0
    """Adds half of this times the squared scores to a pair's loss: pairs alone leave the level of scores free."""
    rating_offset: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Added to ratings in regression. VideoAlign: -3, on mean opinion scores from 1 to 5."""


class RewardOptimizerConfig(Config):
    type: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for matrices between features and AdamW for the rest, at the same learning rates; for small models."""
    learning_rate: PositiveFloat = 2e-6
    """Of the language model (or its LoRA) and the head."""
    vision_learning_rate: PositiveFloat = 2e-6
    """Of the vision tower."""
    merger_learning_rate: PositiveFloat = 2e-6
    """Of the merger."""
    embedding_learning_rate: PositiveFloat = 2e-6
    """Of token embeddings."""
    schedule: Literal["constant", "linear"] = "constant"
    """After the warm-up: constant, or falling linearly to zero at the end."""
    warmup_ratio: Share = 0.05
    """Share of all steps over which learning rates rise linearly."""
    adam_betas: tuple[Decay, Decay] = (0.9, 0.999)
    """AdamW's decay of first and second moments."""
    adam_epsilon: PositiveFloat = 1e-8
    """AdamW's."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW's."""
    max_gradient_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this norm."""


class RewardDataConfig(Config):
    train: str
    """CSV file of pairs (path_A, path_B, prompt, and a label A, B, same or invalid for each dimension) or, with
    regression, of ratings (path, prompt, and a number for each dimension)."""
    heldout: str | None = None
    """CSV file of the same kind to measure on while training; null: `heldout_share` of train."""
    heldout_share: Share = 0.05
    """Share of train's prompts, with all their rows, that is kept from training and measured on instead."""
    videos: str | None = None
    """Folder that paths in the CSV files are relative to; null: each file's own."""
    columns: dict[str, str] | None = None
    """Column of each dimension (VQ, MQ, TA) where it is not called so; null: they are. With regression, a CSV of pairs
    is read by its columns MOS_A_VQ, MOS_B_VQ, ..., where 0 means not rated."""
    skip_unreadable: bool = False
    """Leave out pairs with a video that cannot be read, and count them, rather than stop."""
    workers: PositiveInt = 2
    """Threads that read and resize videos ahead of the network."""
    cache_mib: Annotated[int, Field(ge=0)] = 0
    """Memory for decoded clips that are needed again, MiB."""


class RewardTrainingConfig(Config):
    model: TrainedModelConfig
    """What is trained."""
    data: RewardDataConfig
    """What it learns from."""
    output_dir: str
    """Folder of the training: the model in the published layout, checkpoints, metrics. Training goes on in it."""
    tune: TuneConfig = TuneConfig()
    """Which weights are trained."""
    loss: RewardLossConfig = RewardLossConfig()
    """What is made small."""
    optimizer: RewardOptimizerConfig = RewardOptimizerConfig()
    """How."""
    epochs: PositiveFloat = 3.0
    """Passes over the training rows."""
    max_steps: PositiveInt | None = None
    """Steps in all, instead of epochs."""
    batch_pairs: PositiveInt = 32
    """Pairs (or rated videos) of a step."""
    micro_batch_pairs: PositiveInt = 1
    """Pairs (or rated videos) that go through the network at once; changes memory and speed, not what is learned."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Of order, LoRA, head and dropout."""
    log_interval_epochs: PositiveFloat = 0.01
    """Epochs between lines of metrics."""
    evaluation_interval_epochs: PositiveFloat = 0.1
    """Epochs between measurements on held-out rows."""
    checkpoint_interval_epochs: PositiveFloat = 0.25
    """Epochs between checkpoints to go on from."""
    scale_videos: PositiveInt = 1000
    """Training videos, at most, that the mean and deviation of each dimension are measured on at the end."""
    micro_batch_pixels: PositiveInt = 8_000_000
    """Pixels, after resizing, that go through the network at once when it only scores."""
    torch_threads: PositiveInt | None = None
    """CPU threads; a resumed training equals an unbroken one to the last bit only for equal numbers. Null: torch's."""

    @model_validator(mode="after")
    def _names_dimensions(self) -> RewardTrainingConfig:
        unknown = sorted(set(self.data.columns or {}) - {"VQ", "MQ", "TA"})
        if unknown:
            raise ValueError(f"data.columns names {', '.join(unknown)}; the dimensions are VQ, MQ, TA")
        return self
