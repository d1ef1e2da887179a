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
                default="shapes",
                show_default=True,
                metavar="MODEL",
                help="Reward model: shapes, videoreward or videoscore.",
            ),
            click.option("--weights", metavar="DIR_OR_ID", help="Its folder or hub id.  [shapes: the bundled one]"),
            click.option("--base", metavar="DIR_OR_ID", help="Its base model's folder or hub id (videoreward)."),
            click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), help="Precision of the network."),
            click.option(
                "--rotary",
                type=click.Choice(["exact", "published"]),
                help="Rotary frequencies: exact, or rounded as published (videoreward).",
            ),
            click.option(
                "--max-frames", type=click.IntRange(min=1), help="Frames that are looked at, at most (videoscore)."
            ),
            click.option("--device", help="Torch device.  [default: cuda if there is one, else cpu]"),
        )
    ):
        command = option(command)
    return command


def reward_config(reward: str, **options: str | int | None) -> RewardModelConfig:
    """The configuration that the options ask for.

    Args:
        options: by option name; None where it was not given.
    Raises:
        InputError: an option that this reward model does not have, or that it needs and was not given.
    """
    from pydantic import ValidationError

    from policies.config import reward_config_class

    kind = reward_config_class(reward)
    given = {_OPTIONS.get(name, name): value for name, value in options.items() if value is not None}
    names = {setting: name for name, setting in _OPTIONS.items()}
    for setting in given:
        if setting not in kind.model_fields:
            raise InputError(f"--{_option(setting)} is not for the reward model {reward}; leave it out")
    if "path" not in given and kind.model_fields["path"].is_required():
        raise InputError(f"--reward {reward} needs --weights: the folder of its published files, or its hub id")
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        setting = str(item["loc"][0])
        raise InputError(
            f"--{names.get(setting, _option(setting))}: {item['msg']} for the reward model {reward}"
        ) from None


def _option(setting: str) -> str:
    return setting.replace("_", "-")


def default_device() -> str:
    """cuda if there is one, else cpu."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
