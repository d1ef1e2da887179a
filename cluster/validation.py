"""Validation while the run learns: mean reward on prompts that it does not learn from; the best version; early stop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cluster.config import RunConfig
from cluster.evaluation import EvaluationPlan, draw_samples, mean_reward
from cluster.parts import sampling_of, shape_of
from cluster.placement import Placement
from cluster.run_directory import RunDirectory, write_atomic
from policies.calibration import Reward
from policies.types import Prompt


class Validation:
    """Measures versions that are due and keeps validation.jsonl."""

    def __init__(
        self,
        config: RunConfig,
        directory: RunDirectory,
        prompts: Sequence[Prompt] | None,
        placement: Placement,
        reward: Reward,
    ) -> None:
        self._settings, self._prompts = config.evaluation, list(prompts or [])
        self._file = directory.path / "validation.jsonl"
        self._placement, self._reward = placement, reward
        self._plan = EvaluationPlan(
            seed=config.evaluation.seed + 1,
            samples_per_prompt=config.evaluation.samples_per_prompt,
            sampling=sampling_of(config),
            shape=shape_of(config),
        )
        self._records: list[dict[str, Any]] = []

    def cut(self, *, updates: int) -> None:
        """Forgets what belongs to versions above the newest commit."""
        if self._file.is_file():
            lines = [json.loads(line) for line in self._file.read_text().splitlines(keepends=True) if line[-1] == "\n"]
            self._records = [record for record in lines if record["policy_version"] <= updates]
            write_atomic(self._file, "".join(json.dumps(record) + "\n" for record in self._records).encode())

    def is_due(self, version: int) -> bool:
        interval = self._settings.validation_interval_updates
        return interval > 0 and version % interval == 0

    async def measure(self, version: int) -> dict[str, Any]:
        """Samples the version on the validation prompts, always with the same noise."""
        samples = await draw_samples(
            self._plan.requests(self._prompts, version=version),
            generator=self._placement.generator,
            scorer=self._placement.scorer,
            reward=self._reward,
        )
        dimensions = samples[0].scores if samples else {}
        scored = [sample for sample in samples if sample.scores]
        record = {
            "policy_version": version,
            "reward_mean": mean_reward(samples) if scored else None,
            "scores": {name: sum(s.scores[name] for s in scored) / len(scored) for name in dimensions}
            if scored
            else {},
            "samples": len(samples),
            "unscored": len(samples) - len(scored),
        }
        self._records.append(record)
        with self._file.open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
        return record

    @property
    def best_version(self) -> int | None:
        """The version with the highest validation reward; None before the first validation or when unused."""
        ranked = [record for record in self._records if record["reward_mean"] is not None]
        if not ranked or not self._settings.keep_best:
            return None
        return int(max(ranked, key=lambda record: record["reward_mean"])["policy_version"])

    @property
    def is_exhausted(self) -> bool:
        """True when `early_stop_patience` validations in a row brought nothing better."""
        patience = self._settings.early_stop_patience
        rewards: list[float] = [r["reward_mean"] for r in self._records if r["reward_mean"] is not None]
        if patience is None or len(rewards) <= patience:
            return False
        return max(rewards[-patience:]) <= max(rewards[:-patience])
