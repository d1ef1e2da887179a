"""Where the parts of a run are. The controller sees this protocol and cannot tell the placements apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from policies.online_vpo import Generator, Learner, Scorer
from policies.types import Handle


class RunLearner(Learner, Protocol):
    """A learner that can be saved and whose place in the stream of commands is known."""

    @property
    def weights_hash(self) -> str:
        """Of the policy's current weights."""
        ...

    @property
    def position(self) -> int:
        """Number of commands done."""
        ...

    async def save(self, folder: str) -> dict[str, str]:
        """Writes the state into a checkpoint folder and the weights into the run's; sha256 by file name."""
        ...

    async def committed(self, position: int) -> None:
        """Everything before this position is durable and will never be asked for again."""
        ...


class Placement(Protocol):
    """Generator, scorer and learner, brought up and ready."""

    @property
    def generator(self) -> Generator: ...

    @property
    def scorer(self) -> Scorer: ...

    @property
    def learner(self) -> RunLearner: ...

    async def reward_model(self) -> dict[str, Any]:
        """Name, revision, files, dimensions and own scale of the reward model in use."""
        ...

    async def write_latents(self, path: Path, chosen: Handle, rejected: Handle) -> str:
        """Writes a pair's latents atomically; returns the file's sha256."""
        ...

    async def fetch(self, handle: Handle) -> np.ndarray:
        """The array behind a handle: for evaluation and sample videos, never for training."""
        ...

    def pids(self) -> dict[str, Any]:
        """Process ids by role."""
        ...

    async def close(self) -> None:
        """Ends every process of the run and removes what only they needed."""
        ...
