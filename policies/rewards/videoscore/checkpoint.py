"""VideoScore's published layout: config.json, safetensors in one file or in shards, processor files, tokenizer.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2VLConfig

from policies.config import VideoScoreConfig
from policies.errors import InputError
from policies.model_folder import read_json
from policies.rewards.published import (
    PublishedFolder,
    check_finite,
    listed,
    open_published,
    read_safetensors,
    safetensors_files,
)
from policies.rewards.videoscore.idefics2 import Idefics2ScoreNetwork, idefics2_config
from policies.rewards.videoscore.idefics2_reader import Idefics2Reader, image_rules, tokens_per_frame
from policies.rewards.videoscore.inputs import Reader
from policies.rewards.videoscore.qwen2_vl import Qwen2VLScoreNetwork
from policies.rewards.videoscore.qwen2_vl_reader import Qwen2VLReader, processor_rules
from policies.rewards.videoscore.template import DIMENSIONS
from policies.rewards.videoscore.tokens import load_tokenizer

FRAMES_OF = {"VideoScore": 16, "VideoScore-anno-only": 16, "VideoScore-v1.1": 48}
"""Frames that each published Idefics2 model looks at, by the name of its repository: nothing in its files says so."""

_OWNER, _QWEN = "TIGER-Lab", "VideoScore-Qwen2-VL"
_PATTERNS = ("*.json", "*.safetensors")
_CONFIG, _TOKENIZER = "config.json", "tokenizer.json"
_HEADS = ("score.weight", *(f"score.{index}.weight" for index in range(len(DIMENSIONS))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A loaded checkpoint."""

    network: Idefics2ScoreNetwork | Qwen2VLScoreNetwork
    reader: Reader
    files: dict[str, Path]
    """What scores depend on, by name."""


def load_checkpoint(config: VideoScoreConfig, device: str) -> Checkpoint:
    """Loads the folder or hub repository that a config names; the network is in evaluation mode and frozen.

    Raises:
        InputError: a file, key or weight is missing, damaged or not what it should be; says which.
    """
    folder = open_published(
        config.path,
        setting="reward.path",
        repository=f"{_OWNER}/{_published_name(config.path)}",
        revision=config.revision,
        patterns=_PATTERNS,
    )
    content = read_json(folder.file(_CONFIG))
    network, reader = _build(folder, content, config)
    files = safetensors_files(folder)
    if not files:
        raise InputError(
            f"{folder.setting}: {folder.path} has neither model.safetensors nor model.safetensors.index.json; fetch "
            f"all files from {folder.repository}: hf download {folder.repository} --local-dir {folder.path}"
        )
    _load_weights(network, files, dtype=getattr(torch, config.dtype), device=device)
    used = [folder.path / _CONFIG, folder.path / _TOKENIZER, *files]
    used += [file for name in ("pre", "") if (file := folder.path / f"{name}processor_config.json").is_file()]
    return Checkpoint(network=network, reader=reader, files={file.name: file for file in used})


def _build(
    folder: PublishedFolder, content: dict[str, Any], config: VideoScoreConfig
) -> tuple[Idefics2ScoreNetwork, Idefics2Reader] | tuple[Qwen2VLScoreNetwork, Qwen2VLReader]:
    match content.get("model_type"):
        case "idefics2":
            return _build_idefics2(folder, content, config)
        case "qwen2_vl":
            return _build_qwen2_vl(folder, content, config)
        case other:
            raise InputError(f"{folder.path / _CONFIG} is of a {other}; VideoScore is an idefics2 or a qwen2_vl")


def _build_idefics2(
    folder: PublishedFolder, content: dict[str, Any], config: VideoScoreConfig
) -> tuple[Idefics2ScoreNetwork, Idefics2Reader]:
    source = folder.file(_TOKENIZER)
    reader = Idefics2Reader(
        load_tokenizer(source),
        source=str(source),
        rules=image_rules(folder),
        tokens_per_frame=tokens_per_frame(folder),
        max_frames=config.max_frames or FRAMES_OF.get(_published_name(config.path), 16),
        rule=config.frame_rule,
    )
    try:
        architecture = idefics2_config(content)
        with torch.device("meta"):
            network = Idefics2ScoreNetwork(architecture, rules=reader.rules, image_token_id=reader.image_token_id)
    except InputError:
        raise
    except Exception as error:  # transformers raises many classes for a damaged config
        raise InputError(f"{folder.path / _CONFIG} cannot be read as an Idefics2 config: {error!r}") from error
    if architecture.image_token_id != reader.image_token_id:
        raise InputError(
            f"{source} has <image> as {reader.image_token_id}, and {_CONFIG} says image_token_id "
            f"{architecture.image_token_id}; take the tokenizer that was saved with this checkpoint"
        )
    if architecture.perceiver_config.resampler_n_latents != reader.tokens_per_frame:
        raise InputError(
            f"{folder.path}: processor_config.json gives a frame {reader.tokens_per_frame} tokens (image_seq_len), and "
            f"{_CONFIG} {architecture.perceiver_config.resampler_n_latents} (resampler_n_latents); "
            f"{folder.how_to_fetch('processor_config.json')}"
        )
    return network, reader


def _build_qwen2_vl(
    folder: PublishedFolder, content: dict[str, Any], config: VideoScoreConfig
) -> tuple[Qwen2VLScoreNetwork, Qwen2VLReader]:
    source = folder.file(_TOKENIZER)
    if config.frame_rule != "script":
        raise InputError(f"reward.frame_rule {config.frame_rule} is not known for {_QWEN}; use script")
    labels = content.get("label_special_token_ids") if content.get("score_type") == "special_token" else []
    if not isinstance(labels, list) or (labels and len(labels) != len(DIMENSIONS)):
        raise InputError(
            f"{folder.path / _CONFIG}: label_special_token_ids is {labels}; expected {len(DIMENSIONS)} token ids"
        )
    rules, limits = processor_rules(folder)
    reader = Qwen2VLReader(
        load_tokenizer(source),
        source=str(source),
        rules=rules,
        limits=limits,
        max_frames=config.max_frames,
        label_token_ids=labels,
    )
    try:
        architecture = Qwen2VLConfig.from_dict(content)
        with torch.device("meta"):
            network = Qwen2VLScoreNetwork(architecture, rules=rules, label_token_ids=labels)
    except Exception as error:  # transformers raises many classes for a damaged config
        raise InputError(f"{folder.path / _CONFIG} cannot be read as a Qwen2-VL config: {error!r}") from error
    if network.vision_token_id != reader.video_token_id:
        raise InputError(
            f"{source} has its video token as {reader.video_token_id}, and {_CONFIG} says video_token_id "
            f"{network.vision_token_id}; take the tokenizer that was saved with this checkpoint"
        )
    return network, reader


def _load_weights(
    network: Idefics2ScoreNetwork | Qwen2VLScoreNetwork, files: list[Path], *, dtype: torch.dtype, device: str
) -> None:
    """Puts weights in place. Raises InputError when they are not exactly the network's."""
    weights, source = read_safetensors(files), files[0]
    expected = network.state_dict()
    if unexpected := weights.keys() - expected.keys():
        raise InputError(f"{source}: {len(unexpected)} unexpected weights: {listed(unexpected)}")
    if missing := expected.keys() - weights.keys():
        raise InputError(f"{source}: {len(missing)} weights are missing: {listed(missing)}")
    _check_shapes(weights, {name: tuple(weight.shape) for name, weight in expected.items()}, source)
    check_finite(weights, source)
    # copied, since a file that stays mapped into memory gives other alignments, hence roundings, and may change
    placed = {name: weights.pop(name).to(device, dtype, copy=True) for name in list(weights)}
    network.load_state_dict(placed, assign=True)
    network.finish_loading()
    nn.Module.eval(network).requires_grad_(False)


def _check_shapes(weights: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], source: Path) -> None:
    for head in _HEADS:
        if head in shapes and weights[head].shape != shapes[head]:
            raise InputError(
                f"{source}: the head {head} is {tuple(weights[head].shape)}, expected {shapes[head]}: "
                f"of the decoder's width, a row for each of {', '.join(DIMENSIONS)}"
            )
    wrong = [
        f"{name} is {tuple(weight.shape)}, expected {shapes[name]}"
        for name, weight in weights.items()
        if weight.shape != shapes[name]
    ]
    if wrong:
        raise InputError(f"{source} does not fit its {_CONFIG}: {listed(wrong)}")


def _published_name(path: str) -> str:
    """The published model that a folder or hub id is called after; VideoScore when it is called otherwise."""
    name = Path(path).name
    return name if name in FRAMES_OF or name == _QWEN else "VideoScore"
