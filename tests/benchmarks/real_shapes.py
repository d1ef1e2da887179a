"""One group and one update at the shapes of a real model, with random weights: seconds and peak memory.

    python -m tests.benchmarks.real_shapes [--device cuda] [--size tiny|wan-1.3b] [--frames 81 --height 480 --width 832]

Needs `policies` only: no Ray, no hub, no checkpoint. Compares `joint` and `two_pass`, with and without gradient
checkpointing, and prints one JSON object. `--size tiny` runs anywhere; the suite does, so that this stays runnable.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import time
from importlib.metadata import version
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel

from policies.config import LearnerConfig, ObjectiveConfig
from policies.families.wan import WanPolicy
from policies.learner import LocalLearner
from policies.lora import LoraWeightSets
from policies.policy import WEIGHT_SETS
from policies.text import PromptEmbeddings
from policies.types import Candidate, Group, Pair, Prompt, Sampling, Scored, VideoShape

# Wan2.1-T2V-1.3B: diffusers' class defaults are the 14B model's.
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "wan-1.3b": {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30},
    "tiny": {"num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 32, "num_layers": 2, "text_dim": 32},
}
VAES: dict[str, dict[str, Any]] = {
    "wan-1.3b": {},
    "tiny": {"base_dim": 3, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1},
}
TEXT_TOKENS = 512


def random_policy(size: str, *, device: str, dtype: torch.dtype, rank: int) -> WanPolicy:
    """A Wan policy with random weights; its text encoder makes up embeddings of the right shape."""
    torch.manual_seed(0)
    width = TRANSFORMERS[size].get("text_dim", 4096)
    with torch.device(device):
        transformer = WanTransformer3DModel(**TRANSFORMERS[size]).to(dtype)
        vae = AutoencoderKLWan(**VAES[size])
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    pipeline = WanPipeline(tokenizer=None, text_encoder=None, transformer=transformer, vae=vae, scheduler=scheduler)
    pipeline.to(device)
    vae.requires_grad_(False)
    lora = LoraWeightSets(
        transformer,
        targets=WanPolicy.default_lora_targets,
        rank=rank,
        alpha=2.0 * rank,
        seed=0,
        weight_sets=WEIGHT_SETS,
    )
    return WanPolicy(
        pipeline, lora=lora, embeddings=PromptEmbeddings(lambda: lambda text, length: torch.randn(length, width))
    )


def measured(device: str, work: Any) -> tuple[Any, dict[str, float | None]]:
    """What `work()` gives, its seconds, and its peak memory on the device (None on a CPU)."""
    is_cuda = device.startswith("cuda")
    if is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    result = work()
    if is_cuda:
        torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() / 2**30 if is_cuda else None
    return result, {"seconds": time.perf_counter() - begun, "peak_gib": peak}


def pair_of(latents_B: torch.Tensor, prompt: Prompt, shape: VideoShape) -> Pair:
    """The first two of a group as chosen and rejected."""
    members = tuple(
        Scored(
            candidate=Candidate(
                group_id="u000000-p000",
                prompt=prompt,
                shape=shape,
                seed=seed,
                policy_version=0,
                weights_hash="",
                latents=latents,
                frames=None,
            ),
            scores={"made_up": -float(seed)},
        )
        for seed, latents in enumerate(latents_B.cpu())
    )
    group = Group(
        group_id="u000000-p000",
        prompt=prompt,
        members=members,
        rewards=tuple(-float(seed) for seed in range(len(members))),
    )
    return Pair(group=group, chosen=0, rejected=1)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One group of two candidates, decoded, then one update of one pair and one draw in each mode."""
    dtype = torch.bfloat16 if arguments.device.startswith("cuda") else torch.float32
    policy = random_policy(arguments.size, device=arguments.device, dtype=dtype, rank=arguments.rank)
    shape = VideoShape(num_frames=arguments.frames, height=arguments.height, width=arguments.width)
    prompt = Prompt(id="p", text="a prompt", shape=shape)
    sampling = Sampling(
        num_inference_steps=arguments.inference_steps, guidance_scale=1.0, max_sequence_length=TEXT_TOKENS
    )
    (embedding,) = policy.embed([prompt.text], max_sequence_length=TEXT_TOKENS)
    with torch.no_grad(), policy.use("behaviour"):
        latents_B, sampled = measured(
            arguments.device, lambda: policy.sample(embedding, None, [0, 1], shape=shape, sampling=sampling)
        )
    _, decoded = measured(arguments.device, lambda: policy.decode(latents_B))
    pair = pair_of(latents_B, prompt, shape)
    updates: dict[str, Any] = {}
    for mode in ("joint", "two_pass"):
        for is_checkpointed in (True, False):
            policy.set_gradient_checkpointing(is_checkpointed)
            learner = LocalLearner(
                policy,
                LearnerConfig(gradient_mode=mode),
                ObjectiveConfig(draws_per_pair=1),
                run_seed=0,
                max_sequence_length=TEXT_TOKENS,
            )
            name = f"{mode}{', checkpointed' if is_checkpointed else ''}"
            try:
                stats, updates[name] = measured(
                    arguments.device, lambda learner=learner: asyncio.run(learner.update([pair], batch_index=0))
                )
                updates[name]["loss"] = stats.loss
            except torch.cuda.OutOfMemoryError:
                updates[name] = {"seconds": None, "peak_gib": None, "out_of_memory": True}
                torch.cuda.empty_cache()
    return {
        "size": arguments.size,
        "shape": str(shape),
        "inference_steps": arguments.inference_steps,
        "lora_rank": arguments.rank,
        "dtype": str(dtype),
        "sample_2": sampled,
        "decode_2": decoded,
        "update_1_pair_1_draw": updates,
        "device": torch.cuda.get_device_name() if arguments.device.startswith("cuda") else platform.machine(),
        "versions": {"torch": torch.__version__, "diffusers": version("diffusers"), "peft": version("peft")},
    }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=[*TRANSFORMERS], default="wan-1.3b")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--inference-steps", type=int, default=4)
    parser.add_argument("--rank", type=int, default=64)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    print(json.dumps(measure(parse())))
