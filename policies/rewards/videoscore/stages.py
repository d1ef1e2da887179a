"""VideoScore's values on the way from frames to scores, laid out as the reference values are."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from policies.rewards.stages import sha256_of_array, summary
from policies.rewards.videoscore.inputs import FramesInput, Reader, ScoreNetwork
from policies.rewards.videoscore.template import DIMENSIONS


def stages_of(
    network: ScoreNetwork, reader: Reader, clip: FramesInput, frames_FHWC: np.ndarray, prompt: str, indices: list[int]
) -> dict[str, Any]:
    """All of them, as JSON can hold them."""
    sampled_FHWC = frames_FHWC[indices]
    return {
        "sampling": {"total_frames": len(frames_FHWC), "indices": indices},
        "frames": {
            "shape_thwc": list(sampled_FHWC.shape),
            "sha256": sha256_of_array(sampled_FHWC),
            "mean": float(sampled_FHWC.mean()),
            "per_frame_mean": sampled_FHWC.mean(axis=(1, 2, 3)).tolist(),
            "first_pixels": sampled_FHWC.flatten()[:12].tolist(),
        },
        "pixels": _pixels(network, clip.frames_FCHW),
        "text": _text(reader.text(prompt, len(indices)), prompt),
        "tokens": _tokens(clip.ids_L, network.vision_token_id),
        **_hidden(network, clip),
    }


def _pixels(network: ScoreNetwork, frames_FCHW: Tensor) -> dict[str, Any]:
    pixels = network.pixels(frames_FCHW)
    described = {
        **summary(pixels, shown=12),
        "dtype": str(pixels.dtype),
        "sha256": sha256_of_array(pixels.numpy()),
        "patches_high": frames_FCHW.shape[2] // network.patch_size,
        "patches_wide": frames_FCHW.shape[3] // network.patch_size,
    }
    if pixels.ndim == 4:
        # as the reference has it: a batch of one clip, whose frames need no padding
        described["shape"] = [1, *pixels.shape]
        described |= {"mask_shape": [1, len(pixels), *pixels.shape[2:]], "mask_all_ones": True}
        described["second_frame_mid_row_first"] = pixels[min(1, len(pixels) - 1), 1, pixels.shape[2] // 2, :8].tolist()
    return described


def _text(text: str, prompt: str) -> dict[str, Any]:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"prompt": prompt, "chars": len(text), "sha256": digest, "tail": text[-40:]}


def _tokens(ids_L: Tensor, vision_token_id: int) -> dict[str, Any]:
    ids = ids_L.tolist()
    first = ids.index(vision_token_id)
    return {
        "length": len(ids),
        "sha256_int64": sha256_of_array(ids_L.numpy().astype("<i8")),
        "image_token_id": vision_token_id,
        "image_tokens": ids.count(vision_token_id),
        "ids_before_first_image_token": ids[:first],
        "ids_from_first_image_to_end_of_second_frame_block": ids[first : first + 24],
        "last_ids": ids[-6:],
        "ids": ids,
    }


@torch.no_grad()
def _hidden(network: ScoreNetwork, clip: FramesInput) -> dict[str, Any]:
    parts: dict[str, list[Tensor]] = {}
    decoder = network.decoder()

    def keep_input(module: nn.Module, args: Any, options: dict[str, Any]) -> None:
        parts["decoder_in"] = [options["inputs_embeds"][0]]

    named = {**network.towers(), "norm": decoder.norm}
    named |= {f"layer_{index}": layer for index, layer in enumerate(decoder.layers)}
    hooks = [module.register_forward_hook(_keep(parts, name)) for name, module in named.items()]
    hooks.append(decoder.register_forward_pre_hook(keep_input, with_kwargs=True))
    try:
        scores_D = network([clip])[0].cpu()
    finally:
        for hook in hooks:
            hook.remove()
    # the towers may take frames a few at a time
    seen = {name: torch.cat(tensors) for name, tensors in parts.items()}
    at = network.read_positions(clip.ids_L).to(network.device)
    logits = dict(zip(DIMENSIONS, scores_D.tolist(), strict=True))
    return {
        **{name: summary(seen[name].float()) for name in (*network.towers(), "decoder_in")},
        "layer_out": [
            _layer(index, seen[f"layer_{index}"][0].float(), int(at[-1])) for index in range(len(decoder.layers))
        ],
        **_final_norm(seen["norm"][0][at].float()),
        "logits": logits,
        "rounded_3": {name: round(score, 3) for name, score in logits.items()},
        "mean_of_5": statistics.fmean(logits.values()),
    }


def _keep(parts: dict[str, list[Tensor]], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def keep(module: nn.Module, args: Any, output: Any) -> None:
        if hasattr(output, "last_hidden_state"):
            pooled = getattr(output, "pooler_output", None)
            output = output.last_hidden_state if pooled is None else pooled
        parts.setdefault(name, []).append(output[0] if isinstance(output, tuple) else output)

    return keep


def _layer(index: int, states_LE: Tensor, at: int) -> dict[str, Any]:
    return {"layer": index, **summary(states_LE), "at_last_token_first4": states_LE[at, :4].tolist()}


def _final_norm(rows: Tensor) -> dict[str, Any]:
    if len(rows) == 1:
        return {"final_norm_at_last_token": rows[0].tolist()}
    return {"final_norm_at_label_tokens": dict(zip(DIMENSIONS, rows.tolist(), strict=True))}
