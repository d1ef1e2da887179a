"""Tiny checkpoints in the published layouts, to write to disk and spoil."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Qwen2VLConfig

from policies.config import VideoScoreConfig
from policies.rewards.model import RewardModel, load_reward_model
from policies.rewards.videoreward.pixels import FrameRules
from policies.rewards.videoscore.qwen2_vl import Qwen2VLScoreNetwork
from tests.policies.rewards import goldens

IDEFICS2 = goldens.FOLDER / "videoscore" / "VideoScore"
QWEN_BASE = goldens.FOLDER / "videoreward" / "base"
LABEL_TOKENS = [f"<|LABEL_{index}|>" for index in range(1, 6)]


def load(folder: Path, **settings: Any) -> RewardModel:
    return load_reward_model(VideoScoreConfig.model_validate({"path": str(folder), **settings}), device="cpu")


def copy_idefics2(folder: Path) -> Path:
    shutil.copytree(IDEFICS2, folder)
    return folder


def change_json(file: Path, **changes: Any) -> None:
    """Sets keys; None removes one."""
    content = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def change_weights(folder: Path, **changes: Tensor | None) -> None:
    """Sets weights by name with `__` for dots; None removes one."""
    weights = load_file(folder / "model.safetensors")
    for name, weight in changes.items():
        weights.pop(name.replace("__", "."), None)
        if weight is not None:
            weights[name.replace("__", ".")] = weight
    save_file(weights, folder / "model.safetensors")


def into_shards(folder: Path) -> list[str]:
    """Splits the weights over three files with an index; returns the files' names."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{index}-of-00003.safetensors" for index in (1, 2, 3)]
    parts = [dict(list(weights.items())[start::3]) for start in range(3)]
    for name, part in zip(names, parts, strict=True):
        save_file(part, folder / name)
    index = {key: name for name, part in zip(names, parts, strict=True) for key in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}), encoding="utf-8")
    return names


def write_qwen2_vl(folder: Path, *, has_labels: bool = False, **processor: Any) -> Path:
    """A random VideoScore-Qwen2-VL of a few thousand weights, with the tokenizer of the goldens."""
    folder.mkdir()
    content = json.loads((QWEN_BASE / "config.json").read_text(encoding="utf-8"))
    content |= {"architectures": ["Qwen2VLForSequenceClassification"], "problem_type": "regression"}
    content["id2label"] = {str(index): f"LABEL_{index}" for index in range(5)}
    tokenizer = Tokenizer.from_file(str(QWEN_BASE / "tokenizer.json"))
    if has_labels:
        tokenizer.add_special_tokens(LABEL_TOKENS)
        labels = [tokenizer.token_to_id(token) for token in LABEL_TOKENS]
        content |= {"score_type": "special_token", "label_special_token_ids": labels}
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))
    shutil.copy(QWEN_BASE / "preprocessor_config.json", folder)
    change_json(folder / "preprocessor_config.json", **processor)
    torch.manual_seed(0)
    network = Qwen2VLScoreNetwork(
        Qwen2VLConfig.from_dict(content), rules=FrameRules(), label_token_ids=content.get("label_special_token_ids", ())
    )
    weights = {name: weight + 0.1 * torch.randn(weight.shape) for name, weight in network.state_dict().items()}
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / "model.safetensors")
    return folder
