"""Evaluates a reward model on videos that people judged."""

from __future__ import annotations

from pathlib import Path

from policies.config import RewardModelConfig
from policies.errors import InputError
from policies.rewards.evaluation.csv_table import read_table
from policies.rewards.evaluation.data_results import evaluate_data, judged_pairs
from policies.rewards.evaluation.layouts import PairData, read_judged_videos
from policies.rewards.evaluation.score_file import ScoreFile
from policies.rewards.evaluation.scoring import ScoredVideos, ScoringConfig, score_videos
from policies.rewards.model import RewardModel, load_reward_model
from services.reward_eval_result import Evaluation, EvaluationConfig, ScoredWith
from services.reward_options import default_device
from services.scoring_progress import describe_failure, scoring_progress

SCORES_FILE = "scores.jsonl"
# Settings that say where things are or how fast they go, or what a run makes of scores: none changes a score.
_CHANGES_NO_SCORE = {
    "path", "revision", "base", "base_revision", "device", "weights", "combine", "calibration_samples", "also",
    "micro_batch_pixels",
}  # fmt: skip


def evaluate_model(
    reward: RewardModelConfig,
    *,
    data: Path,
    videos: Path,
    out: Path,
    config: EvaluationConfig,
    scoring: ScoringConfig,
) -> Evaluation:
    """Scores what was not scored before, and compares with what people said.

    Args:
        data: CSV file of judged videos.
        videos: the folder that its paths are relative to.
        out: holds the scores of earlier runs, and gets those of this one.
    Raises:
        InputError: data or model cannot be used, or not one video can be scored.
    """
    if not videos.is_dir():
        raise InputError(f"--videos {videos}: no such folder")
    read_table(data)  # what is wrong with it is better said before a large model is loaded
    model = load_reward_model(reward, device=default_device())
    judged = read_judged_videos(data, model.dimensions)
    settings = reward.model_dump(mode="json", exclude=_CHANGES_NO_SCORE)
    identity = {"settings": settings, "revision": model.revision, "files": dict(model.files)}
    wanted = judged.videos()
    with ScoreFile(out / SCORES_FILE, identity) as file, scoring_progress(len(wanted)) as progress:
        scored = score_videos(wanted, videos, model, file, config=scoring, on_progress=progress)
    _check_some(scored)
    results = evaluate_data(judged, scored.scores, config.bootstrap, recall_ks=config.recall_at)
    return Evaluation(
        source=str(data),
        config=config,
        dimensions=results.dimensions,
        notes=results.notes,
        pairs=(
            {name: judged_pairs(judged, scored.scores, name) for name in results.dimensions}
            if isinstance(judged, PairData)
            else {}
        ),
        scored=_scored_with(model, settings, scored),
    )


def _check_some(scored: ScoredVideos) -> None:
    if not scored.scores:
        path, reason = next(iter(scored.failures.items()))
        raise InputError(f"none of {scored.done} videos could be scored; the first: {describe_failure(path, reason)}")


def _scored_with(model: RewardModel, settings: dict[str, object], scored: ScoredVideos) -> ScoredWith:
    return ScoredWith(
        model=model.name,
        revision=model.revision,
        files=model.files,
        settings=settings,
        videos=scored.done,
        reused=scored.reused,
        failures=scored.failures,
        failed=scored.failed,
    )
