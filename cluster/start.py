"""Brings up the placement that a configuration names."""

from __future__ import annotations

from cluster.config import RunConfig
from cluster.factories import Factories
from cluster.parts import generator_part, learner_part, scorer_part
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

    parts = Factories(generator=generator_part, scorer=scorer_part, learner=learner_part)
    return await SplitPlacement.start(config, directory.path, factories=parts)
