"""What a finished run leaves for people: the aligned LoRA, the before/after test, and videos of both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from safetensors import safe_open
from safetensors.numpy import load_file, save

from cluster.config import RunConfig
from cluster.evaluation import EvaluationPlan, GroundTruth, Sample, compare, draw_samples
from cluster.parts import sampling_of, shape_of
from cluster.placement import Placement
from cluster.run_directory import RunDirectory, config_digest, write_atomic, write_json
from policies.calibration import Reward
from policies.shapes import truth as shapes_truth
from policies.types import Prompt
from policies.video import write_video

SHORT_SIDE_PX = 160  # what tiny videos are enlarged to, by a whole factor, so that players show them usefully
LORA_FILE = "pytorch_lora_weights.safetensors"


def export_lora(config: RunConfig, directory: RunDirectory, version: int, *, reward_model: dict[str, Any]) -> None:
    """Writes `lora/`: the chosen version as diffusers loads it, with its origin in the metadata."""
    source = directory.weights / f"{version:06d}" / LORA_FILE
    with safe_open(source, framework="numpy") as file:
        metadata = dict(file.metadata() or {})
    origin = {
        "base_model": config.policy.path,
        "policy_version": str(version),
        "reward_model": f"{reward_model['name']}@{reward_model['revision']}",
        "config_digest": config_digest(config),
    }
    write_atomic(directory.path / "lora" / LORA_FILE, save(load_file(source), metadata=metadata | origin), flush=True)


async def run_test(
    config: RunConfig,
    directory: RunDirectory,
    prompts: Sequence[Prompt],
    placement: Placement,
    *,
    reward: Reward,
    version: int,
) -> dict[str, Any]:
    """Initial policy against `version` on the test prompts with the same noise; writes test.json and samples/."""
    plan = EvaluationPlan(
        seed=config.evaluation.seed,
        samples_per_prompt=config.evaluation.samples_per_prompt,
        sampling=sampling_of(config),
        shape=shape_of(config),
    )
    before, after = [
        await draw_samples(
            plan.requests(prompts, version=which),
            generator=placement.generator,
            scorer=placement.scorer,
            reward=reward,
            fetch=placement.fetch,
        )
        for which in (0, version)
    ]
    truth: GroundTruth | None = shapes_truth if config.evaluation.ground_truth == "shapes" else None
    result = {"policy_version": version, **compare(before, after, truth=truth)}
    write_json(directory.path / "test.json", result)
    _write_samples(config, directory, before, after)
    return result


def _write_samples(config: RunConfig, directory: RunDirectory, before: list[Sample], after: list[Sample]) -> None:
    """Videos of the first sample of several prompts, before and after, and their index."""
    per_prompt = config.evaluation.samples_per_prompt
    upscale = max(1, SHORT_SIDE_PX // min(before[0].frames.shape[1:3])) if before else 1
    directory.samples.mkdir(parents=True, exist_ok=True)
    index = []
    for b, a in list(zip(before, after, strict=True))[::per_prompt][: config.evaluation.videos_in_report]:
        name = re.sub(r"[^A-Za-z0-9]+", "-", b.prompt.id)[:60].strip("-") + f"-{b.seed % 10**6:06d}"
        for when, sample in (("before", b), ("after", a)):
            write_video(
                directory.samples / f"{name}-{when}.mp4", sample.frames, fps=config.sampling.fps, upscale=upscale
            )
        index.append(
            {
                "name": name,
                "prompt": b.prompt.text,
                "seed": b.seed,
                "before": {"reward": b.reward, "scores": b.scores},
                "after": {"reward": a.reward, "scores": a.scores},
            }
        )
    write_json(directory.samples / "index.json", index)
