"""A server of toy models until somebody kills it; one line says that it is up.

python -m tests.cluster.serving.serve_toys
"""

from __future__ import annotations

import asyncio
import json
import os

from cluster.local_ray import RayNeeds, RaySession
from cluster.reaper import TOKEN_VARIABLE
from cluster.serving.deployment import Deployment
from cluster.serving.server import ModelServer
from policies.config import ShapesRewardConfig
from tests.cluster.serving.toy_models import Toy


async def main() -> None:
    deployments = [Deployment(name="toy", reward=ShapesRewardConfig(), build=Toy())]
    session = RaySession(RayNeeds.of_service("local", deployments, start_s=120))
    await session.open()
    server = await ModelServer.start(deployments, start_s=120)
    replicas = await server.forwards["toy"].pids()
    up = {"token": os.environ[TOKEN_VARIABLE], "folder": str(session.folder), "replicas": replicas}
    print(json.dumps(up), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
