import re

import pytest

from cluster.store.keys import ApiKey, new_key, parse, verify
from cluster.store.store import Store
from policies.errors import InputError
from tests.cluster.store.conftest import ManualClock, Place


def test_a_token_has_an_id_and_256_bits_of_secret() -> None:
    new = new_key()
    parts = parse(new.token)
    assert parts is not None and parts[0] == new.id
    assert re.fullmatch("[0-9a-f]{64}", parts[1])
    assert verify(parts[1], new.digest)
    assert parts[1] not in new.digest


WHOLE = f"ovpo_{'0' * 16}_{'f' * 64}"


@pytest.mark.parametrize("token", ["", "ovpo_", "ovpo_abc_def", "x" * 86, WHOLE + "\n", WHOLE[:-1]])
def test_what_has_not_the_form_of_a_key_is_none(token: str) -> None:
    assert parse(WHOLE) is not None
    assert parse(token) is None


def test_another_secret_or_no_key_does_not_verify() -> None:
    assert not verify(parse(new_key().token)[1], new_key().digest)  # type: ignore[index]
    assert not verify("", None)


async def test_a_key_opens_until_it_is_revoked(store: Store, other: Store, clock: ManualClock) -> None:
    new = new_key()
    key = await store.keys.add(new, name="ci", scopes=["score", "run"])
    assert key == ApiKey(id=new.id, name="ci", scopes=frozenset({"score", "run"}), created_at=clock.now)
    assert await other.keys.authenticate(new.token) == key
    assert await other.keys.authenticate(new.token[:-1] + ("0" if new.token[-1] != "0" else "1")) is None
    assert await other.keys.authenticate(new_key().token) is None
    clock.advance(5)
    revoked = await other.keys.revoke(new.id)
    assert revoked is not None and revoked.revoked_at == clock.now
    assert await store.keys.authenticate(new.token) is None
    clock.advance(5)
    assert await store.keys.revoke(new.id) == revoked == await store.keys.find(new.id)


async def test_keys_are_listed_oldest_first_without_their_hashes(store: Store, clock: ManualClock) -> None:
    news = [new_key() for _ in range(5)]
    for number, new in enumerate(news):
        await store.keys.add(new, name=f"key {number}", scopes=["score"])
        clock.advance(1)
    listed = await store.keys.all()
    assert [key.name for key in listed] == [f"key {number}" for number in range(5)]
    assert not any(new.digest in repr(listed) for new in news)


async def test_adding_a_key_again_changes_nothing(store: Store, clock: ManualClock) -> None:
    new = new_key()
    key = await store.keys.add(new, name="one", scopes=["score"])
    clock.advance(1)
    assert await store.keys.add(new, name="two", scopes=["admin"]) == key
    assert await store.keys.all() == [key]


async def test_a_key_that_is_not_there_is_none(store: Store) -> None:
    assert await store.keys.find("0" * 16) is None
    assert await store.keys.revoke("0" * 16) is None
    assert await store.keys.all() == []


@pytest.mark.parametrize("scopes", [[], ["root"]])
async def test_scopes_are_checked(store: Store, scopes: list[str]) -> None:
    with pytest.raises(InputError, match="scopes are some of score, run, admin"):
        await store.keys.add(new_key(), name="x", scopes=scopes)  # type: ignore[arg-type]


async def test_keys_survive_a_restart(place: Place) -> None:
    new = new_key()
    first = await place.open()
    key = await first.keys.add(new, name="ci", scopes=["admin"])
    await first.close()
    second = await place.open()
    assert await second.keys.authenticate(new.token) == key
    await second.close()
