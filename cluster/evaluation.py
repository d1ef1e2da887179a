"""Samples for comparison: the same prompts and the same noise, before and after."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from policies.calibration import Reward
from policies.online_vpo import Generator, Scorer
from policies.seeds import candidate_seeds, seed_for
from policies.types import Handle, Prompt, SampleRequest, Sampling, VideoShape


class TruthScores(Protocol):
    """What an exact scorer says about a clip: ground_truth, and the parts it is made of."""

    @property
    def ground_truth(self) -> float: ...


class GroundTruth(Protocol):
    """An exact scorer of a bundled world (a module is one); training never sees it."""

    def score_clips(self, frames_BFHWC: np.ndarray, prompts: Sequence[str], /) -> Sequence[TruthScores]: ...

    def match_energy(self, frames_FHWC: np.ndarray, base_FHWC: np.ndarray, /) -> np.ndarray: ...

    def position_diversity_px(self, frames_NFHWC: np.ndarray, /) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One evaluation sample: its scores by dimension, its reward (None: not scored) and its frames (F, H, W, 3)."""

    prompt: Prompt
    seed: int
    scores: dict[str, float]
    reward: float | None
    frames: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPlan:
    """What is drawn for an evaluation; equal plans draw equal noise."""

    seed: int
    samples_per_prompt: int
    sampling: Sampling
    shape: VideoShape

    def requests(self, prompts: Sequence[Prompt], *, version: int) -> list[SampleRequest]:
        """One request per prompt. Its noise depends on neither the version nor the run's seed."""
        return [
            SampleRequest(
                group_id=f"evaluation-v{version:06d}-{index:04d}",
                prompt=prompt,
                shape=prompt.shape or self.shape,
                seeds=candidate_seeds(self.seed, "evaluation", prompt.id, count=self.samples_per_prompt),
                policy_version=version,
                sampling=self.sampling,
            )
            for index, prompt in enumerate(prompts)
        ]


async def draw_samples(
    requests: Sequence[SampleRequest],
    *,
    generator: Generator,
    scorer: Scorer,
    reward: Reward | None,
    fetch: Callable[[Handle], Awaitable[np.ndarray]] | None = None,
) -> list[Sample]:
    """Samples and scores every request; frames are fetched only when asked for."""

    async def draw(request: SampleRequest) -> list[Sample]:
        candidates = await generator.sample(request)
        scored = await scorer.score(candidates)
        return [
            Sample(
                prompt=request.prompt,
                seed=candidate.seed,
                scores=dict(member.scores) if member.is_valid else {},
                reward=reward(member.scores) if reward is not None and member.is_valid else None,
                frames=await fetch(candidate.frames) if fetch else np.empty(0, np.uint8),
            )
            for candidate, member in zip(candidates, scored, strict=True)
        ]

    groups = await asyncio.gather(*map(draw, requests))
    return [sample for group in groups for sample in group]


def mean_reward(samples: Sequence[Sample]) -> float:
    """Mean over the samples that have a reward; NaN when none has."""
    rewards = [sample.reward for sample in samples if sample.reward is not None]
    return float(np.mean(rewards)) if rewards else math.nan


def compare(before: Sequence[Sample], after: Sequence[Sample], *, truth: GroundTruth | None) -> dict[str, Any]:
    """Before against after, pair by pair of the same prompt and noise.

    Win rates count clips by ground truth where there is one, else by reward. A brighter clip alone wins most pairs
    by a hair, hence the margin and the comparison with clips rescaled to the base clip's energy.
    """
    result: dict[str, Any] = {
        "samples": len(before),
        "prompts": len({sample.prompt.id for sample in before}),
        "reward_before": _finite(mean_reward(before)),
        "reward_after": _finite(mean_reward(after)),
        "diversity_before": pixel_diversity(before),
        "diversity_after": pixel_diversity(after),
    }
    scored = [(b, a) for b, a in zip(before, after, strict=True) if b.reward is not None and a.reward is not None]
    rewards = np.array([(b.reward, a.reward) for b, a in scored], float).reshape(-1, 2)
    result["reward_win_rate"] = _finite(_win_rate(rewards[:, 0], rewards[:, 1], 0.0))
    result["reward_gain_ci95"] = _interval([b.prompt.id for b, _ in scored], rewards[:, 1] - rewards[:, 0])
    if truth is None:
        result |= {
            "win_rate": result["reward_win_rate"],
            "win_rate_margin_0_05": _finite(_win_rate(rewards[:, 0], rewards[:, 1], 0.05)),
        }
        return result
    return result | _compare_truth(before, after, truth)


def _compare_truth(before: Sequence[Sample], after: Sequence[Sample], truth: GroundTruth) -> dict[str, Any]:
    prompts, ids = [b.prompt.text for b in before], [b.prompt.id for b in before]
    clips_before, clips_after = np.stack([b.frames for b in before]), np.stack([a.frames for a in after])
    clips_matched = np.stack([truth.match_energy(a, b) for a, b in zip(clips_after, clips_before, strict=True)])
    scores_before, scores_after = truth.score_clips(clips_before, prompts), truth.score_clips(clips_after, prompts)
    old, new = _ground_truth(scores_before), _ground_truth(scores_after)
    matched = _ground_truth(truth.score_clips(clips_matched, prompts))
    return {
        "ground_truth_before": float(old.mean()),
        "ground_truth_after": float(new.mean()),
        "ground_truth_gain_ci95": _interval(ids, new - old),
        "ground_truth_after_energy_matched": float(matched.mean()),
        "ground_truth_energy_matched_gain_ci95": _interval(ids, matched - old),
        "win_rate": _win_rate(old, new, 0.0),
        "win_rate_margin_0_05": _win_rate(old, new, 0.05),
        "lose_rate_margin_0_05": _win_rate(new, old, 0.05),
        "parts_before": _parts(scores_before),
        "parts_after": _parts(scores_after),
        "position_diversity_px_before": float(np.mean([truth.position_diversity_px(g) for g in _by_prompt(before)])),
        "position_diversity_px_after": float(np.mean([truth.position_diversity_px(g) for g in _by_prompt(after)])),
    }


def _ground_truth(scores: Sequence[TruthScores]) -> np.ndarray:
    return np.array([score.ground_truth for score in scores])


def _parts(scores: Sequence[Any]) -> dict[str, float]:
    names = [field.name for field in fields(scores[0])]
    return {name: float(np.mean([getattr(score, name) for score in scores])) for name in names}


def _by_prompt(samples: Sequence[Sample]) -> list[np.ndarray]:
    """Frames (N, F, H, W, 3) of each prompt."""
    clips: dict[str, list[np.ndarray]] = {}
    for sample in samples:
        clips.setdefault(sample.prompt.id, []).append(sample.frames)
    return [np.stack(group) for group in clips.values()]


def pixel_diversity(samples: Sequence[Sample]) -> float:
    """Standard deviation of pixels (0..1) between samples of one prompt, averaged over pixels and prompts."""
    return float(np.mean([clips.astype(np.float32).std(axis=0).mean() / 255 for clips in _by_prompt(samples)]))


def _win_rate(old: np.ndarray, new: np.ndarray, margin: float) -> float:
    return float(np.mean(new > old + margin)) if len(old) else math.nan


def _interval(ids: Sequence[str], gains: np.ndarray, *, draws: int = 2000) -> list[float] | None:
    """95 % bootstrap interval of the mean gain, resampling prompts: samples of one prompt are not independent."""
    if not len(gains):
        return None
    names = sorted(set(ids))
    columns = np.array([names.index(name) for name in ids])
    sums, counts = np.bincount(columns, gains, len(names)), np.bincount(columns, minlength=len(names))
    picks = np.random.default_rng(seed_for("bootstrap")).integers(len(names), size=(draws, len(names)))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    return [float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
