"""`onlinevpo score`: video files through a reward model, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from services.options import json_option
from services.outcome import EXIT_OK, Outcome, error_json, exit_code_of_error
from services.reward_options import default_device, reward_config, reward_options

if TYPE_CHECKING:  # they bring torch
    from policies.config import RewardModelConfig
    from policies.rewards.model import RewardModel
    from services.clip_scores import ClipScore


@click.command()
@click.argument("clips", nargs=-1, required=True, metavar="CLIP...")
@click.option(
    "--prompt", "prompts", multiple=True, required=True, help="What the clip should show; once for all, or once each."
)
@reward_options
@click.option("--stages", is_flag=True, help="Add the values between frames and scores.")
@json_option
def score(
    clips: tuple[str, ...],
    prompts: tuple[str, ...],
    stages: bool,
    as_json: bool,
    reward: str,
    **options: str | None,
) -> Outcome:
    """Score the video files CLIP... with a reward model, in this process.

    With --json one object a line for each clip, in their order.
    """
    from services.clip_scores import load, prompts_of, score_clips

    each = prompts_of(clips, prompts)
    config = reward_config(reward, **options)
    model = load(config, device=default_device())
    scores = []
    for one in score_clips(model, clips, each, stages=stages):
        if one.error is not None:
            click.echo(f"Error: {one.error}", err=True)
        scores.append(one)
    codes = [exit_code_of_error(one.error) for one in scores if one.error is not None]
    return Outcome(
        json=[_line(one, model, config) for one in scores],
        text=_table(scores, model, config),
        exit_code=max(codes, default=EXIT_OK),
    )


def _line(one: ClipScore, model: RewardModel, config: RewardModelConfig) -> dict[str, Any]:
    if one.error is not None:
        return {"clip": one.clip, "prompt": one.prompt, **error_json(one.error)}
    line = {
        "clip": one.clip,
        "prompt": one.prompt,
        "raw": dict(one.raw),
        "normalised": dict(one.normalised),
        "reward": one.reward,
        "model": {
            "name": model.name,
            "revision": model.revision,
            "files": dict(model.files),
            "dtype": config.dtype,
        },
    }
    return line if one.stages is None else line | {"stages": dict(one.stages)}


def _table(scores: list[ClipScore], model: RewardModel, config: RewardModelConfig) -> str:
    """Normalised scores and the reward, a clip a line; clips without scores were told on stderr."""
    done = [one for one in scores if one.error is None]
    if not done:
        return ""
    width = max(len("clip"), *(len(one.clip) for one in done))
    names = [*model.dimensions, "reward"]
    head = f"{'clip':<{width}}" + "".join(f"  {name:>8}" for name in names)
    rows = [
        f"{one.clip:<{width}}"
        + "".join(
            f"  {value:>{max(len(name), 8)}.4f}"
            for name, value in zip(names, [*one.normalised.values(), one.reward], strict=True)
        )
        for one in done
    ]
    return "\n".join([f"{model.name} {model.revision[:12]}, {config.dtype}", head, *rows])
