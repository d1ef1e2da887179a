"""What a tiny VideoReward is trained on: a Qwen2-VL of random weights, and judged pairs of moving shapes as mp4.

Of every clip the faults are known, so labels need no judge: the clip with the milder fault is better, and faults closer
than a margin are tied. Pairs are of clips of one prompt; held-out pairs are of prompts that no training pair has.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import Qwen2VLConfig, Qwen2VLModel

from policies.rewards.videoreward.template import PAD_TOKEN, REWARD_TOKENS, VIDEO_TOKEN, chat_text
from policies.shapes.pairs import FAULTS, TIE_SEVERITY, label
from policies.shapes.prompts import TEST_PROMPTS, TRAIN_PROMPTS, VALIDATION_PROMPTS, WORDS, parse_prompt
from policies.shapes.world import FPS, Corruption, render_batch, shown_attributes
from policies.video import write_video

_SPECIAL = (PAD_TOKEN, "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", VIDEO_TOKEN)
_NAMES = {1.0: "A", -1.0: "B", 0.0: "same"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of the network. A patch is a square of pixels in two frames; four of them become one token.

    With two decoder layers instead of three, text alignment is learned about twice as slowly.
    """

    hidden: int = 64
    layers: int = 3
    vision_width: int = 64
    vision_layers: int = 2
    heads: int = 4
    patch: int = 8


def write_base(folder: Path, sizes: Sizes, *, seed: int) -> None:
    """A Qwen2-VL folder: configuration, random weights, and a tokenizer with one token per word."""
    folder.mkdir(parents=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    rotated = sizes.hidden // sizes.heads // 2
    section = 3 * rotated // 8
    config = Qwen2VLConfig(
        text_config={
            "hidden_size": sizes.hidden,
            "intermediate_size": 2 * sizes.hidden,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.heads,
            "vocab_size": tokenizer.get_vocab_size(),
            "max_position_embeddings": 1024,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [rotated - 2 * section, section, section],
            },
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
        },
        vision_config={
            "depth": sizes.vision_layers,
            "embed_dim": sizes.vision_width,
            "hidden_size": sizes.hidden,
            "mlp_ratio": 2,
            "num_heads": sizes.heads,
            "patch_size": sizes.patch,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        image_token_id=tokenizer.token_to_id("<|vision_end|>"),  # there are no images
        video_token_id=tokenizer.token_to_id(VIDEO_TOKEN),
        vision_start_token_id=tokenizer.token_to_id("<|vision_start|>"),
        vision_end_token_id=tokenizer.token_to_id("<|vision_end|>"),
    )
    torch.manual_seed(seed)
    Qwen2VLModel(config).save_pretrained(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """How pairs are made and judged.

    Args:
        tie_severity: severities of faults closer than this are a tie.
        label_noise: share of training labels that are drawn from A, B and same instead, as people's are now and then.
    """

    clips_per_prompt: int
    pairs: int
    tie_severity: float = TIE_SEVERITY
    label_noise: float = 0.0


def write_data(folder: Path, judging: Judging, *, seed: int) -> tuple[Path, Path]:
    """Training pairs of the 104 training prompts, and 600 pairs of the 40 other prompts without noise."""
    training = write_pairs(folder, "train", TRAIN_PROMPTS, judging, seed=seed)
    held_out = replace(judging, clips_per_prompt=20, pairs=600, label_noise=0.0)
    return training, write_pairs(folder, "heldout", (*VALIDATION_PROMPTS, *TEST_PROMPTS), held_out, seed=seed + 1)


def write_pairs(folder: Path, name: str, prompts: Sequence[str], judging: Judging, *, seed: int) -> Path:
    """Clips below folder/clips, and folder/name.csv in VideoAlign's layout."""
    rng = np.random.default_rng(seed)
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    faults = [_write_clips(folder / "clips", f"{name}-{n}", text, judging, rng) for n, text in enumerate(prompts)]
    path = folder / f"{name}.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path_A", "path_B", "prompt", "VQ", "MQ", "TA"])
        for _ in range(judging.pairs):
            number = int(rng.integers(len(prompts)))
            first, second = (int(index) for index in rng.choice(judging.clips_per_prompt, 2, replace=False))
            values = label(faults[number][first], faults[number][second], tie_severity=judging.tie_severity)
            said = [rng.choice(list(_NAMES.values())) if rng.random() < judging.label_noise else _NAMES[value]
                    for value in values]  # fmt: skip
            paths = [f"{name}-{number}-{index}.mp4" for index in (first, second)]
            table.writerow([*paths, prompts[number], *said])
    return path


def _write_clips(folder: Path, name: str, prompt: str, judging: Judging, rng: np.random.Generator) -> list[Corruption]:
    """Clips of one prompt, and the faults of each."""
    faults = [FAULTS.draw(rng) for _ in range(judging.clips_per_prompt)]
    shown = [shown_attributes(parse_prompt(prompt), fault, rng) for fault in faults]
    for index, clip in enumerate(render_batch(shown, rng, [replace(fault, wrong=()) for fault in faults])):
        write_video(folder / f"{name}-{index}.mp4", clip, fps=FPS)
    return faults


def _tokenizer() -> Tokenizer:
    """The words of the template and of the world, split at blanks."""
    text = chat_text("short_special", "")
    for token in (*_SPECIAL, *REWARD_TOKENS.values()):
        text = text.replace(token, " ")
    entries = ["<unk>", *_SPECIAL, *dict.fromkeys([*text.split(), *WORDS])]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(entries)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in _SPECIAL])
    return tokenizer


def write_config(path: Path, values: dict[str, object]) -> Path:
    """A configuration; JSON is YAML."""
    path.write_text(json.dumps(values, indent=1))
    return path
