"""`make evidence`: the long proofs, one after another; results replace the generated part of LOG.md.

    python -m tests.evidence [--only experiments crashes orchestration reward-accuracy reward-ties serving] [--jobs 2]

About an hour on two cores. Nothing here is part of the test suite, which runs a sample of each.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks import orchestration
from tests.evidence import crashes, experiments, reward_training
from tests.evidence.serving import proofs

LOG = Path(__file__).parents[2] / "LOG.md"


def experiments_section(jobs: int) -> str:
    return experiments.table(experiments.run_all(experiments.EXPERIMENTS, jobs=jobs))


def crashes_section(jobs: int) -> str:
    return crashes.table(crashes.run_all())


def orchestration_section(jobs: int) -> str:
    light = orchestration.measure(updates=20, rounds=5, interval=5, inference_steps=6)
    heavy = orchestration.measure(updates=10, rounds=5, interval=5, inference_steps=15)
    return "\n\n".join(f"```json\n{json.dumps(found, indent=1)}\n```" for found in (light, heavy))


def serving_section(jobs: int) -> str:
    return proofs.section(proofs.measure())


SECTIONS: dict[str, Callable[[int], str]] = {
    "experiments": experiments_section,
    "crashes": crashes_section,
    "orchestration": orchestration_section,
    "reward-accuracy": reward_training.accuracy_section,
    "reward-ties": reward_training.ties_section,
    "serving": serving_section,
}


def replace_section(text: str, name: str, body: str) -> str:
    """LOG.md with the part between a section's two markers replaced, or added at the end."""
    begin, end = f"<!-- evidence: {name} -->", f"<!-- end of evidence: {name} -->"
    block = f"{begin}\n{body}\n{end}"
    if begin not in text:
        return f"{text.rstrip()}\n\n## Evidence: {name}\n\n{block}\n"
    head, rest = text.split(begin, 1)
    return head + block + rest.split(end, 1)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", choices=[*SECTIONS], default=[*SECTIONS])
    parser.add_argument("--jobs", type=int, default=2, help="experiments at a time, one thread each")
    arguments = parser.parse_args()
    for name in arguments.only:
        begun = time.time()
        print(f"== {name}", file=sys.stderr, flush=True)
        body = SECTIONS[name](arguments.jobs)
        stamp = (
            f"_{time.strftime('%Y-%m-%d')}, {time.time() - begun:.0f} s, {platform.machine()}, "
            f"Python {platform.python_version()}, torch {version('torch')}, ray {version('ray')}, "
            f"diffusers {version('diffusers')}_"
        )
        LOG.write_text(replace_section(LOG.read_text(), name, f"{stamp}\n\n{body}"))


if __name__ == "__main__":
    main()
