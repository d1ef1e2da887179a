"""The configuration of a scoring service. Light: pydantic only, neither torch nor ray."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from policies.config import Config, NonNegativeFloat, PositiveFloat, PositiveInt, RewardConfig, ShapesRewardConfig
from services.media.limits import MediaLimits

NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME)]


class AutoscalingConfig(Config):
    min_replicas: PositiveInt = 1
    """Replicas that are always there."""
    max_replicas: PositiveInt
    """Replicas under load."""
    upscale_delay_s: NonNegativeFloat = 10
    """How long the load must last before a replica is added."""
    downscale_delay_s: NonNegativeFloat = 300
    """How long it must be gone before one is taken away."""

    @model_validator(mode="after")
    def _min_is_not_above_max(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas is {self.min_replicas}, above max_replicas {self.max_replicas}; lower it")
        return self


class DeploymentConfig(Config):
    """One reward model of the service."""

    reward: RewardConfig = ShapesRewardConfig()
    """The model, as in a run's `reward` section."""
    replicas: PositiveInt = 1
    """Copies of the model, each a process; not used with `autoscaling`."""
    autoscaling: AutoscalingConfig | None = None
    """Let the load decide how many replicas there are."""
    cpus_per_replica: NonNegativeFloat = 1
    """CPUs that a replica reserves."""
    gpus_per_replica: NonNegativeFloat = 0
    """GPUs (or a fraction of one) that a replica reserves."""
    torch_threads: PositiveInt = 1
    """CPU threads of a replica's network."""
    batch_items: PositiveInt = 32
    """Items that go through the model together at most."""
    batch_pixels: PositiveInt = 64_000_000
    """Pixels (frames x height x width) of a batch at most; an item with more goes alone."""
    queue_items: PositiveInt = 2048
    """Items that may wait; more are turned away with 503."""
    queue_items_per_caller: PositiveInt = 1024
    """Items of one key that may wait; more are turned away with 429."""
    callers_weight: PositiveFloat = 1
    """Share of a replica's time that callers of the API get when runs want it, too."""
    runs_weight: PositiveFloat = 1
    """Share of a replica's time that alignment runs get when callers want it, too."""


class LimitsConfig(Config):
    request_bytes: PositiveInt = 96 * 2**20
    """Of a request body with videos in it."""
    items: PositiveInt = 1024
    """Of one request."""
    sync_items: PositiveInt = 256
    """Of a request that is answered at once; a larger one becomes a job."""
    timeout_s: PositiveFloat = 60
    """How long a request may take when it does not say."""
    max_timeout_s: PositiveFloat = 600
    """How long a request may ask for."""
    job_s: PositiveFloat = 3600
    """How long a job may run."""
    unfinished_jobs: PositiveInt = 1000
    """Jobs that may be queued or running; more are turned away with 503."""
    jobs_at_a_time: PositiveInt = 2
    """Jobs that this server works on together."""
    prompt_characters: PositiveInt = 4096
    """Of one prompt."""
    jobs_kept_s: PositiveFloat = 7 * 24 * 3600
    """How long a finished job can be asked for."""
    files_bytes: PositiveInt = 100 * 2**30
    """Of all uploaded files; more are turned away."""


class ServeConfig(Config):
    """A scoring service."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0: any free one, which the ready line names."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that requests may give as Host, besides the address listened on and localhost."""
    data_dir: str = "onlinevpo-data"
    """Folder for the store and uploaded files."""
    store: str | None = None
    """Store: a path, or the URL of a Redis or Valkey server; null: a SQLite file in data_dir."""
    address: str = "local"
    """Ray cluster: `local` starts a private one that ends with the service; otherwise host:port or auto."""
    models: dict[Name, DeploymentConfig] = Field(default_factory=lambda: {"shapes": DeploymentConfig()})
    """Reward models by the names that requests call them by."""
    default_model: Name | None = None
    """Model of requests that name none; null: the first one."""
    uri_roots: dict[Name, str] = Field(default_factory=dict)
    """Object stores that requests may refer to: `name: s3://bucket/prefix` lets them say `name/some/clip.mp4`."""
    media: MediaLimits = MediaLimits()
    """What one video may cost."""
    decoders: PositiveInt = 2
    """Decoder processes."""
    unsafe_decode: bool = False
    """Decode even where a decoder process cannot be closed off (no Landlock and seccomp)."""
    limits: LimitsConfig = LimitsConfig()
    """What requests may cost."""
    access_log: bool = False
    """Write a line of JSON for each request to stderr: route, status, time, key's id; nothing of the request itself."""
    start_s: PositiveFloat = 300
    """Until every model answers."""
    drain_s: PositiveFloat = 30
    """How long requests that are being answered may take once the service is told to stop."""

    @model_validator(mode="after")
    def _default_model_exists(self) -> Self:
        if not self.models:
            raise ValueError("models is empty; a service needs at least one")
        if self.default_model is not None and self.default_model not in self.models:
            raise ValueError(f"default_model is {self.default_model!r}; use one of {', '.join(self.models)}")
        return self

    @property
    def default(self) -> str:
        """The model of requests that name none."""
        return self.default_model or next(iter(self.models))
