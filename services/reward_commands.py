"""`onlinevpo rewards ...`: what can be done with reward models apart from running an alignment with one."""

from __future__ import annotations

import click

from services.reward_convert import convert
from services.reward_evaluation import evaluate
from services.reward_training import train


@click.group()
def rewards() -> None:
    """Reward models: evaluate, train, convert."""


rewards.add_command(convert)
rewards.add_command(evaluate)
rewards.add_command(train)
