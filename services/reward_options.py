"""Options that choose a reward model, of every command that scores with one, and the configuration they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from policies.errors import InputError

if TYPE_CHECKING:  # it brings pydantic, which would double the time of --help
    from policies.config import RewardModelConfig

Command = TypeVar("Command", bound=Callable[..., Any])
_OPTIONS = {"weights": "path"}  # options that are called otherwise in a configuration


def reward_options(command: Command) -> Command:
    """Adds the options; the command takes `reward` and the keywords of `reward_config`."""
    for option in reversed(
        (
            click.option(
                "--reward",
                type=click.Choice(["shapes", "videoreward", "videoscore"]),
                default="shapes",
                show_default=True,
                help="Reward model.",
            ),
            click.option("--weights", metavar="DIR_OR_ID", help="Its folder or hub id.  [shapes: the bundled one]"),
            click.option("--base", metavar="DIR_OR_ID", help="Its base model's folder or hub id (videoreward)."),
            click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), help="Precision of the network."),
            click.option(
                "--rotary",
                type=click.Choice(["exact", "published"]),
                help="Rotary frequencies: exact, or rounded as published (videoreward).",
            ),
            click.option("--device", help="Torch device.  [default: cuda if there is one, else cpu]"),
        )
    ):
        command = option(command)
    return command


def reward_config(reward: str, **options: str | None) -> RewardModelConfig:
    """The configuration that the options ask for.

    Args:
        options: by option name; None where it was not given.
    Raises:
        InputError: an option that this reward model does not have, or that it needs and was not given.
    """
    from policies.config import ShapesRewardConfig, VideoRewardConfig, VideoScoreConfig

    kinds: dict[str, type[RewardModelConfig]] = {
        "shapes": ShapesRewardConfig,
        "videoreward": VideoRewardConfig,
        "videoscore": VideoScoreConfig,
    }
    kind = kinds[reward]
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if _OPTIONS.get(name, name) not in kind.model_fields:
            raise InputError(f"--{name} is not for the reward model {reward}; leave it out")
    if reward != "shapes" and "weights" not in given:
        raise InputError(f"--reward {reward} needs --weights: the folder of its published files, or its hub id")
    return kind.model_validate({_OPTIONS.get(name, name): value for name, value in given.items()})


def default_device() -> str:
    """cuda if there is one, else cpu."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
