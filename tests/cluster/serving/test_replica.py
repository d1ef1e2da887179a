"""A replica without Ray: what Serve would call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from cluster.errors import PartError, ReplicaBrokenError
from cluster.serving.replica import Replica, RewardReplica, load_error
from cluster.serving.values import BatchResult, ModelFacts, ScoreItem, Scores
from policies.errors import InputError
from policies.types import Candidate, Prompt, Scored, VideoShape

FACTS = ModelFacts(name="toy", model="toy", revision="1", files={}, dimensions=("n",), dtype="float32")
FRAMES = np.zeros((2, 3, 4, 4, 3), np.uint8)
GROUP = [
    Candidate(
        group_id="u0-p0", prompt=Prompt(id="p", text="a clip"), shape=VideoShape(num_frames=3, height=4, width=4),
        seed=seed, policy_version=0, weights_hash="", latents=None, frames=None,
    )
    for seed in (1, 2)
]  # fmt: skip


class Recorder:
    """Notes every forward; while `may_go` is not set, a forward takes as long as that."""

    def __init__(self) -> None:
        self.forwards: list[tuple[str, int]] = []
        self.may_go = threading.Event()
        self.may_go.set()

    def describe(self) -> dict[str, Any]:
        return {"name": "toy"}

    def run(self, items: Sequence[ScoreItem]) -> BatchResult:
        return BatchResult(results=(self._forward("callers", len(items)),) * len(items), facts=FACTS, inference_ms=1.0)

    def score(self, candidates: Sequence[Candidate], fps: float) -> list[Scored]:
        self._forward("runs", len(candidates))
        return [Scored(candidate=one, scores={"seed": float(one.seed), "fps": fps}) for one in candidates]

    def _forward(self, kind: str, count: int) -> Scores:
        self.forwards.append((kind, count))
        self.may_go.wait(10)
        return Scores(raw={"n": float(count)}, normalised={"n": float(count)}, reward=float(count))


async def started(build: Callable[[], Any], **settings: float) -> RewardReplica:
    """As Serve does it."""
    replica = RewardReplica.__new__(RewardReplica)
    await replica.__init__(Replica(build=build, **settings))  # type: ignore[func-returns-value,misc]
    return replica


def batch(replica: RewardReplica, count: int, *, left_s: float = 10.0) -> Any:
    return replica.run_batch([("a clip", 8.0)] * count, [FRAMES[0]] * count, left_s)


def group(replica: RewardReplica) -> Any:
    return replica.score(GROUP, [(0, 0), (0, 1)], 8.0, FRAMES)


async def test_a_runs_group_is_a_forward_of_its_own_in_the_order_of_its_candidates() -> None:
    recorder = Recorder()
    replica = await started(lambda: recorder)
    first, scored, second = await asyncio.gather(batch(replica, 3), group(replica), batch(replica, 4))
    assert sorted(recorder.forwards) == [("callers", 3), ("callers", 4), ("runs", 2)]
    assert (len(first.results), len(second.results)) == (3, 4)
    assert scored["results"] == [({"seed": 1.0, "fps": 8.0}, None), ({"seed": 2.0, "fps": 8.0}, None)]


async def test_runs_and_callers_take_turns_when_both_wait() -> None:
    recorder = Recorder()
    replica = await started(lambda: recorder)
    recorder.may_go.clear()
    waiting = [asyncio.ensure_future(batch(replica, 1)) for _ in range(4)]
    waiting += [asyncio.ensure_future(group(replica)) for _ in range(2)]
    while not recorder.forwards:
        await asyncio.sleep(0.001)
    recorder.may_go.set()
    await asyncio.gather(*waiting)
    assert [kind for kind, _ in recorder.forwards[:3]].count("runs") >= 1, "a run waited behind every caller"


async def test_a_batch_whose_time_is_over_before_its_turn_is_not_run() -> None:
    recorder = Recorder()
    replica = await started(lambda: recorder)
    recorder.may_go.clear()
    first, late = asyncio.ensure_future(batch(replica, 1)), asyncio.ensure_future(batch(replica, 2, left_s=0.01))
    await asyncio.sleep(0.02)
    recorder.may_go.set()
    assert len((await first).results) == 1
    assert await late is None
    assert recorder.forwards == [("callers", 1)]


async def test_one_that_hangs_is_not_healthy_and_tells_its_callers() -> None:
    recorder = Recorder()
    replica = await started(lambda: recorder, stall_s=0.01)
    await replica.check_health()
    recorder.may_go.clear()
    hanging = asyncio.ensure_future(batch(replica, 1))
    with pytest.raises(ReplicaBrokenError):
        while True:
            await asyncio.sleep(0.005)
            await replica.check_health()
    with pytest.raises(ReplicaBrokenError):
        await hanging
    recorder.may_go.set()


@pytest.mark.parametrize(
    ("raised", "comes_back"),
    [
        (InputError("reward.path: no model\nthere; name a folder"), InputError),
        (KeyError("weight"), PartError),
    ],
)
async def test_what_a_model_raises_while_it_loads_is_found_again_in_what_serve_says(
    raised: Exception, comes_back: type[Exception]
) -> None:
    def build() -> Any:
        raise raised

    with pytest.raises(RuntimeError) as caught:
        await started(build)
    error = load_error("the reward model 'toy'", f"A replica failed.\nRuntimeError: {caught.value}\nRetrying 2 times.")
    assert type(error) is comes_back
    assert "there; name a folder" in str(error) or "the reward model 'toy' raised KeyError" in str(error)


def test_what_serve_says_otherwise_is_no_loading_error() -> None:
    assert load_error("the reward model 'toy'", "There is no room for a replica.") is None
