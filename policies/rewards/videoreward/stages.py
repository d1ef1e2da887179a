"""VideoReward's values on the way from frames to scores, laid out as the reference values are."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.rewards.stages import sha256_of_array, summary
from policies.rewards.videoreward.network import VideoBatch, VideoInput, VideoRewardNetwork
from policies.rewards.videoreward.pixels import FrameRules, frame_indices, resized
from policies.rewards.videoreward.template import DIMENSIONS, chat_text, template_text
from policies.rewards.videoreward.tokens import RewardTokenizer


def stages_of(
    network: VideoRewardNetwork,
    tokenizer: RewardTokenizer,
    rules: FrameRules,
    prepared: VideoInput,
    frames_FHWC: np.ndarray,
    prompt: str,
    fps: float,
) -> dict[str, Any]:
    """All of them, as JSON can hold them."""
    indices = frame_indices(len(frames_FHWC), fps, rules)
    sampled_FHWC = frames_FHWC[indices]
    resized_FCHW = resized(torch.from_numpy(sampled_FHWC), rules)
    batch = VideoBatch.of([prepared], pad_token_id=tokenizer.pad_token_id, device=network.device)
    return {
        "sampling": {
            "fps": rules.fps,
            "max_frame_pixels": rules.max_pixels,
            "nframes": len(indices),
            "indices": indices,
            "resized_height": resized_FCHW.shape[2],
            "resized_width": resized_FCHW.shape[3],
        },
        "text": _text(tokenizer.template_type, prompt),
        "tokens": _tokens(tokenizer, prepared.ids_L),
        "frames": {"shape_thwc": list(sampled_FHWC.shape), "sha256": sha256_of_array(sampled_FHWC)},
        "resized": {
            **summary(resized_FCHW),
            "shape_tchw": list(resized_FCHW.shape),
            "sha256_as_uint8": sha256_of_array(resized_FCHW.numpy().astype(np.uint8)),
        },
        "pixels": {
            **summary(prepared.patches_NP, shown=12),
            "grid_thw": list(prepared.grid),
            "sha256": sha256_of_array(prepared.patches_NP.numpy()),
        },
        **_hidden(network, batch),
    }


def _text(template_type: str, prompt: str) -> dict[str, Any]:
    template, chat = template_text(template_type, prompt), chat_text(template_type, prompt)
    return {
        "prompt": prompt,
        "template_chars": len(template),
        "template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "chat_chars": len(chat),
        "chat_sha256": hashlib.sha256(chat.encode()).hexdigest(),
    }


def _tokens(tokenizer: RewardTokenizer, ids_L: Tensor) -> dict[str, Any]:
    is_video_L = ids_L == tokenizer.video_token_id
    is_reward_L = torch.isin(ids_L, torch.tensor(tokenizer.reward_token_ids, dtype=ids_L.dtype))
    return {
        "length": len(ids_L),
        "sha256_int64": sha256_of_array(ids_L.numpy().astype("<i8")),
        "video_token_id": tokenizer.video_token_id,
        "video_tokens": int(is_video_L.sum()),
        "first_video_position": int(is_video_L.nonzero()[0]),
        "special_token_ids": dict(zip(DIMENSIONS, tokenizer.reward_token_ids, strict=False)),
        "special_positions": is_reward_L.nonzero().flatten().tolist(),
        "ids": ids_L.tolist(),
    }


@torch.no_grad()
def _hidden(network: VideoRewardNetwork, batch: VideoBatch) -> dict[str, Any]:
    seen: dict[str, Tensor] = {}
    decoder = network.model.language_model

    def keep_input(module: torch.nn.Module, args: Any, options: dict[str, Any]) -> None:
        seen["decoder_in"] = options["inputs_embeds"][0]

    def keep_visual(module: torch.nn.Module, args: Any, output: Any) -> None:
        seen["visual_out"] = output.pooler_output

    def keep_layer(index: int) -> Any:
        def keep(module: torch.nn.Module, args: Any, output: Any) -> None:
            seen[f"layer_{index}"] = (output[0] if isinstance(output, tuple) else output)[0]

        return keep

    hooks = [
        network.model.visual.register_forward_hook(keep_visual),
        decoder.register_forward_pre_hook(keep_input, with_kwargs=True),
        *(layer.register_forward_hook(keep_layer(index)) for index, layer in enumerate(decoder.layers)),
    ]
    try:
        hidden_BLE = network.hidden(batch)
    finally:
        for hook in hooks:
            hook.remove()
    scores_D = network.head(hidden_BLE, batch)[0].float()
    return {
        "visual_out": summary(seen["visual_out"].float()),
        "decoder_in": summary(seen["decoder_in"].float()),
        "layer_out": [
            _layer(network, index, seen[f"layer_{index}"].float(), batch) for index in range(len(decoder.layers))
        ],
        **_at_reward_tokens(network, hidden_BLE, batch),
        "raw": dict(zip(DIMENSIONS, scores_D.tolist(), strict=True)),
    }


def _layer(network: VideoRewardNetwork, index: int, states_LE: Tensor, batch: VideoBatch) -> dict[str, Any]:
    found = {"layer": index, **summary(states_LE)}
    if network.reward_token == "special":
        found["at_reward_tokens_first4"] = network.at_reward_tokens(states_LE[None], batch)[0, :, :4].tolist()
    return found


def _at_reward_tokens(network: VideoRewardNetwork, hidden_BLE: Tensor, batch: VideoBatch) -> dict[str, Any]:
    if network.reward_token == "last":
        last_E = hidden_BLE[0, -1]
        return {
            "final_norm_at_last_token": last_E.float().tolist(),
            "head_at_last_token": network.rm_head(last_E).float().tolist(),
        }
    rows_DE = network.at_reward_tokens(hidden_BLE, batch)[0]
    return {
        "final_norm_at_reward_tokens": dict(zip(DIMENSIONS, rows_DE.float().tolist(), strict=True)),
        "head_at_reward_tokens": dict(zip(DIMENSIONS, network.rm_head(rows_DE).float().tolist(), strict=True)),
    }
