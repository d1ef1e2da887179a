"""The README's picture: clips of test prompts before and after a run, from the same noise.

python -m tests.evidence.picture RUN [--output docs/before-after.png]
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from cluster.evaluation import EvaluationPlan
from cluster.in_process import InProcessPlacement
from cluster.parts import load_run_prompts, sampling_of, shape_of
from cluster.run_directory import RunDirectory
from policies.video import SheetRow, write_contact_sheet

ROWS = range(0, 24, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/before-after.png"))
    arguments = parser.parse_args()
    directory = RunDirectory(arguments.run)
    config = directory.read_config()
    placement = InProcessPlacement(config, arguments.run)
    plan = EvaluationPlan(
        seed=config.evaluation.seed, samples_per_prompt=1, sampling=sampling_of(config), shape=shape_of(config)
    )
    prompts = load_run_prompts(config)["test"]
    clips = {}
    for version in (0, placement.learner.policy_version):
        requests = plan.requests(prompts, version=version)
        clips[version] = [asyncio.run(placement.generator.sample(requests[row]))[0].frames for row in ROWS]
    before, after = clips.values()
    rows = [SheetRow(label=prompts[row].text, clips=(b, a)) for row, b, a in zip(ROWS, before, after, strict=True)]
    title = f"after {placement.learner.policy_version} updates"
    write_contact_sheet(arguments.output, rows, titles=("before", title), frames_shown=5, upscale=2)


if __name__ == "__main__":
    main()
