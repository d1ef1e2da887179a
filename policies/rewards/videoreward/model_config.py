"""model_config.json, which lies beside VideoReward's checkpoints: what of it decides scores, by its published keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from policies.calibration import Calibration
from policies.errors import InputError
from policies.rewards.videoreward.network import RewardToken
from policies.rewards.videoreward.pixels import FrameRules
from policies.rewards.videoreward.rotary import Rotary
from policies.rewards.videoreward.template import DIMENSIONS, TEMPLATES

FILE = "model_config.json"

_PUBLISHED = FrameRules()

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(gt=0)]


class _Block(BaseModel):
    """The published blocks have many more keys, which only training read; these are left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class DataConfig(_Block):
    eval_dim: tuple[str, ...] = DIMENSIONS
    prompt_template_type: str = "detailed_special"
    sample_type: Literal["uniform", "all"] = "uniform"
    """all is our own: every frame of a clip, for small models."""
    fps: _Positive = _PUBLISHED.fps
    num_frames: _Count | None = None
    max_frame_pixels: _Count = int(_PUBLISHED.max_pixels)
    min_frame_pixels: _Count = _PUBLISHED.min_pixels
    """Our own key: the published minimum is a constant, too large for small models."""

    @model_validator(mode="after")
    def _is_known(self) -> DataConfig:
        if self.eval_dim != DIMENSIONS:
            raise ValueError(f"eval_dim is {', '.join(self.eval_dim)}; expected {', '.join(DIMENSIONS)}")
        if self.prompt_template_type not in TEMPLATES:
            raise ValueError(f"prompt_template_type is {self.prompt_template_type!r}; known: {', '.join(TEMPLATES)}")
        return self


class NetworkConfig(_Block):
    model_name_or_path: str = "Qwen/Qwen2-VL-2B-Instruct"
    output_dim: _Count = 1
    reward_token: RewardToken = "special"
    rotary: Rotary | None = None
    """Our own key: the rotary frequencies that the model was trained with."""


class PeftConfig(_Block):
    lora_enable: bool = False
    lora_r: _Count = 64
    lora_alpha: _Positive = 128
    use_rslora: bool = False

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return self.lora_alpha / (self.lora_r**0.5 if self.use_rslora else self.lora_r)


class ModelConfig(_Block):
    """The file."""

    data_config: DataConfig
    network: Annotated[NetworkConfig, Field(alias="model_config")]
    peft_lora_config: PeftConfig = PeftConfig()
    inference_config: dict[str, float] | None = None

    @model_validator(mode="after")
    def _constants_are_whole(self) -> ModelConfig:
        if self.inference_config is not None:
            for key in [f"{name}_{part}" for name in DIMENSIONS for part in ("mean", "std")]:
                value = self.inference_config.get(key)
                if value is None or not abs(value) < float("inf") or (key.endswith("std") and value <= 0):
                    raise ValueError(f"inference_config.{key} is {value}; expected a number, above 0 for a std")
        return self

    @classmethod
    def read(cls, file: Path) -> ModelConfig:
        """Reads the file. Raises InputError, naming the key, when it is damaged or asks for what is not known here."""
        try:
            return cls.model_validate_json(file.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InputError(f"{file}: {where + ': ' if where else ''}{first['msg']}") from error

    @property
    def own_scale(self) -> Calibration | None:
        """Mean and deviation that the scores were published with; None: raw scores are final."""
        if self.inference_config is None:
            return None
        return Calibration(
            mean={name: self.inference_config[f"{name}_mean"] for name in DIMENSIONS},
            std={name: self.inference_config[f"{name}_std"] for name in DIMENSIONS},
        )

    def frame_rules(self, *, patch_size: int, merge_size: int, temporal_patch_size: int) -> FrameRules:
        """Its rules of frames, with the patches of its base model."""
        data = self.data_config
        return FrameRules(
            fps=data.fps,
            num_frames=data.num_frames,
            every_frame=data.sample_type == "all",
            min_pixels=data.min_frame_pixels,
            max_pixels=data.max_frame_pixels,
            patch_size=patch_size,
            merge_size=merge_size,
            temporal_patch_size=temporal_patch_size,
        )
