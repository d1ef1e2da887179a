"""Brings up the placement that a configuration names."""

from __future__ import annotations

from cluster.config import RunConfig
from cluster.factories import Factories, Named
from cluster.placement import Placement
from cluster.run_directory import RunDirectory


async def start_placement(config: RunConfig, directory: RunDirectory) -> Placement:
    """Everything the run needs, ready to work, restored from the newest commit if there is one.

    The two placements are imported here and not above: Ray costs a second that a run in one process need not pay.
    """
    if config.placement.mode == "in_process":
        from cluster.in_process import InProcessPlacement

        return await InProcessPlacement.start(config, directory.path)
    from cluster.split import SplitPlacement

    parts = Factories(
        generator=Named("cluster.parts", "generator_part"),
        scorer=Named("cluster.parts", "scorer_part"),
        learner=Named("cluster.parts", "learner_part"),
    )
    return await SplitPlacement.start(config, directory.path, factories=parts)
