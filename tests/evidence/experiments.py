"""The experiments behind LOG.md and README: the demo with one thing changed, several seeds each.

    python -m tests.evidence.experiments [--only default random ...] [--jobs 2] [--output FILE.json]

Each run is the program itself (`onlinevpo demo --mode in_process --json`) in a process of its own, one thread each,
with evaluation noise that no setting was chosen on. Equal updates everywhere; where N differs, the number of prompts
differs too, so that the number of videos is equal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVALUATION_SEED = 31_337


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A name, what differs from the demo, and how many run seeds."""

    name: str
    overrides: tuple[str, ...] = ()
    seeds: int = 3


EXPERIMENTS = (
    Experiment(name="default (online, swap K=20, N=4)", seeds=5),
    Experiment(name="control: random selection", overrides=("pairs.selection=random",)),
    Experiment(name="control: reversed selection", overrides=("pairs.selection=reversed",)),
    Experiment(name="online, fixed reference", overrides=("reference_update_interval=0",)),
    Experiment(name="offline, fixed reference", overrides=("pairs.source=offline", "reference_update_interval=0")),
    Experiment(name="offline, swap K=20", overrides=("pairs.source=offline",)),
    Experiment(name="N=2, 16 prompts", overrides=("sampling.candidates_per_prompt=2", "prompts_per_update=16")),
    Experiment(
        name="N=6, 5 prompts (30 videos)", overrides=("sampling.candidates_per_prompt=6", "prompts_per_update=5")
    ),
    Experiment(name="beta (1-t)^2, beta 100", overrides=("objective.beta_schedule=quadratic",)),
    Experiment(name="reward = VQ only", overrides=("reward.weights={VQ: 1}",)),
    Experiment(name="reward = MQ only", overrides=("reward.weights={MQ: 1}",)),
    Experiment(name="reward = TA only", overrides=("reward.weights={TA: 1}",)),
    Experiment(name="LoRA rank 4", overrides=("policy.lora.rank=4", "policy.lora.alpha=4")),
    Experiment(name="LoRA rank 16", overrides=("policy.lora.rank=16", "policy.lora.alpha=16")),
)

COLUMNS = {  # heading: key of `test`, digits
    "GT before": "ground_truth_before",
    "GT after": "ground_truth_after",
    "GT after, energy-matched": "ground_truth_after_energy_matched",
    "better by > 0.05": "win_rate_margin_0_05",
    "win": "win_rate",
    "reward after": "reward_after",
    "diversity": "diversity_after",
}


def run_one(experiment: Experiment, seed: int, folder: Path) -> dict[str, Any]:
    """One run; raises with the program's own words when it fails."""
    command = [str(Path(sys.executable).with_name("onlinevpo")), "demo", "--mode", "in_process", "--json"]
    command += ["--seed", str(seed), "--eval-seed", str(EVALUATION_SEED), "--output-dir", str(folder)]
    for override in experiment.overrides:
        command += ["--set", override]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{experiment.name}, seed {seed}: exit {done.returncode}\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_all(
    experiments: Sequence[Experiment], *, jobs: int, output: Path | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Every experiment and seed, `jobs` at a time; progress to stderr, results to `output` as they come."""
    work = [(experiment, seed) for experiment in experiments for seed in range(experiment.seeds)]
    results: dict[str, list[dict[str, Any]]] = {experiment.name: [] for experiment in experiments}
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(jobs) as pool:
        futures = [(e, s, pool.submit(run_one, e, s, Path(name))) for e, s in work]
        for done, (experiment, seed, future) in enumerate(futures, 1):
            found = future.result()
            results[experiment.name].append(found)
            if output:
                output.write_text(json.dumps(results, indent=1) + "\n")
            test = found["test"]
            print(
                f"[{done}/{len(work)}] {experiment.name}, seed {seed}: ground truth "
                f"{test['ground_truth_before']:.3f} -> {test['ground_truth_after']:.3f}",
                file=sys.stderr,
                flush=True,
            )
    return results


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Mean ± sample standard deviation over seeds, as Markdown."""
    lines = [f"| run | seeds | gain | energy-matched gain | {' | '.join(COLUMNS)} |", "|---" * (4 + len(COLUMNS)) + "|"]
    for name, runs in results.items():
        if not runs:
            continue
        tests = [run["test"] for run in runs]
        gains = [t["ground_truth_after"] - t["ground_truth_before"] for t in tests]
        matched = [t["ground_truth_after_energy_matched"] - t["ground_truth_before"] for t in tests]
        cells = [spread([t[key] for t in tests]) for key in COLUMNS.values()]
        lines.append(
            f"| {name} | {len(runs)} | {spread(gains, sign='+')} | {spread(matched, sign='+')} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def spread(values: Sequence[float], *, sign: str = "") -> str:
    """0.823 ± 0.008; without the spread for one value."""
    mean = f"{statistics.mean(values):{sign}.3f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", default=[], help="run experiments whose name contains one of these")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, help="write every run's JSON here")
    arguments = parser.parse_args()
    chosen = [e for e in EXPERIMENTS if not arguments.only or any(part in e.name for part in arguments.only)]
    results = run_all(chosen, jobs=arguments.jobs, output=arguments.output)
    print(table(results))


if __name__ == "__main__":
    main()
