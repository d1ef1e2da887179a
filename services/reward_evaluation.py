"""`onlinevpo rewards eval`: how well a reward model, or a table of stored scores, agrees with people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from policies.errors import InputError
from services.options import json_option
from services.outcome import Outcome
from services.reward_options import reward_config, reward_options

if TYPE_CHECKING:
    from services.reward_eval_result import Evaluation

_MODEL_OPTIONS = ("reward", "weights", "base", "dtype", "rotary", "device", "videos")


@click.command("eval")
@reward_options
@click.option("--data", metavar="FILE", help="What people said about videos, as CSV; see docs/reward-evaluation.md.")
@click.option("--videos", metavar="DIR", help="Folder that the paths in --data are relative to.")
@click.option("--scores", metavar="FILE", help="Evaluate this CSV of stored scores instead, without a model.")
@click.option(
    "--out", metavar="DIR", help="Where scores and report go.  [default: runs/reward-eval-NAME; --scores: none]"
)
@click.option("--reference-procedure", is_flag=True, help="Also what VideoAlign's own program would report.")
@click.option(
    "--recall-at", type=click.IntRange(min=1), multiple=True, default=(1, 2, 4), show_default=True, metavar="K",
    help="For best-of-n data; may be given several times.",
)  # fmt: skip
@click.option(
    "--bootstrap-draws",
    type=click.IntRange(min=0),
    default=2000,
    show_default=True,
    help="Of prompts; 0: no intervals.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draws.")
@click.option(
    "--threads", type=click.IntRange(min=1), default=2, show_default=True, help="That decode while the model scores."
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Videos that are scored together."
)
@json_option
@click.pass_context
def evaluate(
    context: click.Context,
    /,
    reward: str,
    data: str | None,
    videos: str | None,
    scores: str | None,
    out: str | None,
    reference_procedure: bool,
    recall_at: tuple[int, ...],
    bootstrap_draws: int,
    seed: int,
    threads: int,
    batch: int,
    as_json: bool,
    **model_options: str | None,
) -> Outcome:
    """Measure how well a reward model agrees with people.

    \b
    onlinevpo rewards eval --reward videoreward --weights DIR --base DIR --data FILE.csv --videos DIR
    onlinevpo rewards eval --scores FILE.csv

    The same command again goes on where a stopped or killed one was.
    """
    _check_sources(context, data, videos, scores)
    from policies.rewards.evaluation.bootstrap import Bootstrap
    from services.reward_eval_result import EvaluationConfig

    config = EvaluationConfig(
        bootstrap=Bootstrap(draws=bootstrap_draws, seed=seed),
        recall_at=tuple(sorted(set(recall_at))),
        with_reference=reference_procedure,
    )
    if scores is not None:
        from services.reward_eval_result import evaluate_stored

        return _outcome(evaluate_stored(Path(scores), config), None if out is None else Path(out))
    assert data is not None and videos is not None
    from policies.rewards.evaluation.scoring import ScoringConfig
    from services.reward_eval_run import evaluate_model

    folder = Path(out or Path("runs") / f"reward-eval-{Path(data).stem}")
    evaluation = evaluate_model(
        reward_config(reward, **model_options),
        data=Path(data),
        videos=Path(videos),
        out=folder,
        config=config,
        scoring=ScoringConfig(threads=threads, videos_per_batch=batch),
    )
    return _outcome(evaluation, folder)


def _check_sources(context: click.Context, data: str | None, videos: str | None, scores: str | None) -> None:
    if (data is None) == (scores is None):
        raise InputError("give either --data with --videos, to score videos, or --scores, for a table of stored scores")
    if data is not None and videos is None:
        raise InputError("--data needs --videos: the folder that its paths are relative to")
    given = click.core.ParameterSource.COMMANDLINE
    useless = [f"--{name}" for name in _MODEL_OPTIONS if context.get_parameter_source(name) is given]
    if scores is not None and useless:
        raise InputError(f"--scores needs no model, so {', '.join(useless)} would do nothing; leave it out")


def _outcome(evaluation: Evaluation, out: Path | None) -> Outcome:
    from services.reward_eval_report import write_evaluation
    from services.reward_eval_text import summary

    body: dict[str, Any] = evaluation.json()
    text = summary(evaluation)
    if out is not None:
        report = write_evaluation(evaluation, out)
        body["report"] = str(report)
        text += f"\n\n  report   {report}"
    return Outcome(json=body, text=text)
