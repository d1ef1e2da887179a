from cluster.store.run_items import Sample
from cluster.store.store import Store
from tests.cluster.store.run_parts import Writer


def sample(version: int, name: str, reward: float = 1.0) -> Sample:
    return Sample(
        name=name, file=f"samples/{name}-{version}.mp4", prompt="a red square", seed=2**62, policy_version=version,
        reward=reward, scores={"VQ": 1.0},
    )  # fmt: skip


async def test_samples_are_paged_from_the_newest_policy_version(store: Store, other: Store) -> None:
    writer = await Writer.begin(store)
    told = [sample(0, "a"), sample(0, "b"), sample(20, "a"), sample(100, "a")]
    await writer.tell(*told)
    first = await other.samples.page("demo", limit=3)
    second = await other.samples.page("demo", limit=3, cursor=first.next_cursor)
    assert [*first.items, *second.items] == told[::-1]
    assert (await store.samples.page("nobody")).items == []


async def test_a_sample_drawn_again_takes_the_place_of_the_former(store: Store) -> None:
    writer = await Writer.begin(store)
    await writer.tell(sample(3, "a", reward=1.0))
    resumed = await Writer.begin(store)
    await resumed.tell(sample(3, "a", reward=2.0))
    assert [each.reward for each in (await store.samples.page("demo")).items] == [2.0]
