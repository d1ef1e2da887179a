import asyncio

import pytest

from cluster.errors import LeaseLostError
from cluster.store.idempotency import RETENTION_S, Answer, Done, Fresh, InProgress, OtherBody, Ticket
from cluster.store.store import Store
from tests.cluster.store.conftest import ManualClock, Place

ANSWER = Answer(status=202, headers=(("Location", "/v1/jobs/1"), ("X-A", "ü")), body=bytes(range(256)))
LEASE_S = 30.0


async def begun(store: Store, key: str = "k", body: str = "b") -> Ticket:
    begin = await store.idempotency.begin("ada", key, body, lease_s=LEASE_S)
    assert isinstance(begin, Fresh)
    return begin.ticket


async def test_a_repeated_request_is_answered_as_the_first(store: Store, other: Store) -> None:
    ticket = await begun(store)
    assert isinstance(await other.idempotency.begin("ada", "k", "b", lease_s=LEASE_S), InProgress)
    await store.idempotency.finish(ticket, ANSWER)
    assert await other.idempotency.begin("ada", "k", "b", lease_s=LEASE_S) == Done(answer=ANSWER)


async def test_keys_belong_to_their_owner(store: Store) -> None:
    await store.idempotency.finish(await begun(store), ANSWER)
    assert isinstance(await store.idempotency.begin("bob", "k", "b", lease_s=LEASE_S), Fresh)
    assert isinstance(await store.idempotency.begin("adak", "", "b", lease_s=LEASE_S), Fresh)


async def test_another_body_is_told_from_the_first(store: Store) -> None:
    ticket = await begun(store)
    assert await store.idempotency.begin("ada", "k", "other", lease_s=LEASE_S) == OtherBody()
    await store.idempotency.finish(ticket, ANSWER)
    assert await store.idempotency.begin("ada", "k", "other", lease_s=LEASE_S) == OtherBody()


async def test_of_many_at_once_one_is_fresh(store: Store, other: Store) -> None:
    begins = await asyncio.gather(
        *(each.idempotency.begin("ada", "k", "b", lease_s=LEASE_S) for each in [store, other] * 10)
    )
    assert sorted(type(begin).__name__ for begin in begins) == ["Fresh"] + ["InProgress"] * 19


async def test_a_dead_request_is_taken_over_with_its_operation_id(
    store: Store, other: Store, clock: ManualClock
) -> None:
    dead = await begun(store)
    clock.advance(LEASE_S / 2)
    assert await other.idempotency.begin("ada", "k", "b", lease_s=LEASE_S) == InProgress(retry_after_s=LEASE_S / 2)
    clock.advance(LEASE_S / 2)
    assert await other.idempotency.begin("ada", "k", "other", lease_s=LEASE_S) == OtherBody()
    ticket = await begun(other)
    assert ticket.operation_id == dead.operation_id
    with pytest.raises(LeaseLostError, match="passed on"):
        await store.idempotency.finish(dead, ANSWER)
    with pytest.raises(LeaseLostError):
        await store.idempotency.renew(dead, lease_s=LEASE_S)
    await store.idempotency.abandon(dead)
    await other.idempotency.finish(ticket, ANSWER)
    assert await store.idempotency.begin("ada", "k", "b", lease_s=LEASE_S) == Done(answer=ANSWER)


async def test_a_job_that_a_dead_request_made_is_not_made_twice(store: Store, clock: ManualClock) -> None:
    dead = await begun(store)
    first = await store.jobs.create(owner="ada", request=b"{}", job_id=dead.operation_id)
    clock.advance(LEASE_S)
    ticket = await begun(store)
    assert await store.jobs.create(owner="ada", request=b"{}", job_id=ticket.operation_id) == first


async def test_a_renewed_request_keeps_its_key(store: Store, clock: ManualClock) -> None:
    ticket = await begun(store)
    clock.advance(LEASE_S - 1)
    await store.idempotency.renew(ticket, lease_s=LEASE_S)
    clock.advance(LEASE_S - 1)
    assert isinstance(await store.idempotency.begin("ada", "k", "b", lease_s=LEASE_S), InProgress)


async def test_an_abandoned_request_may_be_sent_again(store: Store) -> None:
    ticket = await begun(store)
    await store.idempotency.abandon(ticket)
    again = await begun(store, body="another body")
    assert again.operation_id != ticket.operation_id
    await store.idempotency.abandon(ticket)
    assert isinstance(await store.idempotency.begin("ada", "k", "another body", lease_s=LEASE_S), InProgress)


async def test_an_answer_is_final(store: Store) -> None:
    ticket = await begun(store)
    await store.idempotency.finish(ticket, ANSWER)
    await store.idempotency.finish(ticket, Answer(status=500))
    await store.idempotency.abandon(ticket)
    assert await store.idempotency.begin("ada", "k", "b", lease_s=LEASE_S) == Done(answer=ANSWER)


async def test_an_answer_is_kept_for_a_day(store: Store, clock: ManualClock) -> None:
    ticket = await begun(store)
    clock.advance(LEASE_S / 2)
    await store.idempotency.finish(ticket, ANSWER)
    clock.advance(RETENTION_S - 1)
    assert await store.idempotency.purge() == 0
    assert isinstance(await store.idempotency.begin("ada", "k", "b", lease_s=LEASE_S), Done)
    clock.advance(1)
    assert (await begun(store, body="new")).operation_id != ticket.operation_id
    assert await store.idempotency.purge() == 0


async def test_what_has_expired_is_purged(store: Store, clock: ManualClock) -> None:
    for number in range(70):
        await begun(store, key=f"k{number}")
    clock.advance(RETENTION_S)
    kept = await begun(store, key="kept")
    clock.advance(LEASE_S)
    assert await store.idempotency.purge() == 70
    assert (await begun(store, key="kept")).operation_id == kept.operation_id
    assert await store.idempotency._records.count("idempotency") == 1


async def test_answers_survive_a_restart(place: Place) -> None:
    first = await place.open()
    await first.idempotency.finish(await begun(first), ANSWER)
    await first.close()
    second = await place.open()
    assert await second.idempotency.begin("ada", "k", "b", lease_s=LEASE_S) == Done(answer=ANSWER)
    await second.close()
