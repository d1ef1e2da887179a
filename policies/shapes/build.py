"""Makes the world's models from nothing: `onlinevpo shapes build [vae|text|policy|reward|all]`.

Four stages, each a function that writes one ordinary folder below the output directory:

    vae     policy/vae                            the autoencoder (policies.shapes.vae)
    text    policy/tokenizer, policy/text_encoder (policies.shapes.text)
    policy  policy, now a folder of diffusers.WanPipeline; needs vae and text
    reward  reward, a folder of ShapesRewardModel; needs vae

Everything is seeded and counted in steps, never in seconds: with one thread the same seed gives the same weights.
Folders are written beside their place and then moved there, so a stopped build leaves no half-written one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Never

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline
from tqdm import tqdm
from transformers import AutoTokenizer, UMT5EncoderModel

from policies.errors import InputError
from policies.pretrain import PretrainConfig, pretrain
from policies.shapes.gates import mean_scores, round_trip, sample_plainly
from policies.shapes.pairs import training_steps
from policies.shapes.pretrain import FAULTS, fill_bank, new_transformer
from policies.shapes.prompts import TEST_PROMPTS, TRAIN_PROMPTS
from policies.shapes.readme import policy_readme, reward_readme
from policies.shapes.reward import new_reward_model
from policies.shapes.reward_training import RewardTraining, train_reward
from policies.shapes.text import embed, new_text_encoder, new_tokenizer
from policies.shapes.truth import score_clips
from policies.shapes.vae import VaeTraining, train_vae
from policies.shapes.world import FaultRates

StageProgress = Callable[[str, int, int, float], None]
"""Called after each training step with the stage, steps done, steps in all, loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """Steps and sizes of a build. The defaults made the shipped weights; SMOKE takes seconds and teaches nothing."""

    vae: VaeTraining = field(default_factory=VaeTraining)
    policy: PretrainConfig = field(default_factory=PretrainConfig)
    policy_clips: int = 12_000
    policy_faults: FaultRates = FAULTS
    policy_batch: int = 32
    reward: RewardTraining = field(default_factory=RewardTraining)
    reward_bank_pairs: int = 1920
    reward_batch_pairs: int = 32
    readme_clips_per_prompt: int = 4


SHIPPED = BuildSettings()
SMOKE = BuildSettings(
    vae=VaeTraining(steps=2, batch_size=2, whitening_clips=8),
    policy=PretrainConfig(steps=2, warmup_steps=1),
    policy_clips=8,
    policy_batch=2,
    reward=RewardTraining(steps=3, lr=2e-3, warmup_steps=1),
    reward_bank_pairs=2,
    reward_batch_pairs=2,
    readme_clips_per_prompt=0,
)


def build(
    stage: str,
    output_dir: Path,
    *,
    seed: int = 0,
    settings: BuildSettings = SHIPPED,
    progress: StageProgress | None = None,
) -> Path:
    """Builds one stage, or `all` in order, and returns the folder it wrote (for `all`: the output directory).

    Raises:
        InputError: unknown stage, or the folders of an earlier stage are missing.
    """
    if stage != "all" and stage not in STAGES:
        raise InputError(f"stage {stage!r} does not exist; use one of {', '.join((*STAGES, 'all'))}.")
    if stage != "all":
        return STAGES[stage](output_dir, seed, settings, progress)
    for one in STAGES.values():
        one(output_dir, seed, settings, progress)
    return output_dir


def build_vae(output_dir: Path, seed: int, settings: BuildSettings, progress: StageProgress | None) -> Path:
    """Trains the autoencoder and writes policy/vae."""
    vae = train_vae(settings.vae, seed=seed, progress=_staged("vae", progress))
    with _replacing(output_dir / "policy" / "vae") as folder:
        vae.save_pretrained(folder)
    return output_dir / "policy" / "vae"


def build_text(output_dir: Path, seed: int, settings: BuildSettings, progress: StageProgress | None) -> Path:
    """Writes the tokenizer and the frozen text encoder of a seed; there is nothing to train."""
    with _replacing(output_dir / "policy" / "tokenizer") as folder:
        new_tokenizer().save_pretrained(folder)
    with _replacing(output_dir / "policy" / "text_encoder") as folder:
        new_text_encoder(seed).save_pretrained(folder)
    return output_dir / "policy" / "text_encoder"


def build_policy(output_dir: Path, seed: int, settings: BuildSettings, progress: StageProgress | None) -> Path:
    """Pre-trains the video transformer on faulty clips of training prompts and writes the whole pipeline folder."""
    vae = _load_vae(output_dir)
    tokenizer_folder = _existing(output_dir / "policy" / "tokenizer", "text")
    encoder_folder = _existing(output_dir / "policy" / "text_encoder", "text")
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    text_encoder = UMT5EncoderModel.from_pretrained(encoder_folder).eval()
    bank = fill_bank(vae, settings.policy_clips, settings.policy_faults, np.random.default_rng([seed, 2]))
    embeds_PLD = embed(tokenizer, text_encoder, TRAIN_PROMPTS)
    batches = bank.batches(embeds_PLD, settings.policy_batch, torch.Generator().manual_seed(seed))
    transformer = new_transformer(seed, int(vae.config.z_dim))
    pretrain(transformer, batches, settings.policy, seed=seed, progress=_staged("policy", progress))
    pipeline = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        transformer=transformer,
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0),
    )
    with _replacing(output_dir / "policy") as folder:
        pipeline.save_pretrained(folder)
        (folder / "README.md").write_text(policy_readme(settings, seed, _measured(pipeline, settings, seed)))
    return output_dir / "policy"


def build_reward(output_dir: Path, seed: int, settings: BuildSettings, progress: StageProgress | None) -> Path:
    """Learns the reward from synthetic pairs of training prompts and writes its folder, tokenizer included."""
    model = new_reward_model(seed)
    steps = training_steps(
        model,
        _load_vae(output_dir),
        np.random.default_rng([seed, 3]),
        batch_size=settings.reward_batch_pairs,
        bank_pairs=settings.reward_bank_pairs,
    )
    train_reward(model, steps, settings.reward, seed=seed, progress=_staged("reward", progress))
    with _replacing(output_dir / "reward") as folder:
        model.save_pretrained(folder)
        new_tokenizer().save_pretrained(folder)
        (folder / "README.md").write_text(reward_readme(settings, seed))
    return output_dir / "reward"


STAGES: dict[str, Callable[[Path, int, BuildSettings, StageProgress | None], Path]] = {
    "vae": build_vae,
    "text": build_text,
    "policy": build_policy,
    "reward": build_reward,
}


@contextmanager
def progress_bars() -> Iterator[StageProgress]:
    """A tqdm bar per stage, for the command line."""
    bars: dict[str, tqdm[Never]] = {}

    def advance(stage: str, done: int, steps: int, loss: float) -> None:
        if stage not in bars:
            bars[stage] = tqdm(total=steps, desc=stage, unit="step")
        bar = bars[stage]
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        bar.update(done - bar.n)

    try:
        yield advance
    finally:
        for bar in bars.values():
            bar.close()


def _measured(pipeline: WanPipeline, settings: BuildSettings, seed: int) -> dict[str, float] | None:
    """What the README states: mean scores of a stranger's call on the test prompts, and the round trip's."""
    prompts = [prompt for prompt in TEST_PROMPTS for _ in range(settings.readme_clips_per_prompt)]
    if not prompts:
        return None
    pipeline.set_progress_bar_config(disable=True)
    scores = mean_scores(score_clips(sample_plainly(pipeline, prompts, seed=seed), prompts))
    ceiling = round_trip(pipeline.vae, seed=seed)
    return {**scores, "round_trip": ceiling["ground_truth"], "round_trip_shape": ceiling["shape"]}


def _staged(stage: str, progress: StageProgress | None) -> Callable[[int, int, float], None] | None:
    if progress is None:
        return None
    return lambda done, steps, loss: progress(stage, done, steps, loss)


def _load_vae(output_dir: Path) -> AutoencoderKLWan:
    folder = _existing(output_dir / "policy" / "vae", "vae")
    vae = AutoencoderKLWan.from_pretrained(folder).eval().requires_grad_(False)
    vae.register_to_config(_name_or_path="")  # or this machine's path would be saved into the pipeline's folder
    return vae


def _existing(folder: Path, stage: str) -> Path:
    if not folder.is_dir():
        raise InputError(f"there is no {folder}; build stage {stage!r} (or 'all') into this output directory first.")
    return folder


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the target's place when the block ends without an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}.new")
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
