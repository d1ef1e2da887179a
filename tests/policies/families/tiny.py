"""Whole pipeline folders of tiny, random, seeded models: every real class, a few thousand parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

from policies.config import LoraConfig, PolicyConfig
from policies.families.diffusers_policy import DiffusersPolicy
from policies.load import load_policy
from policies.types import Sampling, VideoShape

TEXT_WIDTH, TEXT_LENGTH = 32, 16
PROMPTS = ("a red circle moving left", "a blue square", "green")
SHAPES = {
    "wan": VideoShape(num_frames=5, height=16, width=32),
    "cogvideox": VideoShape(num_frames=9, height=16, width=32),
    "cogvideox-rotary": VideoShape(num_frames=9, height=16, width=32),  # as 5b
    "cogvideox-1.5": VideoShape(num_frames=9, height=16, width=32),
}


def sampling(*, guidance_scale: float = 1.0, steps: int = 3) -> Sampling:
    return Sampling(num_inference_steps=steps, guidance_scale=guidance_scale, max_sequence_length=TEXT_LENGTH)


def load(folder: Path, *, seed: int = 1, weight_sets: tuple[str, ...] | None = None, **options: Any) -> DiffusersPolicy:
    """Rank and alpha differ on purpose: only then does a lost alpha show."""
    config = PolicyConfig(path=str(folder), lora=LoraConfig(rank=4, alpha=6), **options)
    policy = load_policy(config, seed=seed, **({"weight_sets": weight_sets} if weight_sets else {}))
    assert isinstance(policy, DiffusersPolicy)
    return policy


def perturb(policy: DiffusersPolicy, *, seed: int = 0, which: str = "policy") -> None:
    """Gives a weight set random weights of a size that shows."""
    rng = torch.Generator().manual_seed(seed)
    tensors = {name: 0.5 * torch.randn(t.shape, generator=rng) for name, t in policy.export(which).items()}
    policy.load(which, tensors)


def build_tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "</s>", "<unk>", *" ".join(PROMPTS).split(), "blurry"]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(dict.fromkeys(words))}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def _text_size() -> dict[str, Any]:
    return {"vocab_size": 32, "d_model": TEXT_WIDTH, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 1}


def build_wan(folder: Path, *, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=TEXT_WIDTH,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    vae = AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    WanPipeline(
        tokenizer=build_tokenizer(),
        text_encoder=UMT5EncoderModel(UMT5Config(**_text_size())),
        transformer=transformer,
        vae=vae,
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    ).save_pretrained(folder)
    return folder


def build_cogvideox(folder: Path, *, seed: int = 0, rotary: bool = False, patch_size_t: int | None = None) -> Path:
    torch.manual_seed(seed)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=TEXT_WIDTH,
        num_layers=2,
        sample_width=4,
        sample_height=2,
        sample_frames=9,
        patch_size=2,
        patch_size_t=patch_size_t,
        max_text_seq_length=TEXT_LENGTH,
        use_rotary_positional_embeddings=rotary,
    )
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        scaling_factor=0.7,
    )
    CogVideoXPipeline(
        tokenizer=build_tokenizer(),
        text_encoder=T5EncoderModel(T5Config(**_text_size())),
        transformer=transformer,
        vae=vae,
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            snr_shift_scale=1.0 if rotary else 3.0,
            timestep_spacing="trailing",
            clip_sample=False,
        ),
    ).save_pretrained(folder)
    return folder


def build(family: str, folder: Path, *, seed: int = 0) -> Path:
    if family == "wan":
        return build_wan(folder, seed=seed)
    return build_cogvideox(
        folder, seed=seed, rotary=family != "cogvideox", patch_size_t=2 if family == "cogvideox-1.5" else None
    )
