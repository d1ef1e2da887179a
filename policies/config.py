"""Configuration of what is learned and how it is judged. Light: pydantic only, no torch.

Each model is strict (no unknown key, no silent conversion) and frozen. The line under a field is its documentation;
`services/config.py` reads YAML into these and turns violations into messages with line numbers.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_serializer, model_validator

from policies.errors import InputError

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Config(BaseModel):
    """Base of every section: unknown keys are refused, values are final, the line under a field describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)


class LoraConfig(Config):
    rank: PositiveInt = 64
    """Rank of every LoRA matrix pair."""
    alpha: PositiveFloat = 128
    """Scale: the update is multiplied by alpha / rank."""
    targets: tuple[str, ...] | None = None
    """Module name endings that get LoRA; null takes the family's default (Wan: attention and feed-forward)."""


class PolicyConfig(Config):
    path: str
    """A folder or hub id in diffusers layout (model_index.json), safetensors only; `shapes` is the bundled world's."""
    revision: str | None = None
    """Hub revision, when `path` is a hub id."""
    device: str = "cpu"
    """Torch device of the transformer and VAE: cpu, cuda, cuda:1, ..."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the frozen base. LoRA weights, errors and losses are float32 in any case."""
    lora: LoraConfig = LoraConfig()
    """The trained part."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a quarter more time."""


class SamplingConfig(Config):
    candidates_per_prompt: Annotated[int, Field(ge=2)] = 4
    """N of the paper: candidates in a group. At least 2, for a pair."""
    candidates_per_slice: PositiveInt | None = None
    """Candidates sampled as one batch; null: the whole group at once. Part of the run's numbers."""
    num_inference_steps: PositiveInt = 30
    """Denoising steps per candidate."""
    guidance_scale: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 5.0
    """Classifier-free guidance when sampling; 1 turns it off. The loss never uses guidance."""
    negative_prompt: str = ""
    """Text of the unconditional branch when guidance is on."""
    max_sequence_length: PositiveInt = 512
    """Text tokens after padding. Wan has no text mask, so this is part of the model's input."""
    num_frames: PositiveInt = 81
    """Frames of a video, unless the prompt has a shape of its own."""
    height: PositiveInt = 480
    """Pixels."""
    width: PositiveInt = 832
    """Pixels."""
    fps: PositiveFloat = 16
    """Frames per second of written samples and of what reward models are told."""


class PairsConfig(Config):
    source: Literal["online", "offline"] = "online"
    """online: candidates come from the current policy; offline: all from the initial policy."""
    selection: Literal["best_worst", "random", "reversed"] = "best_worst"
    """best_worst: OnlineVPO. random and reversed are controls: they should not and must not help."""
    min_gap: NonNegativeFloat = 0.0
    """Groups whose best and worst reward differ by no more than this are dropped; 0 drops exact ties only."""


class RewardModelConfig(Config):
    """What the section of every reward model has. A model adds its own settings, and its class to `RewardConfig`."""

    model: str
    """Reward model."""
    weights: dict[str, float] | None = None
    """Weight per dimension; null: 1 for each. A dimension left out does not count."""
    device: str | None = None
    """Torch device of the reward model; null: policy.device, and in a service cuda if a replica has a GPU, else cpu."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the network."""
    combine: Literal["mean_z", "weighted_sum", "own_scale"] = "mean_z"
    """mean_z: weighted mean of dimensions z-scored on samples of the initial policy (calibration is frozen in the run);
    own_scale: weighted mean of dimensions on the scale that the model itself was published with; weighted_sum: raw
    scores times weights. One dimension alone is a weight on that dimension only."""
    calibration_samples: Annotated[int, Field(ge=2)] = 240
    """Samples of the initial policy that mean_z is calibrated on."""
    also: tuple[RewardConfig, ...] = ()
    """Further reward models that the reward is made of: each a section like this one, with its own model, settings and
    weights, and without combine, calibration_samples and also."""

    @model_validator(mode="after")
    def _weights_name_something(self) -> RewardModelConfig:
        if self.weights is not None and not any(self.weights.values()):
            raise ValueError(f"weights {self.weights} rank nothing; give at least one dimension a weight other than 0")
        return self

    @model_validator(mode="after")
    def _also_is_flat(self) -> RewardModelConfig:
        for index, other in enumerate(self.also):
            for key in sorted(_OF_THE_WHOLE_REWARD & other.model_fields_set):
                raise ValueError(
                    f"reward.also.{index}.{key} is about the whole reward; set reward.{key} and remove it here"
                )
        return self

    def sections(self) -> dict[str, RewardModelConfig]:
        """Every model's section by the name that goes before its dimensions; a second one of a kind is `kind-2`."""
        named: dict[str, RewardModelConfig] = {}
        kinds = Counter[str]()
        for section in (self, *self.also):
            kinds[section.model] += 1
            count = kinds[section.model]
            named[section.model if count == 1 else f"{section.model}-{count}"] = section
        return named

    @field_serializer("also", mode="plain")
    def _without_what_is_of_the_whole(self, also: tuple[RewardModelConfig, ...], info: Any) -> list[dict[str, Any]]:
        return [other.model_dump(mode=info.mode, exclude=_OF_THE_WHOLE_REWARD) for other in also]


_OF_THE_WHOLE_REWARD = {"combine", "calibration_samples", "also"}


class ShapesRewardConfig(RewardModelConfig):
    model: Literal["shapes"] = "shapes"
    """shapes: the bundled world's."""
    path: str | None = None
    """Folder with the reward model's weights; null: the bundled one."""
    dtype: Literal["float32"] = "float32"
    """Precision of the network."""


class VideoRewardConfig(RewardModelConfig):
    model: Literal["videoreward"] = "videoreward"
    """videoreward: Qwen2-VL with reward tokens, of VideoAlign (arXiv 2501.13918)."""
    path: str
    """Folder or hub id in the layout of KwaiVGI/VideoReward (model_config.json, checkpoint-*)."""
    revision: str | None = None
    """Hub revision, when `path` is a hub id."""
    base: str | None = None
    """Folder or hub id of the base model, Qwen2-VL; null: what model_config.json names, if `path` is a hub id."""
    base_revision: str | None = None
    """Hub revision, when `base` is a hub id."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the network. The published numbers were made in bfloat16."""
    rotary: Literal["exact", "published"] | None = None
    """Rotary inverse frequencies: exact, or rounded to bfloat16 as in the published path; null: those that
    model_config.json names, else published with bfloat16 and exact with float32."""
    micro_batch_pixels: PositiveInt | None = None
    """Pixels, after resizing, that go through the network at once; a video with more goes alone. null: 8,000,000 on a
    GPU; 2,000,000 on a CPU, which larger batches make slower."""


class VideoScoreConfig(RewardModelConfig):
    model: Literal["videoscore"] = "videoscore"
    """videoscore: Idefics2 or Qwen2-VL with a regression head (arXiv 2406.15252)."""
    path: str
    """Folder or hub id in the layout of TIGER-Lab/VideoScore: v1, v1.1, anno-only, or the Qwen2-VL variant."""
    revision: str | None = None
    """Hub revision, when `path` is a hub id."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the network. The published numbers were made in bfloat16."""
    max_frames: PositiveInt | None = None
    """Frames that are looked at, at most; null: 48 when `path` ends in VideoScore-v1.1, otherwise 16; for the Qwen2-VL
    variant, which looks at 8 a second, 768."""
    frame_rule: Literal["script", "benchmark"] = "script"
    """script: evenly spaced from the first frame, all frames of a short video; benchmark: always `max_frames`, first
    and last included, as in the published benchmark numbers. The Qwen2-VL variant knows script only."""
    micro_batch_pixels: PositiveInt | None = None
    """Pixels, after resizing, that go through the network at once; a video with more goes alone. null: 8,000,000 on a
    GPU; 2,000,000 on a CPU, which larger batches make slower."""


def _model_of(section: Any) -> str | None:
    """Which class a reward section belongs to."""
    if isinstance(section, RewardModelConfig):
        return section.model
    return str(section.get("model", "shapes")) if isinstance(section, dict) else None


RewardConfig: TypeAlias = Annotated[
    Annotated[ShapesRewardConfig, Tag("shapes")]
    | Annotated[VideoRewardConfig, Tag("videoreward")]
    | Annotated[VideoScoreConfig, Tag("videoscore")],
    Discriminator(_model_of),
]
_REWARD_CONFIGS: tuple[type[RewardModelConfig], ...] = tuple(
    get_args(kind)[0] for kind in get_args(get_args(RewardConfig)[0])
)
RewardModelConfig.model_rebuild()
for _kind in _REWARD_CONFIGS:
    _kind.model_rebuild()


def reward_config_class(model: str) -> type[RewardModelConfig]:
    """The class of the section whose `model` this is. Raises InputError when there is none."""
    kinds = {str(kind.model_fields["model"].get_default()): kind for kind in _REWARD_CONFIGS}
    if model not in kinds:
        raise InputError(f"there is no reward model {model!r}; there are {', '.join(kinds)}")
    return kinds[model]


class ObjectiveConfig(Config):
    type: Literal["dpo"] = "dpo"
    """Diffusion-DPO / Flow-DPO."""
    beta: PositiveFloat = 500.0
    """Strength of the reference, on errors that are *means* over latent elements (divide by their number for sums)."""
    beta_schedule: Literal["constant", "quadratic"] = "constant"
    """constant: Flow-DPO's finding; quadratic: beta (1-t)^2, the strict transfer of Diffusion-DPO to flow matching."""
    timestep_density: Literal["uniform", "logit_normal"] = "uniform"
    """Density of the noise fraction."""
    logit_mean: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Mean of logit_normal's normal."""
    logit_std: PositiveFloat = 1.0
    """Standard deviation of logit_normal's normal."""
    draws_per_pair: PositiveInt = 4
    """M: draws of (time, noise) per pair and update, shared between chosen, rejected, policy and reference."""


class LearnerConfig(Config):
    learning_rate: PositiveFloat = 1e-5
    """AdamW's, after warm-up; constant from there."""
    adam_betas: tuple[Decay, Decay] = (0.9, 0.999)
    """AdamW's decay of first and second moments."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW's."""
    warmup_updates: Annotated[int, Field(ge=0)] = 20
    """Updates over which the learning rate rises linearly from 0."""
    max_gradient_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this norm."""
    gradient_mode: Literal["joint", "two_pass"] = "joint"
    """joint: plain autograd over both members of a pair; two_pass: the same gradient with half the activations, for
    one more forward."""
    pairs_per_forward: PositiveInt | None = None
    """Pairs times draws that go through the network at once; null: all of one shape."""
