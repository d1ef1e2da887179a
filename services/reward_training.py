"""`onlinevpo rewards train`: a reward model from what people said about videos."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from policies.errors import InputError
from services.options import json_option, set_option
from services.outcome import EXIT_OK, EXIT_SIGINT, EXIT_SIGTERM, Outcome

if TYPE_CHECKING:
    from policies.rewards.training.config import RewardTrainingConfig
    from policies.rewards.training.run import TrainingResult

_EXIT_CODES = {signal.SIGINT: EXIT_SIGINT, signal.SIGTERM: EXIT_SIGTERM}


@click.command("train")
@click.argument("config")
@click.option("--resume", is_flag=True, help="Go on with a training that was stopped; an error when there is none.")
@set_option
@json_option
def train(config: str, resume: bool, overrides: tuple[str, ...], as_json: bool) -> Outcome:
    """Train a reward model as the file CONFIG describes; see docs/reward-training.md.

    The same command again goes on where a stopped or killed training was, with or without --resume. Ctrl-C and SIGTERM
    write a checkpoint after the step at hand.
    """
    from services.reward_training_config import load_training_config

    loaded = load_training_config(config, overrides)
    if resume and not _has_checkpoint(loaded):
        raise InputError(f"--resume: there is no checkpoint in {loaded.output_dir}; leave --resume out to begin")
    return _run(loaded)


def _has_checkpoint(config: RewardTrainingConfig) -> bool:
    state = Path(config.output_dir) / "state"
    return state.is_dir() and any(path.name.isdecimal() for path in state.iterdir())


def _run(config: RewardTrainingConfig) -> Outcome:
    import torch

    from policies.rewards.training.run import train_video_reward
    from services.training_progress import TrainingProgress

    if config.torch_threads is not None:
        torch.set_num_threads(config.torch_threads)
    received: list[signal.Signals] = []
    with TrainingProgress(sys.stderr) as progress, _stop_signals(received.append):
        result = train_video_reward(config, progress, should_stop=lambda: bool(received))
    exit_code = _EXIT_CODES[received[0]] if result.ended == "stopped" else EXIT_OK
    return Outcome(json=_json(result), text=_text(result, config.model.base), exit_code=exit_code)


def _json(result: TrainingResult) -> dict[str, object]:
    return {
        "folder": str(result.folder),
        "ended": result.ended,
        "steps": result.steps,
        "heldout": result.heldout,
        "data": result.data,
    }


def _text(result: TrainingResult, base: str) -> str:
    from services.training_progress import describe_measured

    if result.ended == "stopped":
        return f"Stopped after step {result.steps}; the same command goes on from there.\n\n  folder  {result.folder}"
    lines = [f"Trained for {result.steps} steps."]
    if result.heldout is not None:
        lines.append(f"Held out: {describe_measured(result.heldout)}.")
    score = f"onlinevpo score CLIP --prompt TEXT --reward videoreward --weights {result.folder} --base {base}"
    return "\n".join(
        [*lines, "", f"  model   {result.folder}", f"  curve   {result.folder / 'curve.png'}", f"  score   {score}"]
    )


@contextmanager
def _stop_signals(receive: Callable[[signal.Signals], None]) -> Iterator[None]:
    """The first SIGINT or SIGTERM asks for an orderly end; a second one ends the command at once."""
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread handle signals
        yield
        return
    previous = {number: signal.getsignal(number) for number in _EXIT_CODES}

    def on_signal(number: int, frame: FrameType | None) -> None:
        receive(signal.Signals(number))
        for each, handler in previous.items():
            signal.signal(each, handler)

    for number in previous:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
