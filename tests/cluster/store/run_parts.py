"""What tests tell of runs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from cluster.store.run_items import Happened, Item, Line, Pair, Side, Told
from cluster.store.runs import Begun, Origin
from cluster.store.store import Store

ORIGIN = Origin(run_id="demo", owner="ada", run_dir="runs/demo", config_digest="c0ffee", updates=100)


class Writer:
    """Tells a store of a run, counting positions."""

    def __init__(self, store: Store, begun: Begun, token: str) -> None:
        self.store, self.begun, self.token = store, begun, token
        self.position = 0

    @classmethod
    async def begin(cls, store: Store, first_update: int = 0, origin: Origin = ORIGIN) -> Writer:
        token = uuid.uuid4().hex
        return cls(store, await store.runs.begin(origin, token=token, first_update=first_update), token)

    async def tell(self, *items: Item) -> None:
        await self.store.runs.tell(self.begun.run.id, self.token, self.numbered(items))

    def numbered(self, items: Sequence[Item]) -> list[Told]:
        first = self.position + 1
        self.position += len(items)
        return [Told(position, item) for position, item in enumerate(items, start=first)]


def line(update: int, **points: float) -> Line:
    return Line(update=update, points=points)


def swap(update: int) -> Happened:
    return Happened(what="swap", text="the policy became its own reference", update=update)


def pair(
    update: int,
    slot: int = 0,
    *,
    margin: float = 1.0,
    prompt_id: str = "p",
    chosen: Mapping[str, float] | None = None,
    rejected: Mapping[str, float] | None = None,
    conflicts: tuple[str, ...] = (),
) -> Pair:
    return Pair(
        group_id=f"u{update:06d}-p{slot:03d}",
        update=update,
        prompt_id=prompt_id,
        prompt="a red square moves left",
        policy_version=update,
        chosen=Side(seed=2**62 + slot, reward=margin, scores=chosen or {"VQ": 1.0}),
        rejected=Side(seed=7, reward=0.0, scores=rejected or {"VQ": 0.0}),
        margin=margin,
        conflicts=conflicts,
    )


async def curve(store: Store, name: str, run_id: str = "demo") -> dict[int, float]:
    """A curve as it stands."""
    found = await store.metrics.read(run_id, [name])
    assert found is not None
    if name not in found.curves:
        return {}
    points = found.curves[name]
    return dict(zip(points.updates.tolist(), points.values.tolist(), strict=True))
