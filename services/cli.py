"""The command line: `onlinevpo demo | train | resume | validate | report | score | serve | keys | rewards | ...`.

Commands import what they need when they run: `--help` and `validate` answer without torch and ray. Each returns an
`Outcome`; `main` prints it, as text or as the one JSON object that `--json` promises, and turns errors into exit codes.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from policies.errors import InputError, OnlineVPOError
from services.keys import keys
from services.options import json_option, set_option
from services.outcome import (
    EXIT_INPUT,
    EXIT_OK,
    EXIT_SIGINT,
    EXIT_SIGTERM,
    Outcome,
    error_json,
    exit_code_of_end,
    exit_code_of_error,
    result_json,
    summary,
)
from services.reward_commands import rewards
from services.score import score
from services.serve import serve
from services.stdout import stdout_to_stderr

if TYPE_CHECKING:
    from cluster.config import RunConfig
    from cluster.observer import RunEnd, RunObserver
    from policies.config import RewardModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """What runs a run; tests bring their own."""

    run: Callable[[RunConfig, RunObserver], RunEnd]
    resume: Callable[[Path, RunObserver], RunEnd]


class Terminated(BaseException):
    """SIGTERM arrived while no run was there to take it."""


def _ray_controller() -> Controller:
    import transformers

    from cluster import controller

    transformers.utils.logging.disable_progress_bar()  # it would write across ours
    return Controller(
        run=lambda config, observer: controller.run(config, observer=observer),
        resume=lambda run_dir, observer: controller.resume(run_dir, observer=observer),
    )


def _print_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"onlinevpo {version('onlinevpo')}")
        except PackageNotFoundError:
            click.echo("onlinevpo (not installed)")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def app() -> None:
    """Online preference optimisation (OnlineVPO) for text-to-video models.

    Start with `onlinevpo demo`.

    Exit codes: 0 done, 1 the run failed, 2 bad input, 3 no cluster, 130 Ctrl-C, 143 SIGTERM.
    """


@app.command()
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Every random draw follows from it."
)
@click.option("--updates", type=click.IntRange(min=1), help="Updates to make.  [default: 60]")
@click.option(
    "--mode", type=click.Choice(["in_process", "split"]), help="In this process, or on Ray.  [default: split]"
)
@click.option(
    "--selection",
    type=click.Choice(["best_worst", "random", "reversed"]),
    help="How pairs are chosen.  [default: best_worst]",
)
@click.option("--source", type=click.Choice(["online", "offline"]), help="Which policy draws them.  [default: online]")
@click.option("--eval-seed", type=click.IntRange(min=0), help="Seed of the noise of test samples.")
@click.option("--eval-prompts", metavar="FILE", help="Test prompts, .txt or .jsonl.  [default: the bundled ones]")
@click.option("--output-dir", metavar="DIR", help="Where the run directory goes.  [default: runs]")
@set_option
@json_option
@click.pass_obj
def demo(
    controller: Controller | None,
    seed: int,
    updates: int | None,
    mode: str | None,
    selection: str | None,
    source: str | None,
    eval_seed: int | None,
    eval_prompts: str | None,
    output_dir: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> Outcome:
    """Align the bundled moving-shapes model and compare before with after.

    Takes a few minutes on two CPU cores and downloads nothing.
    """
    from services.demo import demo_config

    settings = {
        "seed": seed,
        "updates": updates,
        "placement.mode": mode,
        "pairs.selection": selection,
        "pairs.source": source,
        "evaluation.seed": eval_seed,
        "prompts.test": eval_prompts,
        "output_dir": output_dir,
    }
    return _start(demo_config(settings, overrides), controller)


@app.command()
@click.argument("config")
@set_option
@json_option
@click.pass_obj
def train(controller: Controller | None, config: str, overrides: tuple[str, ...], as_json: bool) -> Outcome:
    """Run the alignment that the file CONFIG describes.

    The same command again goes on where a stopped or killed run was.
    """
    from services.config import load_config

    return _start(load_config(config, overrides), controller)


@app.command()
@click.argument("run")
@click.option("--output-dir", metavar="DIR", default="runs", show_default=True, help="Where RUN is looked up as an id.")
@json_option
@click.pass_obj
def resume(controller: Controller | None, run: str, output_dir: str, as_json: bool) -> Outcome:
    """Go on with RUN: a run directory, or a run's id under the output directory."""
    from services.runs import find_run, read_run_config

    run_dir = find_run(run, output_dir)
    config = read_run_config(run_dir)
    return _watch(config, lambda observer: (controller or _ray_controller()).resume(run_dir, observer))


@app.command()
@click.argument("config")
@set_option
@json_option
def validate(config: str, overrides: tuple[str, ...], as_json: bool) -> Outcome:
    """Check CONFIG, its prompts and its folders; start nothing."""
    from services.config import load_config

    loaded = load_config(config, overrides)
    assert loaded.run_id is not None
    run_dir = Path(loaded.output_dir) / loaded.run_id
    videos = loaded.updates * loaded.prompts_per_update * loaded.sampling.candidates_per_prompt
    warnings = loaded.warnings()
    text = [
        f"{config} is valid.",
        f"  run        {run_dir}" + (" (exists: train goes on with it)" if run_dir.exists() else ""),
        f"  updates    {loaded.updates} of {loaded.prompts_per_update} prompts x "
        f"{loaded.sampling.candidates_per_prompt} candidates, {videos} videos in all",
        f"  policy     {loaded.policy.path}",
        f"  reward     {', '.join(_named(section) for section in loaded.reward.sections().values())}",
        f"  placement  {loaded.placement.mode}",
        *(f"warning: {warning}" for warning in warnings),
    ]
    return Outcome(
        json={
            "valid": True,
            "run_dir": str(run_dir),
            "updates": loaded.updates,
            "videos": videos,
            "warnings": warnings,
            "config": loaded.model_dump(mode="json"),
        },
        text="\n".join(text),
    )


def _named(section: RewardModelConfig) -> str:
    path = section.model_dump().get("path")
    return f"{section.model} {path}" if path else section.model


@app.command()
@click.argument("run")
@click.option("--output-dir", metavar="DIR", default="runs", show_default=True, help="Where RUN is looked up as an id.")
@json_option
def report(run: str, output_dir: str, as_json: bool) -> Outcome:
    """Write the report.html of RUN again, also while it runs."""
    from services.report import write_report
    from services.runs import find_run

    path = write_report(find_run(run, output_dir))
    return Outcome(json={"report": str(path)}, text=str(path))


@app.group()
def shapes() -> None:
    """The bundled moving-shapes world."""


@shapes.command()
@click.option("--output-dir", metavar="DIR", required=True, help="Where the mp4 files go.")
@json_option
def clips(output_dir: str, as_json: bool) -> Outcome:
    """Render the example clips that `onlinevpo score shapes:NAME` names."""
    from policies.shapes.clips import CLIPS, write_clips

    write_clips(Path(output_dir))
    text = "\n".join(f"shapes:{name}  {clip.prompt}" for name, clip in CLIPS.items())
    return Outcome(json={"folder": output_dir, "clips": {name: clip.prompt for name, clip in CLIPS.items()}}, text=text)


@shapes.command()
@click.argument("stage", type=click.Choice(["vae", "text", "policy", "reward", "all"]), default="all")
@click.option("--output-dir", metavar="DIR", required=True, help="Where the folders policy/ and reward/ go.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="CPU threads; weights are the same to the last bit only for equal numbers.",
)
@json_option
def build(stage: str, output_dir: str, seed: int, threads: int, as_json: bool) -> Outcome:
    """Make the world's models from nothing: STAGE is vae, text, policy, reward or all.

    The shipped ones were made with seed 0 and one thread; all of them take about 20 minutes.
    """
    import torch

    from policies.shapes.build import build as build_stage
    from policies.shapes.build import progress_bars

    torch.set_num_threads(threads)
    with progress_bars() as progress:
        folder = build_stage(stage, Path(output_dir), seed=seed, progress=progress)
    return Outcome(json={"stage": stage, "seed": seed, "folder": str(folder)}, text=str(folder))


@app.group()
def config() -> None:
    """The configuration file."""


@config.command()
@click.option("--training", is_flag=True, help="Of a reward model's training rather than of a run.")
@click.option("--serving", is_flag=True, help="Of a scoring service.")
def docs(training: bool, serving: bool) -> Outcome:
    """Print the page that documents every setting, as Markdown."""
    from policies.rewards.training.config import RewardTrainingConfig
    from services.config_page import config_page, serving_page, settings_tables

    if training and serving:
        raise InputError("--training and --serving are two pages; give one of them")
    page = settings_tables(RewardTrainingConfig, title="training") if training else config_page()
    page = serving_page() if serving else page
    return Outcome(json={}, text=page.rstrip("\n"))


app.add_command(keys)
app.add_command(rewards)
app.add_command(score)
app.add_command(serve)


def _start(config: RunConfig, controller: Controller | None) -> Outcome:
    for warning in config.warnings():
        click.echo(f"warning: {warning}", err=True)
    return _watch(config, lambda observer: (controller or _ray_controller()).run(config, observer))


def _watch(config: RunConfig, start: Callable[[RunObserver], RunEnd]) -> Outcome:
    """Runs with live progress; the report is written however the run ends."""
    from services.progress import progress_for
    from services.report import write_report

    progress = progress_for(sys.stderr)
    try:
        result = start(progress)
    finally:
        progress.close()
        if progress.run_dir is not None and progress.run_dir.is_dir():
            _tried(write_report, progress.run_dir)
    lora = result.run_dir / "lora"
    return Outcome(
        json=result_json(result, config.seed),
        text=summary(result, lora if lora.is_dir() else None),
        exit_code=exit_code_of_end(result),
    )


def _tried(write: Callable[[Path], Path], run_dir: Path) -> None:
    """A report that cannot be written must not turn a good run into a failed one, nor hide why a run failed."""
    try:
        write(run_dir)
    except Exception as error:
        click.echo(f"warning: no report for {run_dir}: {error}; `onlinevpo report {run_dir}` tries again", err=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the command in order, also before a run takes signals itself and after it gave them back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _failed(error: BaseException, *, exit_code: int | None = None) -> Outcome:
    body = error_json(error)
    if exit_code is not None:
        body["error"]["exit_code"] = exit_code
    return Outcome(json=body, text="", exit_code=body["error"]["exit_code"])


def _run(arguments: Sequence[str], controller: Controller | None) -> Outcome | int:
    """Runs a command; every error has been told on stderr when this returns."""
    try:
        with _terminable():
            result: Outcome | int = app.main(
                list(arguments), prog_name="onlinevpo", standalone_mode=False, obj=controller
            )
        return result
    except click.ClickException as error:
        error.show()
        return _failed(InputError(error.format_message()), exit_code=EXIT_INPUT)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Stopped by Ctrl-C.", err=True)
        return _failed(KeyboardInterrupt("stopped by Ctrl-C"), exit_code=EXIT_SIGINT)
    except Terminated:
        click.echo("Stopped by SIGTERM.", err=True)
        return _failed(Terminated("stopped by SIGTERM"), exit_code=EXIT_SIGTERM)
    except OnlineVPOError as error:
        click.echo(f"Error: {error}" if "\n" not in str(error) else f"Error:\n{error}", err=True)
        return _failed(error)
    except Exception as error:
        traceback.print_exc()
        click.echo(f"Error: {type(error).__name__}: {error}", err=True)
        return _failed(error, exit_code=exit_code_of_error(error))


def main(arguments: Sequence[str] | None = None, *, controller: Controller | None = None) -> int:
    """Runs one command and returns its exit code.

    Args:
        controller: what runs a run; None takes the real one, which imports torch and ray.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--json" in given:
        with stdout_to_stderr():
            outcome = _run(given, controller)
    else:
        outcome = _run(given, controller)
    if not isinstance(outcome, Outcome):
        return outcome or EXIT_OK  # --help and --version have said all
    if "--json" in given:
        for line in outcome.json if isinstance(outcome.json, list) else [outcome.json]:
            print(json.dumps(line, allow_nan=False), flush=True)
    elif outcome.text:
        print(outcome.text, flush=True)
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
