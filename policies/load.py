"""Loads a text-to-video model as a `VideoPolicy`: from a folder or hub id to LoRA weight sets on a frozen base."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from policies.config import PolicyConfig
from policies.errors import InputError
from policies.families.cogvideox import CogVideoXPolicy
from policies.families.diffusers_policy import DiffusersPolicy
from policies.families.wan import WanPolicy
from policies.lora import LoraWeightSets
from policies.model_folder import ModelFolder, open_model_folder
from policies.policy import WEIGHT_SETS, VideoPolicy
from policies.text import EncodeText, PromptEmbeddings

FAMILIES: dict[str, type[DiffusersPolicy]] = {"WanPipeline": WanPolicy, "CogVideoXPipeline": CogVideoXPolicy}
"""Families by the pipeline class that a folder's model_index.json names."""

_BUNDLED = {"shapes": Path(__file__).parent / "shapes" / "assets" / "policy"}
_TEXT_ENCODERS = ("T5EncoderModel", "UMT5EncoderModel")


def load_policy(config: PolicyConfig, *, seed: int, weight_sets: Sequence[str] = WEIGHT_SETS) -> VideoPolicy:
    """Loads the transformer (in `config.dtype`) and the VAE (float32), frozen, and adds the LoRA weight sets (float32).

    The text encoder is loaded when `embed` first meets an unseen prompt and freed by `release_text_encoder`.

    Args:
        config: `path` is a folder or hub id in diffusers layout, or `shapes`, the bundled one.
        seed: of the LoRA's A matrices; B is zero, so every weight set starts equal to the base.
        weight_sets: what to keep in memory; the first is in use at the start.
    Raises:
        InputError: the folder, device, weights or LoRA targets cannot be used; says which and what to do.
    """
    folder = open_model_folder(str(_BUNDLED.get(config.path, config.path)), revision=config.revision)
    if folder.pipeline_class not in FAMILIES:
        raise InputError(
            f"policy.path: '{config.path}' is a {folder.pipeline_class}; supported pipelines: {', '.join(FAMILIES)}"
        )
    family = FAMILIES[folder.pipeline_class]
    device = _device(config.device)
    folder.weights("text_encoder"), folder.component("tokenizer")  # needed later: better said now
    pipeline = _load_pipeline(family, folder, dtype=getattr(torch, config.dtype))
    pipeline.to(device)
    lora = LoraWeightSets(
        pipeline.transformer,
        targets=config.lora.targets if config.lora.targets is not None else family.default_lora_targets,
        rank=config.lora.rank,
        alpha=config.lora.alpha,
        seed=seed,
        weight_sets=weight_sets,
    )
    policy = family(pipeline, lora=lora, embeddings=PromptEmbeddings(lambda: _load_text_encoder(folder, pipeline)))
    policy.set_gradient_checkpointing(config.gradient_checkpointing)
    return policy


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"policy.device: '{name}' cannot be used here: {reason}") from error
    return device


def _load_pipeline(family: type[DiffusersPolicy], folder: ModelFolder, *, dtype: torch.dtype) -> Any:
    """The pipeline without its text side."""
    schedulers = {scheduler.__name__: scheduler for scheduler in family.scheduler_classes}
    scheduler = schedulers[folder.class_of("scheduler", allowed=tuple(schedulers))]
    if isinstance(second := folder.index.get("transformer_2"), list) and second[1] is not None:
        raise InputError(f"{folder.source}: models with two transformers are not supported; use one with a single one")
    options = {name: folder.index[name] for name in ("boundary_ratio", "expand_timesteps") if name in folder.index}
    with _quiet():
        pipeline = family.pipeline_class(
            tokenizer=None,
            text_encoder=None,
            transformer=_load_weights(family.transformer_class, folder, "transformer", dtype=dtype),
            vae=_load_weights(family.vae_class, folder, "vae", dtype=torch.float32),
            scheduler=scheduler.from_pretrained(folder.component("scheduler"), local_files_only=True),
            **options,
        )
    family.check_pipeline(pipeline)
    return pipeline


def _load_weights(model_class: type[Any], folder: ModelFolder, name: str, *, dtype: torch.dtype) -> nn.Module:
    """A diffusers model, frozen; every tensor present, of the right shape and finite."""
    folder.class_of(name, allowed=(model_class.__name__,))
    path = folder.weights(name)
    try:
        model, report = model_class.from_pretrained(
            path, torch_dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (ValueError, RuntimeError, KeyError, TypeError, OSError) as error:
        raise InputError(f"{path} cannot be loaded as a {model_class.__name__}: {error}") from error
    _check_tensors(model, report, path)
    frozen: nn.Module = model.requires_grad_(False).eval()
    return frozen


def _check_tensors(model: nn.Module, report: dict[str, Any], path: Path) -> None:
    if missing := sorted(report["missing_keys"]):
        raise InputError(f"{path}: {len(missing)} tensors of the model are missing, first: {missing[0]}")
    if unexpected := sorted(report["unexpected_keys"]):
        raise InputError(f"{path}: {len(unexpected)} tensors belong to no part of the model, first: {unexpected[0]}")
    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path}: the weight {name} holds numbers that are not finite; the file is damaged")


def _load_text_encoder(folder: ModelFolder, pipeline: Any) -> EncodeText:
    """Tokenizer and text encoder behind the pipeline's own `encode_prompt`, which owns cleaning, padding and masks."""
    encoder_class = getattr(transformers, folder.class_of("text_encoder", allowed=_TEXT_ENCODERS))
    path, dtype, device = folder.weights("text_encoder"), pipeline.transformer.dtype, pipeline.transformer.device
    try:
        with _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder.component("tokenizer"), local_files_only=True)
            encoder, report = encoder_class.from_pretrained(
                path, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except (ValueError, RuntimeError, KeyError, TypeError, OSError) as error:
        raise InputError(f"{folder.source}: the text encoder cannot be loaded: {error}") from error
    if missing := sorted(report["missing_keys"]):
        raise InputError(f"{path}: {len(missing)} tensors of the text encoder are missing, first: {missing[0]}")
    text_pipeline = type(pipeline)(
        tokenizer=tokenizer,
        text_encoder=encoder.requires_grad_(False).eval().to(device),
        transformer=pipeline.transformer,
        vae=pipeline.vae,
        scheduler=pipeline.scheduler,
    )

    def encode(text: str, max_sequence_length: int) -> Tensor:
        embedding_1LD: Tensor = text_pipeline.encode_prompt(
            prompt=text,
            do_classifier_free_guidance=False,
            max_sequence_length=max_sequence_length,
            device=device,
        )[0]
        return embedding_1LD[0]

    return encode


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and load reports; what matters of them is checked and raised here."""
    logger = logging.getLogger("transformers")
    level, bars = logger.level, transformers.utils.logging.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
