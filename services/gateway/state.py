"""What every route works with."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.store.store import Store
from services.gateway.files_shelf import Shelf
from services.gateway.jobs_desk import JobsDesk
from services.media.files import ContentFolder
from services.media.guard import MediaGuard
from services.scoring.model import Models
from services.serve_config import ServeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The parts of a service. Who builds it opens and closes them: the app only uses them."""

    config: ServeConfig
    store: Store
    files: ContentFolder
    guard: MediaGuard
    models: Models
    desk: JobsDesk = field(default_factory=JobsDesk)
    shelf: Shelf = field(init=False)

    def __post_init__(self) -> None:
        shelf = Shelf(self.files, self.store.files, max_bytes=self.config.limits.files_bytes)
        object.__setattr__(self, "shelf", shelf)
