"""Model folders in diffusers layout, of a few bytes: what can be checked without loading one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_safetensors(path: Path, tensors: dict[str, list[int]]) -> None:
    """A valid file of float32 zeros."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header: dict[str, Any] = {}
    end = 0
    for name, shape in tensors.items():
        size = 4
        for side in shape:
            size *= side
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(end))


def wan_folder(folder: Path) -> Path:
    """A Wan model."""
    index = {
        "_class_name": "WanPipeline",
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "transformer_2": [None, None],
    }
    for part in ("transformer", "vae", "text_encoder"):
        write_safetensors(
            folder / part / "model.safetensors", {"blocks.0.attn1.to_q.weight": [2, 2], "norm.weight": [2]}
        )
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "vae" / "config.json").write_text(json.dumps({"temperal_downsample": [False, True, True]}))
    (folder / "transformer" / "config.json").write_text(json.dumps({"patch_size": [1, 2, 2]}))
    return folder
