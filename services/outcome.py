"""What a command says at its end: the JSON object, the lines for people, and the exit code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.errors import StoreUnavailableError
from policies.errors import ClusterError, InputError

if TYPE_CHECKING:  # it brings pydantic, which would double the time of --help
    from cluster.observer import RunEnd

EXIT_OK, EXIT_FAILED, EXIT_INPUT, EXIT_CLUSTER, EXIT_SIGINT, EXIT_SIGTERM = 0, 1, 2, 3, 130, 143
_ENDED = {
    "completed": (EXIT_OK, "completed"),
    "early_stop": (EXIT_OK, "stopped early: validations no longer got better"),
    "stopped_sigint": (EXIT_SIGINT, "stopped by Ctrl-C; its state is saved"),
    "stopped_sigterm": (EXIT_SIGTERM, "stopped by SIGTERM; its state is saved"),
}
SECONDS_KEYS = ("startup", "generate", "score", "update", "evaluate", "total")
TEST_KEYS = (
    "ground_truth_before",
    "ground_truth_after",
    "reward_before",
    "reward_after",
    "win_rate",
    "win_rate_margin_0_05",
    "ground_truth_after_energy_matched",
    "diversity_before",
    "diversity_after",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command has to say. Several JSON objects are printed one a line."""

    json: dict[str, Any] | list[dict[str, Any]]
    text: str
    exit_code: int = EXIT_OK


def exit_code_of_end(result: RunEnd) -> int:
    """The exit code for a run that ended in order."""
    return _ENDED[result.ended][0]


def exit_code_of_error(error: BaseException) -> int:
    """The exit code for a command that ended with an error."""
    if isinstance(error, KeyboardInterrupt):
        return EXIT_SIGINT
    if isinstance(error, InputError):
        return EXIT_INPUT
    return EXIT_CLUSTER if isinstance(error, ClusterError | StoreUnavailableError) else EXIT_FAILED


def result_json(result: RunEnd, seed: int) -> dict[str, Any]:
    """The last line of demo, train and resume with --json."""
    test = result.test
    return {
        "run_dir": str(result.run_dir),
        "ended": result.ended,
        "seed": seed,
        "updates": result.updates,
        "seconds": {key: _finite(result.seconds.get(key)) for key in SECONDS_KEYS},
        "test": {key: _finite(test.get(key)) for key in TEST_KEYS} if test is not None else None,
    }


def error_json(error: BaseException) -> dict[str, Any]:
    """The last line with --json when there is no result."""
    return {
        "error": {
            "type": type(error).__name__,
            "message": str(error) or type(error).__name__,
            "exit_code": exit_code_of_error(error),
        }
    }


def summary(result: RunEnd, lora_dir: Path | None) -> str:
    """What a person wants to know: what happened, how much it gained, and where everything is."""
    lines = [f"Run {result.run_dir.name} {_ENDED[result.ended][1]} after {result.updates} updates{_took(result)}."]
    lines += _gains(result.test or {})
    lines += ["", f"  report   {result.run_dir / 'report.html'}"]
    if (result.run_dir / "samples").is_dir():
        lines.append(f"  videos   {result.run_dir / 'samples'}")
    if lora_dir is not None:
        lines += [
            f"  LoRA     {lora_dir}",
            "           load it in diffusers with",
            f'           pipeline.load_lora_weights("{lora_dir}")',
        ]
    if result.ended.startswith("stopped"):
        lines += ["", f"Go on with: onlinevpo resume {result.run_dir}"]
    return "\n".join(lines)


def _took(result: RunEnd) -> str:
    total = result.seconds.get("total")
    return f" in {duration(total)}" if total is not None else ""


def _gains(test: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, label in (("ground_truth", "ground truth"), ("reward", "reward")):
        before, after = test.get(f"{name}_before"), test.get(f"{name}_after")
        if before is not None and after is not None:
            interval = test.get(f"{name}_gain_ci95")
            shown = f" (95 % interval {interval[0]:+.3f} to {interval[1]:+.3f})" if interval else ""
            lines.append(f"  {label:<13}{before:.3f} -> {after:.3f}   gain {after - before:+.3f}{shown}")
    if test.get("win_rate") is not None:
        margin = test.get("win_rate_margin_0_05")
        shown = f"; by more than 0.05: {margin:.0%}" if margin is not None else ""
        lines.append(f"  {'win rate':<13}{test['win_rate']:.0%} of test clips are better than before{shown}")
    return lines


def duration(seconds: float) -> str:
    """Seconds as people say them: 47 s, 3 min 05 s, 2 h 10 min."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
