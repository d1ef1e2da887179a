"""`onlinevpo score`: video files through a reward model, in this process or by a service."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from policies.errors import InputError
from services.options import json_option
from services.outcome import Outcome
from services.reward_options import default_device, reward_config, reward_options

if TYPE_CHECKING:  # they bring torch and pydantic
    from policies.config import RewardModelConfig
    from services.scored_clip import ClipScore


@click.command()
@click.argument("clips", nargs=-1, required=True, metavar="CLIP...")
@click.option(
    "--prompt", "prompts", multiple=True, required=True, help="What the clip should show; once for all, or once each."
)
@reward_options
@click.option("--stages", is_flag=True, help="Add the values between frames and scores.")
@click.option("--server", metavar="URL", help="Ask this service, with the key in ONLINEVPO_API_KEY.")
@click.option("--model", "deployment", metavar="NAME", help="Model of the service.  [default: the service's]")
@json_option
@click.pass_context
def score(
    context: click.Context,
    /,
    clips: tuple[str, ...],
    prompts: tuple[str, ...],
    stages: bool,
    server: str | None,
    deployment: str | None,
    as_json: bool,
    reward: str,
    **options: str | int | None,
) -> Outcome:
    """Score the video files CLIP... with a reward model, in this process or, with --server, by a service.

    CLIP may be a bundled example, such as shapes:circle. With --json one object a line for each clip, in their order.
    """
    from services.scored_clip import outcome_of, prompts_of

    each = prompts_of(clips, prompts)
    if server is None:
        if deployment is not None:
            raise InputError("--model names a model of a service; give --server, too, or choose with --reward")
        scores = _score_here(clips, each, reward_config(reward, **options), stages=stages)
    else:
        given = [name for name in ("reward", "stages", *options) if _is_given(context, name)]
        if given:
            named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise InputError(
                f"{named}: a service has settings of its own; leave it out, or choose a model with --model"
            )
        scores = _score_remotely(server, clips, each, model=deployment)
    told = []
    for one in scores:
        if one.error is not None:
            click.echo(f"Error: {one.error}", err=True)
        told.append(one)
    return outcome_of(told)


def _score_here(
    clips: Sequence[str], prompts: Sequence[str], config: RewardModelConfig, *, stages: bool
) -> Iterator[ClipScore]:
    from services.clip_scores import load, score_clips

    model = load(config, device=default_device())
    return score_clips(model, clips, prompts, dtype=config.dtype, stages=stages)


def _score_remotely(
    server: str, clips: Sequence[str], prompts: Sequence[str], *, model: str | None
) -> Iterator[ClipScore]:
    from services.remote_scores import score_remotely

    return iter(score_remotely(server, clips, prompts, model=model))


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not ParameterSource.DEFAULT
