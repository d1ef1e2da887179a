"""What a process of the run builds its part with. Module-level functions, so that a Ray worker finds them by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cluster.config import RunConfig
from policies.online_vpo import Generator, Scorer
from policies.types import Selection, UpdateStats

AllReduce = Callable[[Any], None]  # sums a tensor over all ranks, in place


class RewardScorer(Scorer, Protocol):
    """A scorer that can say what it scores with."""

    def describe(self) -> dict[str, Any]:
        """Name, revision, files, dimensions and own scale of the reward model."""
        ...


class LearnerPart(Protocol):
    """What a rank of the learner holds."""

    @property
    def policy_version(self) -> int: ...

    @property
    def reference_version(self) -> int: ...

    @property
    def weights_hash(self) -> str:
        """Of the policy's current weights."""
        ...

    async def update(self, batch: Sequence[Selection], *, batch_index: int) -> UpdateStats: ...

    async def update_reference(self) -> int: ...

    def publish(self) -> None:
        """Puts the current policy weights where generators find them; harmless to repeat."""
        ...

    def save(self, folder: Path) -> dict[str, str]:
        """Writes the state; sha256 by file name."""
        ...

    def restore(self, folder: Path) -> None:
        """Goes on from what `save` wrote."""
        ...


@dataclass(frozen=True, slots=True)
class Named:
    """A function by name: only the process that calls it imports its module. The models behind it take 3 s of CPU to
    import, and a run starts in several processes that pass a factory on without calling it."""

    module: str
    name: str

    def __call__(self, *arguments: Any) -> Any:
        return getattr(importlib.import_module(self.module), self.name)(*arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Factories:
    """One function per part. `learner` gets its rank, the number of ranks and, if there are several, an all-reduce."""

    generator: Callable[[RunConfig, Path], Generator]
    scorer: Callable[[RunConfig], RewardScorer]
    learner: Callable[[RunConfig, Path, int, int, AllReduce | None], LearnerPart]
