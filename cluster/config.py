"""Configuration of a run: the sections of `policies/config.py`, and where and when they happen. No ray, no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from policies.config import (
    Config,
    LearnerConfig,
    NonNegativeFloat,
    ObjectiveConfig,
    PairsConfig,
    PolicyConfig,
    PositiveFloat,
    PositiveInt,
    RewardConfig,
    SamplingConfig,
    ShapesRewardConfig,
)


class PromptsConfig(Config):
    train: str
    """Prompts to learn from: a .txt (one a line) or .jsonl ({id, prompt, shape?}) file, or `shapes:train`."""
    validation: str | None = None
    """Prompts for the validation reward while learning; null: none."""
    test: str | None = None
    """Prompts for the before/after comparison at the end; null: none."""


class CheckpointConfig(Config):
    interval_updates: PositiveInt | Literal["auto"] = "auto"
    """Updates between commits; auto: as often as costs less than 2 % of the run's time."""
    keep_last: PositiveInt = 2
    """Newest commits to keep."""
    keep_latents_updates: Annotated[int, Field(ge=0)] = 200
    """Newest updates whose pairs keep their latents on disk after the commit that used them."""


class EvaluationConfig(Config):
    seed: int = 20_000
    """Seed of the noise of validation and test samples; part of no training draw."""
    samples_per_prompt: PositiveInt = 4
    """Samples per validation or test prompt, the same noise before and after."""
    validation_interval_updates: Annotated[int, Field(ge=0)] = 0
    """Updates between validations; 0: never."""
    keep_best: bool = False
    """Export the version with the best validation reward rather than the last."""
    early_stop_patience: PositiveInt | None = None
    """Stop after so many validations without a better reward; null: never."""
    ground_truth: Literal["shapes"] | None = None
    """Exact scorer for test samples, where the world has one. Never seen by training."""
    videos_in_report: Annotated[int, Field(ge=0)] = 8
    """Before/after pairs written to samples/ and shown in the report."""


class PlacementConfig(Config):
    mode: Literal["in_process", "split"] = "split"
    """in_process: everything in this process, no Ray; split: generators, reward server and learner on Ray."""
    address: str = "local"
    """Ray cluster: `local` starts a private one for the run; otherwise host:port or auto."""
    generators: PositiveInt = 2
    """Generator actors."""
    cpus_per_generator: NonNegativeFloat = 1
    """CPUs that a generator reserves."""
    gpus_per_generator: NonNegativeFloat = 0
    """GPUs (or a fraction of one) that a generator reserves."""
    reward_replicas: PositiveInt = 1
    """Replicas of the reward server."""
    gpus_per_reward_replica: NonNegativeFloat = 0
    """GPUs (or a fraction of one) that a replica reserves."""
    reward_app: str | None = None
    """Model of a scoring service on the cluster at `address` that scores this run; null: replicas of the run's own."""
    learner_ranks: PositiveInt = 1
    """Data-parallel learner processes. Any number gives the same update, to rounding."""
    gpus_per_learner_rank: NonNegativeFloat = 0
    """GPUs that a rank reserves."""
    max_restarts: Annotated[int, Field(ge=0)] = 10
    """Times that one part may die and be replaced before the run fails."""

    @model_validator(mode="after")
    def _reward_app_can_be_reached(self) -> Self:
        if self.reward_app is not None and (self.mode == "in_process" or self.address == "local"):
            raise ValueError(
                f"reward_app is {self.reward_app!r}, which runs on a Ray cluster that was there before; set mode: "
                "split and address to that cluster's, or reward_app: null"
            )
        return self


class DeadlinesConfig(Config):
    start_s: PositiveFloat = 300
    """Until every process of the run answers."""
    sample_s: PositiveFloat = 3600
    """Until a slice of a group is sampled."""
    score_s: PositiveFloat = 600
    """Until a group is scored; a group that is late is scored as failed."""
    update_s: PositiveFloat = 3600
    """Until the learner answers a command, its own recovery included."""
    recovery_s: PositiveFloat = 300
    """Until a part that died answers again."""


class RunConfig(Config):
    """One alignment run."""

    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")] | None = None
    """Name of the run's directory under output_dir; null: the config file's name."""
    output_dir: str = "runs"
    """Where run directories go."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Every random draw of the run follows from it."""
    updates: PositiveInt = 1000
    """Updates to make."""
    prompts_per_update: PositiveInt = 8
    """Groups of one update."""
    reference_update_interval: Annotated[int, Field(ge=0)] = 200
    """K of the paper: updates after which the policy becomes its own reference; 0: never."""
    torch_threads: PositiveInt = 1
    """CPU threads of every process that computes. Part of the run's numbers."""
    policy: PolicyConfig
    sampling: SamplingConfig = SamplingConfig()
    prompts: PromptsConfig
    pairs: PairsConfig = PairsConfig()
    reward: RewardConfig = ShapesRewardConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    learner: LearnerConfig = LearnerConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    placement: PlacementConfig = PlacementConfig()
    deadlines: DeadlinesConfig = DeadlinesConfig()

    @model_validator(mode="after")
    def _evaluation_has_prompts(self) -> Self:
        evaluation = self.evaluation
        if evaluation.validation_interval_updates and self.prompts.validation is None:
            raise ValueError(
                f"evaluation.validation_interval_updates is {evaluation.validation_interval_updates} but "
                "prompts.validation is not set; name a file of validation prompts or set the interval to 0"
            )
        if (evaluation.keep_best or evaluation.early_stop_patience) and not evaluation.validation_interval_updates:
            raise ValueError(
                "evaluation.keep_best and early_stop_patience need validations; "
                "set evaluation.validation_interval_updates"
            )
        return self

    def warnings(self) -> list[str]:
        """Settings that are allowed and rarely meant."""
        found = []
        if self.pairs.source == "offline" and self.reference_update_interval:
            found.append(
                f"pairs.source is offline with reference_update_interval {self.reference_update_interval}: each swap "
                "allows another drift on stale pairs and slowly wrecks the policy; set reference_update_interval: 0"
            )
        return found
