"""What can be known of a model folder without loading it: is it in diffusers layout, safetensors, of a known family?

Reads JSON and the headers of safetensors files only, so it needs no torch and takes milliseconds. Loading checks
again and more; this is for a clear answer before anything starts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from policies.errors import InputError
from policies.families.sizes import SizeRule, check_sizes
from policies.types import VideoShape

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
PIPELINES = {"WanPipeline": "Wan", "CogVideoXPipeline": "CogVideoX"}  # as policies/load.py, which needs torch
PARTS_WITH_WEIGHTS = ("transformer", "vae", "text_encoder")
MAX_HEADER_BYTES = 100_000_000  # the format's own limit


def check_policy_folder(folder: Path) -> None:
    """Raises InputError when a folder is not a video model in diffusers layout with safetensors weights."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a folder in diffusers layout or a hub id (owner/name)")
    index = _read_json(folder / "model_index.json", why="a folder in diffusers layout has one")
    pipeline = index.get("_class_name")
    if pipeline not in PIPELINES:
        raise InputError(
            f"{folder / 'model_index.json'}: _class_name is {pipeline or 'missing'}; supported pipelines: "
            f"{', '.join(PIPELINES)}"
        )
    for part in PARTS_WITH_WEIGHTS:
        if not _is_named(index.get(part)):
            raise InputError(f"{folder / 'model_index.json'}: names no {part}; a {pipeline} has one")
        if not (folder / part).is_dir():
            raise InputError(f"{folder / part}: no such folder, though model_index.json names it")
        check_weights(folder / part)


def check_weights(folder: Path) -> None:
    """Raises InputError when a folder holds no safetensors weights, pickles instead, or damaged ones."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in PICKLE_SUFFIXES)
        if pickles:
            raise InputError(
                f"{folder / pickles[0]}: a pickle, which can run code when it is loaded; only safetensors are read. "
                "Convert it (save_pretrained with safe_serialization=True)"
            )
        raise InputError(f"{folder}: no *.safetensors file; weights are read from safetensors only")
    for shards in folder.glob("*.safetensors.index.json"):
        named = _read_json(shards, why="it names the shards").get("weight_map", {}).values()
        missing = sorted(name for name in set(named) if not (folder / str(name)).is_file())
        if missing:
            raise InputError(f"{folder / missing[0]}: missing, though {shards.name} names it; copy the whole folder")
    for file in files:
        read_header(file)


def read_header(file: Path) -> dict[str, Any]:
    """The header of a safetensors file: {tensor name: {dtype, shape, data_offsets}}.

    Raises:
        InputError: the file is no safetensors file, or cut short.
    """
    with file.open("rb") as stream:
        size = file.stat().st_size
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        if start[:2] == b"PK" or start[:1] == b"\x80":
            raise InputError(f"{file}: a pickle (torch.save) under a safetensors name; only safetensors are read")
        if len(start) < 8 or length > MAX_HEADER_BYTES:
            raise InputError(f"{file}: not a safetensors file; only safetensors are read")
        raw = stream.read(length)
    try:
        header = json.loads(raw)
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(f"{file}: not a safetensors file, or damaged; copy it again") from None
    if size != 8 + length + end:
        raise InputError(f"{file}: {size} bytes where its header promises {8 + length + end}; copy it again")
    return dict(header)


def check_size(folder: Path, shape: VideoShape) -> None:
    """Raises InputError with the nearest sizes when the model of a checked folder cannot take this one."""
    index = _read_json(folder / "model_index.json", why="a folder in diffusers layout has one")
    vae = _read_json(folder / "vae" / "config.json", why="the VAE has one")
    transformer = _read_json(folder / "transformer" / "config.json", why="the transformer has one")
    try:
        rules = _SIZES[str(index["_class_name"])](vae, transformer)
    except (KeyError, TypeError, ValueError):
        return  # a config that leaves out defaults; loading knows them and checks
    check_sizes(PIPELINES[str(index["_class_name"])], shape, **rules)


def _wan_sizes(vae: dict[str, Any], transformer: dict[str, Any]) -> dict[str, SizeRule]:
    downsampled = vae["temperal_downsample"]  # diffusers' own spelling
    spatial = int(vae.get("scale_factor_spatial") or 2 ** len(downsampled))
    temporal = int(vae.get("scale_factor_temporal") or 2 ** sum(downsampled))
    _, height, width = transformer["patch_size"]
    return {
        "frames": SizeRule(multiple=temporal, remainder=1),
        "height": SizeRule(multiple=math.lcm(16, spatial * height)),
        "width": SizeRule(multiple=math.lcm(16, spatial * width)),
    }


def _cogvideox_sizes(vae: dict[str, Any], transformer: dict[str, Any]) -> dict[str, SizeRule]:
    spatial = 2 ** (len(vae["block_out_channels"]) - 1)
    side = SizeRule(multiple=math.lcm(8, spatial * transformer["patch_size"]))
    return {
        "frames": SizeRule(multiple=int(vae["temporal_compression_ratio"]), remainder=1),
        "height": side,
        "width": side,
    }


_SIZES = {"WanPipeline": _wan_sizes, "CogVideoXPipeline": _cogvideox_sizes}


def unmatched_targets(folder: Path, targets: Sequence[str]) -> list[str]:
    """The LoRA targets that are the end of no module name in the transformer of a checked folder."""
    modules = {module for file in (folder / "transformer").glob("*.safetensors") for module in _modules(file)}
    return [target for target in targets if not any(_is_end(target, module) for module in modules)]


def _modules(file: Path) -> Iterator[str]:
    for name, entry in read_header(file).items():
        if name.endswith(".weight") and len(entry.get("shape", ())) == 2:
            yield name.removesuffix(".weight")


def _is_end(target: str, module: str) -> bool:
    return module == target or module.endswith(f".{target}")


def _is_named(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)


def _read_json(file: Path, *, why: str) -> dict[str, Any]:
    if not file.is_file():
        raise InputError(f"{file}: no such file; {why}")
    try:
        value = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        raise InputError(f"{file}: not JSON; copy the folder again") from None
    if not isinstance(value, dict):
        raise InputError(f"{file}: expected a JSON object; copy the folder again")
    return value
