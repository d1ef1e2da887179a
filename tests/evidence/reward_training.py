"""Training of reward models at toy size: does a tiny VideoReward learn, and what do ties add?

    python -m tests.evidence.reward_training [--only accuracy ties] [--work DIR] [--jobs 2]

accuracy: one training of `onlinevpo rewards train` on pairs of moving shapes, as its user would run it.
ties: Bradley-Terry with ties (BTT) against plain Bradley-Terry (BT), three seeds each, on labels of which some are
noise; what is compared is how well |score difference| tells clear pairs from tied ones (Figure 4 of VideoAlign, arXiv
2501.13918).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from policies.line_chart import Line, Panel, write_line_chart
from policies.rewards.videoreward.template import DIMENSIONS
from tests.evidence.shapes_pairs import Judging, Sizes, write_base, write_config, write_data

DOCS = Path(__file__).parents[2] / "docs"
ACCURACY_PICTURE, TIES_PICTURE = DOCS / "reward-training.png", DOCS / "reward-training-ties.png"
SEEDS = (0, 1, 2)
LOSSES = {"BT": {"type": "bt"}, "BTT": {"type": "btt"}}
JUDGING_OF_TIES = Judging(clips_per_prompt=60, pairs=15_000, tie_severity=0.2, label_noise=0.1)
_RATES = ("learning_rate", "vision_learning_rate", "merger_learning_rate", "embedding_learning_rate")


def accuracy_section(jobs: int) -> str:
    """Held-out accuracy of one training on two threads."""
    with tempfile.TemporaryDirectory() as name:
        return accuracy(Path(name), threads=2)


def ties_section(jobs: int) -> str:
    """BTT against BT."""
    with tempfile.TemporaryDirectory() as name:
        return ties(Path(name), jobs=jobs)


def accuracy(work: Path, *, threads: int) -> str:
    """As Markdown; draws the curve."""
    training, heldout = write_data(work, Judging(clips_per_prompt=150, pairs=60_000), seed=5)
    write_base(work / "base", Sizes(), seed=0)
    values = config(work, training, heldout, steps=3000, output="accuracy", seed=0, threads=threads)
    begun = time.monotonic()
    result = train(write_config(work / "accuracy.yaml", values))
    seconds, data = time.monotonic() - begun, result["data"]
    lines = measured(work / "accuracy")
    write_line_chart(ACCURACY_PICTURE, [_panel(lines, "accuracy", "held-out accuracy without ties")])
    rows = [_row(line) for line in lines if line["step"] % (4 * lines[1]["step"]) == 0 or line is lines[-1]]
    return "\n".join(
        [
            f"{result['steps']} steps of 32 pairs in {seconds / 60:.1f} minutes on {threads} threads; "
            f"{data['training_examples']} training pairs of {data['training_prompts']} prompts, "
            f"{data['heldout_examples']} held-out pairs of {data['heldout_prompts']} other prompts.",
            "",
            f"| step | minutes | {' | '.join(DIMENSIONS)} | {' | '.join(f'tie AUC {name}' for name in DIMENSIONS)} |",
            "|---" * (2 + 2 * len(DIMENSIONS)) + "|",
            *rows,
            "",
            f"![held-out accuracy](docs/{ACCURACY_PICTURE.name})",
        ]
    )


def ties(work: Path, *, jobs: int) -> str:
    """As Markdown; draws AUC over steps, a panel a seed."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    with ThreadPoolExecutor(jobs) as pool:
        futures = {}
        for seed in SEEDS:
            folder = work / f"seed-{seed}"
            training, heldout = write_data(folder, JUDGING_OF_TIES, seed=100 + 10 * seed)
            write_base(folder / "base", Sizes(), seed=seed)
            for name, loss in LOSSES.items():
                values = config(folder, training, heldout, steps=800, output=name, seed=seed, threads=1)
                values["loss"] = {**values["loss"], **loss}
                futures[name, seed] = pool.submit(train, write_config(folder / f"{name}.yaml", values))
        for name, seed in futures:
            futures[name, seed].result()
            found[name, seed] = measured(work / f"seed-{seed}" / name)
            print(f"{name}, seed {seed}: {found[name, seed][-1]['heldout']}", file=sys.stderr, flush=True)
    panels = [
        Panel(
            title=f"AUC of |difference|, clear against tied, seed {seed}",
            x_label="step",
            lines=[
                Line(name=name, points=[(line["step"], _mean(line, "tie_auc")) for line in found[name, seed]])
                for name in reversed(LOSSES)
            ],
            y_range=(0.4, 1.0),
        )
        for seed in SEEDS
    ]
    write_line_chart(TIES_PICTURE, panels)
    heads = [f"AUC {name}" for name in DIMENSIONS] + ["AUC, mean"] + [f"accuracy {name}" for name in DIMENSIONS]
    rows = [
        f"| {seed} | {name} | "
        + " | ".join(
            f"{value:.3f}"
            for value in (
                *(last["heldout"][d]["tie_auc"] for d in DIMENSIONS),
                _mean(last, "tie_auc"),
                *(last["heldout"][d]["accuracy"] for d in DIMENSIONS),
            )
        )
        + " |"
        for seed in SEEDS
        for name in LOSSES
        for last in [found[name, seed][-1]]
    ]
    gains = [_mean(found["BTT", seed][-1], "tie_auc") - _mean(found["BT", seed][-1], "tie_auc") for seed in SEEDS]
    return "\n".join(
        [
            f"Mean AUC under BTT minus BT: {', '.join(f'{gain:+.3f}' for gain in gains)}.",
            "",
            f"| seed | loss | {' | '.join(heads)} |",
            "|---" * (2 + len(heads)) + "|",
            *rows,
            "",
            f"![AUC of ties](docs/{TIES_PICTURE.name})",
        ]
    )


def config(
    work: Path, training: Path, heldout: Path, *, steps: int, output: str, seed: int, threads: int
) -> dict[str, Any]:
    """A training from random weights: everything is trained, by Muon, on all frames at their own size."""
    return {
        "model": {
            "base": str(work / "base"),
            "dtype": "float32",
            "prompt_template": "short_special",
            "frames": "all",
            "min_frame_pixels": 1024,
            "max_frame_pixels": 1024,
        },
        "data": {
            "train": str(training),
            "heldout": str(heldout),
            "videos": str(work / "clips"),
            "cache_mib": 1000,
            "workers": 1,
        },
        "output_dir": str(work / output),
        "tune": {"llm": "full", "embeddings": "all"},
        "loss": {"invalid": "left_out", "shrinkage": 1e-3},
        "optimizer": {
            **dict.fromkeys(_RATES, 2e-3),
            "type": "muon",
            "schedule": "linear",
            "warmup_ratio": 0.02,
            "adam_betas": [0.9, 0.95],
        },
        "max_steps": steps,
        "batch_pairs": 32,
        "micro_batch_pairs": 32,
        "evaluation_interval_epochs": steps / 20 * 32 / _rows(training),
        "checkpoint_interval_epochs": 1000.0,
        "seed": seed,
        "torch_threads": threads,
    }


def train(path: Path) -> dict[str, Any]:
    """The program itself, in a process of its own; raises with its words when it fails."""
    command = [str(Path(sys.executable).with_name("onlinevpo")), "rewards", "train", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{path}: exit {done.returncode}\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(folder: Path) -> list[dict[str, Any]]:
    """The lines of held-out measurements."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "heldout" in line]


def _rows(path: Path) -> int:
    return len(path.read_text().splitlines()) - 1


def _mean(line: Mapping[str, Any], key: str) -> float:
    return statistics.mean(line["heldout"][name][key] for name in DIMENSIONS)


def _panel(lines: Sequence[Mapping[str, Any]], key: str, title: str) -> Panel:
    return Panel(
        title=title,
        x_label="step",
        lines=[
            Line(name=name, points=[(line["step"], line["heldout"][name][key]) for line in lines])
            for name in DIMENSIONS
        ],
        y_range=(0.4, 1.0),
    )


def _row(line: Mapping[str, Any]) -> str:
    values = [line["heldout"][name][key] for key in ("accuracy", "tie_auc") for name in DIMENSIONS]
    return f"| {line['step']} | {line['seconds'] / 60:.1f} | " + " | ".join(f"{value:.3f}" for value in values) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", choices=["accuracy", "ties"], default=["accuracy", "ties"])
    parser.add_argument("--work", type=Path, help="keep data and trainings here")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, one thread each; ties only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = arguments.work or Path(name)
        if "accuracy" in arguments.only:
            print(accuracy(work / "accuracy", threads=2))
        if "ties" in arguments.only:
            print(ties(work / "ties", jobs=arguments.jobs))


if __name__ == "__main__":
    main()
