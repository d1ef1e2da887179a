"""Loads VideoReward from its published layout.

model_config.json
checkpoint-<n>/              the newest n counts
  tokenizer/tokenizer.json
  model.pth                  all weights, with LoRA beside them; or, after `onlinevpo rewards convert`,
  model.safetensors          the same; or
  adapter_model.safetensors  LoRA alone, with
  non_lora_state_dict.pth    what else was trained (or .safetensors); the rest comes from the base model
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import Qwen2VLConfig, Qwen2VLModel

from policies.errors import InputError
from policies.model_folder import read_json
from policies.rewards.published import (
    PublishedFolder,
    check_finite,
    listed,
    read_pickled_tensors,
    read_safetensors,
    safetensors_files,
)
from policies.rewards.videoreward.keys import StoredWeights, stored_name
from policies.rewards.videoreward.lora import Lora, LoraLinear
from policies.rewards.videoreward.model_config import ModelConfig, PeftConfig
from policies.rewards.videoreward.network import VideoRewardNetwork
from policies.rewards.videoreward.rotary import Rotary, set_rotary
from policies.rewards.videoreward.tokens import RewardTokenizer

EMBEDDING = "model.language_model.embed_tokens.weight"
HEAD = "rm_head.weight"

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_PUBLISHED_CHECKPOINT = "checkpoint-11352"
_WHOLE, _ADAPTER, _REST = "model", "adapter_model", "non_lora_state_dict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One checkpoint's weight files."""

    folder: PublishedFolder
    files: tuple[Path, ...]
    is_whole: bool
    """All weights are in it; otherwise the base model's are needed."""

    def read(self) -> StoredWeights:
        """Its tensors by the network's names. Raises InputError when a file cannot be used."""
        tensors: dict[str, Tensor] = {}
        for file in self.files:
            tensors |= read_pickled_tensors(file) if file.suffix == ".pth" else read_safetensors([file])
        return StoredWeights.of(tensors)


def newest_checkpoint(model: PublishedFolder) -> Checkpoint:
    """The newest checkpoint in a model's folder; safetensors count before pickles.

    Raises:
        InputError: there is none, or its files are missing or damaged.
    """
    numbers = [int(match[1]) for path in model.path.iterdir() if (match := _CHECKPOINT.fullmatch(path.name))]
    if not numbers:
        raise InputError(
            f"{model.setting}: {model.path} has no folder checkpoint-<n>; "
            + model.how_to_fetch(f"{_PUBLISHED_CHECKPOINT}/{_WHOLE}.pth")
        )
    name = f"checkpoint-{max(numbers)}"
    folder = PublishedFolder(
        path=model.path / name, setting=model.setting, repository=model.repository, revision=model.revision
    )
    if files := safetensors_files(folder, _WHOLE):
        return Checkpoint(folder=folder, files=tuple(files), is_whole=True)
    if (pickled := folder.path / f"{_WHOLE}.pth").is_file():
        return Checkpoint(folder=folder, files=(pickled,), is_whole=True)
    if adapter := safetensors_files(folder, _ADAPTER):
        rest = safetensors_files(folder, _REST) or [folder.file(f"{_REST}.pth")]
        return Checkpoint(folder=folder, files=(*adapter, *rest), is_whole=False)
    raise InputError(
        f"{model.setting}: {folder.path} has neither {_WHOLE}.pth nor {_WHOLE}.safetensors nor {_ADAPTER}.safetensors; "
        + model.how_to_fetch(f"{name}/{_WHOLE}.pth")
    )


def base_config(base: PublishedFolder) -> Qwen2VLConfig:
    """The base model's config.json. Raises InputError when it is missing or another model's."""
    file = base.file("config.json")
    content = read_json(file)
    if content.get("model_type") != "qwen2_vl":
        raise InputError(f"{file} is of a {content.get('model_type')}; VideoReward's base is a qwen2_vl")
    try:
        return Qwen2VLConfig.from_dict(content)
    except Exception as error:  # transformers raises many classes for a damaged config
        raise InputError(f"{file} cannot be read as a Qwen2-VL config: {error}") from error


def base_weights(base: PublishedFolder, *, vocabulary: int) -> dict[str, Tensor]:
    """The base model's weights by the network's names, with one embedding row per entry of a tokenizer.

    Rows beyond the tokenizer are cut (Qwen2-VL's table is padded); rows that are missing start as the mean row.

    Raises:
        InputError: files are missing or damaged.
    """
    files = safetensors_files(base)
    if not files:
        base.file("model.safetensors")
    weights = StoredWeights.of(read_safetensors(files)).weights
    if EMBEDDING in weights:
        rows_VE = weights[EMBEDDING][:vocabulary]
        new_VE = rows_VE.float().mean(dim=0, keepdim=True).to(rows_VE).expand(vocabulary - len(rows_VE), -1)
        weights[EMBEDDING] = torch.cat([rows_VE, new_VE])
    return weights


def load_network(
    checkpoint: Checkpoint,
    base: PublishedFolder,
    *,
    config: ModelConfig,
    tokenizer: RewardTokenizer,
    dtype: torch.dtype,
    rotary: Rotary,
    device: torch.device | str,
) -> VideoRewardNetwork:
    """The network of a checkpoint, in evaluation mode and frozen.

    In float32 its LoRA is merged; in bfloat16 it stays apart, as the published scores were made.

    Raises:
        InputError: weights are missing, unexpected, misshaped or not finite; says which.
    """
    stored, source = checkpoint.read(), checkpoint.files[0]
    weights = stored.weights
    if not checkpoint.is_whole:
        weights = base_weights(base, vocabulary=len(tokenizer)) | weights
    architecture = base_config(base)
    architecture.text_config.vocab_size = len(weights.get(EMBEDDING, range(len(tokenizer))))
    with torch.device("meta"):
        network = new_network(architecture, config=config, tokenizer=tokenizer, dtype=dtype)
    _check_names(network, stored, weights, source)
    lora = _lora_of(stored, config.peft_lora_config, source)
    _check_shapes(network, weights, lora, source)
    if len(weights[EMBEDDING]) < len(tokenizer):
        raise InputError(
            f"{source} embeds {len(weights[EMBEDDING])} tokens, and its tokenizer has {len(tokenizer)}; "
            "take the tokenizer that was saved with this checkpoint"
        )
    merged = lora if dtype == torch.float32 else {}
    placed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        layer = name.removesuffix(".weight")
        whole = merged[layer].merged_into(weight) if layer in merged else weight
        placed[name] = whole.to(device, dtype, copy=True)  # the file may be mapped into memory
    check_finite(placed | stored.lora, source)
    network.load_state_dict(placed, assign=True)
    set_rotary(network.model, rotary)
    for layer in sorted(set(lora) - set(merged)):
        network.set_submodule(layer, LoraLinear(_linear(network, layer), lora[layer]))
    return network.eval().requires_grad_(False)


def new_network(
    architecture: Qwen2VLConfig, *, config: ModelConfig, tokenizer: RewardTokenizer, dtype: torch.dtype
) -> VideoRewardNetwork:
    """The network that a config describes, with weights that are not set (or drawn, when not on the meta device)."""
    return VideoRewardNetwork(
        Qwen2VLModel._from_config(architecture, dtype=dtype, attn_implementation="sdpa"),
        output_dim=config.network.output_dim,
        reward_token=config.network.reward_token,
        reward_token_ids=tokenizer.reward_token_ids,
    )


def _check_names(
    network: VideoRewardNetwork, stored: StoredWeights, weights: Mapping[str, Tensor], source: Path
) -> None:
    known = set(network.state_dict())
    unexpected = [stored.names.get(name, name) for name in weights if name not in known]
    unexpected += [stored.names[name] for name in stored.lora if f"{name[: -len('.lora_A')]}.weight" not in known]
    if unexpected:
        raise InputError(f"{source}: {len(unexpected)} unexpected weights: {listed(unexpected)}")
    missing = [stored_name(name) for name in known - set(weights)]
    for name, of_file in stored.names.items():
        layer, wrapped, _ = of_file.partition(".base_layer.weight")
        if wrapped:  # a layer that had LoRA when it was saved
            sides = ("A", "B")
            missing += [f"{layer}.lora_{side}.default.weight" for side in sides if _side(name, side) not in stored.lora]
    if missing:
        raise InputError(f"{source}: {len(missing)} weights are missing: {listed(missing)}")


def _check_shapes(
    network: VideoRewardNetwork, weights: Mapping[str, Tensor], lora: Mapping[str, Lora], source: Path
) -> None:
    shapes = {name: tuple(parameter.shape) for name, parameter in network.state_dict().items()}
    if weights[HEAD].shape != shapes[HEAD]:
        raise InputError(
            f"{source}: {HEAD} is {tuple(weights[HEAD].shape)}, and model_config.json and the base model ask for "
            f"{shapes[HEAD]}: output_dim rows of the decoder's width"
        )
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    found |= {f"{layer}.weight": (len(each.b_OR), each.a_RI.shape[1]) for layer, each in lora.items()} | {
        name: shape for name, shape in found.items() if shape != shapes[name]
    }
    wrong = [f"{name} is {shape}, expected {shapes[name]}" for name, shape in found.items() if shape != shapes[name]]
    if wrong:
        raise InputError(f"{source} does not fit its base model: {listed(wrong)}")


def _lora_of(stored: StoredWeights, config: PeftConfig, source: Path) -> dict[str, Lora]:
    if config.lora_enable != bool(stored.lora):
        held = "holds" if stored.lora else "holds no"
        raise InputError(f"{source} {held} LoRA weights, and model_config.json says lora_enable {config.lora_enable}")
    lora: dict[str, Lora] = {}
    for layer in sorted({name[: -len(".lora_A")] for name in stored.lora}):
        a_RI, b_OR = stored.lora.get(f"{layer}.lora_A"), stored.lora.get(f"{layer}.lora_B")
        if a_RI is None or b_OR is None:
            raise InputError(f"{source}: of {layer}.lora_A and lora_B one is missing")
        if len(a_RI) != config.lora_r or b_OR.shape[1:] != (config.lora_r,):
            raise InputError(
                f"{source}: {layer}.lora_A is {tuple(a_RI.shape)} and lora_B {tuple(b_OR.shape)}; "
                f"model_config.json says lora_r {config.lora_r}"
            )
        lora[layer] = Lora(a_RI=a_RI, b_OR=b_OR, scale=config.scale)
    return lora


def _side(weight: str, side: str) -> str:
    return f"{weight.removesuffix('.weight')}.lora_{side}"


def _linear(network: nn.Module, layer: str) -> nn.Linear:
    linear = network.get_submodule(layer)
    assert isinstance(linear, nn.Linear), layer
    return linear
