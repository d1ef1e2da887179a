"""A trained model in the published layout: model_config.json, and checkpoint-<step>/ beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from policies.rewards.training.config import RewardTrainingConfig
from policies.rewards.training.folder import TrainingFolder, replacing
from policies.rewards.training.video_reward import VideoRewardTrainee
from policies.rewards.videoreward.model_config import FILE
from policies.rewards.videoreward.template import DIMENSIONS

_LOSSES = {"btt": "btt", "bt": "bt", "regression": "reg"}
_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear"}


def own_scale_of(rows: Sequence[Tensor]) -> dict[str, float] | None:
    """`inference_config`: mean and (sample) deviation of each dimension over raw scores (D,); None where one does not
    vary, or there are fewer than two."""
    if len(rows) < 2:
        return None
    scores_ND = torch.stack(list(rows)).double()
    mean_D, std_D = scores_ND.mean(0).tolist(), scores_ND.std(0).tolist()
    if min(std_D) <= 0:
        return None
    return {
        f"{name}_{part}": value
        for index, name in enumerate(DIMENSIONS)
        for part, value in (("mean", mean_D[index]), ("std", std_D[index]))
    }


def save_published(
    trainee: VideoRewardTrainee,
    folder: TrainingFolder,
    *,
    step: int,
    config: RewardTrainingConfig,
    scale: dict[str, float] | None,
) -> None:
    """Writes the model so that `policies.rewards.videoreward` loads it; each part is there whole or not at all."""
    with replacing(folder.path / f"checkpoint-{step}") as fresh:
        trainee.save(fresh)
    folder.write_json(FILE, _model_config(config, scale))


def _model_config(config: RewardTrainingConfig, scale: dict[str, float] | None) -> dict[str, Any]:
    """The published keys, as far as they mean something here."""
    model, tune, optimizer = config.model, config.tune, config.optimizer
    return {
        "data_config": {
            "eval_dim": list(DIMENSIONS),
            "prompt_template_type": model.template,
            "sample_type": "all" if model.frames == "all" else "uniform",
            "fps": model.fps,
            "num_frames": model.num_frames,
            "max_frame_pixels": model.max_frame_pixels,
            "min_frame_pixels": model.min_frame_pixels,
            "use_tied_data": config.loss.type != "bt",
        },
        "model_config": {
            "model_name_or_path": model.base,
            "model_revision": model.base_revision or "main",
            "output_dim": model.head_rows,
            "reward_token": model.reward_token,
            "use_special_tokens": model.reward_token == "special",
            "loss_type": _LOSSES[config.loss.type],
            "torch_dtype": model.dtype,
            "freeze_vision_tower": not tune.vision,
            "freeze_llm": tune.llm == "frozen",
            "tune_merger": tune.merger,
            "rotary": "exact",
        },
        "peft_lora_config": {
            "lora_enable": tune.llm == "lora",
            "vision_lora": False,
            "lora_r": tune.lora.rank,
            "lora_alpha": tune.lora.alpha,
            "lora_dropout": tune.lora.dropout,
            "lora_namespan_exclude": ["lm_head", "rm_head", "embed_tokens", "visual"],
            "lora_task_type": "CAUSAL_LM",
            "use_rslora": False,
            "num_lora_modules": -1,
        },
        **({"inference_config": scale} if scale is not None else {}),
        "training_args": {
            "learning_rate": optimizer.learning_rate,
            "vision_lr": optimizer.vision_learning_rate,
            "merger_lr": optimizer.merger_learning_rate,
            "special_token_lr": optimizer.embedding_learning_rate,
            "lr_scheduler_type": _SCHEDULES[optimizer.schedule],
            "warmup_ratio": optimizer.warmup_ratio,
            "adam_beta1": optimizer.adam_betas[0],
            "adam_beta2": optimizer.adam_betas[1],
            "adam_epsilon": optimizer.adam_epsilon,
            "weight_decay": optimizer.weight_decay,
            "max_grad_norm": optimizer.max_gradient_norm,
            "num_train_epochs": config.epochs,
            "max_steps": config.max_steps or -1,
            "per_device_train_batch_size": config.micro_batch_pairs,
            "gradient_accumulation_steps": -(-config.batch_pairs // config.micro_batch_pairs),
            "bf16": model.dtype == "bfloat16",
            "seed": config.seed,
        },
    }
