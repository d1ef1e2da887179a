"""What Ray Serve does by itself, to compare with: its own HTTP ingress, and its own batching.

    python -m tests.benchmarks.scoring_anchors noop|batch

Serves POST /score on a free port of the loopback until its input ends, and says {"port": ...} when it is up. Nothing
is set that is not needed: the proxy, the router and the FastAPI ingress are the ones that everybody gets.
"""

import asyncio
import json
import logging
import socket
import sys
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BaseModel, Field
from ray import serve
from ray.serve.schema import LoggingConfig

from cluster.local_ray import RayNeeds, RaySession
from tests.benchmarks.scoring_costs import BATCH_ITEMS, COSTS_S

BATCH_WAIT_S = 0.01
START_S = 120.0

app = FastAPI()


class Video(BaseModel):
    file_id: str


class Item(BaseModel):
    prompt: str
    video: Video


class Request(BaseModel):
    model: str
    items: Annotated[list[Item], Field(min_length=1)]


class Slot(BaseModel):
    index: int
    reward: float


class Answer(BaseModel):
    model: str
    data: list[Slot]


@serve.deployment(max_ongoing_requests=1000, logging_config=LoggingConfig(enable_access_log=False))
@serve.ingress(app)
class NoOp:
    @app.post("/score")
    async def score(self, request: Request) -> Answer:
        return Answer(model=request.model, data=[Slot(index=n, reward=0.5) for n, _ in enumerate(request.items)])


batched_app = FastAPI()


@serve.deployment(max_ongoing_requests=1000, logging_config=LoggingConfig(enable_access_log=False))
@serve.ingress(batched_app)
class FixedCost:
    @serve.batch(max_batch_size=BATCH_ITEMS, batch_wait_timeout_s=BATCH_WAIT_S)
    async def forward(self, prompts: list[str]) -> list[float]:
        a, b = COSTS_S["fixed"]
        await asyncio.sleep(a + b * len(prompts))
        return [0.5] * len(prompts)

    @batched_app.post("/score")
    async def score(self, request: Request) -> Answer:
        reward = await self.forward(request.items[0].prompt)
        return Answer(model=request.model, data=[Slot(index=0, reward=reward)])


ANCHORS: dict[str, Any] = {"noop": NoOp, "batch": FixedCost}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def main(name: str) -> None:
    # as urgent as the service's processes: other load on the machine then costs both alike
    session = RaySession(RayNeeds.of_service("local", (), start_s=START_S))
    await session.open()
    try:
        port = free_port()
        await asyncio.to_thread(_serve, name, port)
        print(json.dumps({"port": port}), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await asyncio.to_thread(serve.shutdown)
    finally:
        await session.close()


def _serve(name: str, port: int) -> None:
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(ANCHORS[name].bind(), name=name)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
