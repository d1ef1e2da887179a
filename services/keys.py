"""`onlinevpo keys`: API keys of the scoring service, also while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from policies.errors import InputError
from services.options import data_options, json_option
from services.outcome import Outcome

if TYPE_CHECKING:  # they bring pydantic, which would double the time of --help
    from cluster.store.keys import ApiKey
    from cluster.store.store import Store

T = TypeVar("T")
_NAME_CHARACTERS = 100


@click.group()
def keys() -> None:
    """API keys of the scoring service."""


@keys.command()
@click.option("--name", default="", help="What to call it in lists.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["score", "run", "admin"]),
    help="What it may do; may be given several times.  [default: score]",
)
@data_options
@json_option
def create(name: str, scopes: tuple[str, ...], data_dir: str | None, store: str | None, as_json: bool) -> Outcome:
    """Make a key and show it. It is shown this once: the service keeps only its hash."""
    if len(name) > _NAME_CHARACTERS or not name.isprintable():
        raise InputError(f"--name: at most {_NAME_CHARACTERS} characters, none of them a control character")

    async def work(opened: Store) -> Outcome:
        from cluster.store.keys import new_key

        new = new_key()
        key = await opened.keys.add(new, name=name, scopes=scopes or ("score",))  # type: ignore[arg-type]
        text = f"{new.token}\nIt is shown only now. Id {key.id}, scopes {_scopes(key)}."
        return Outcome(json=_facts(key) | {"key": new.token}, text=text)

    return _with_store(work, data_dir, store)


@keys.command("list")
@data_options
@json_option
def list_keys(data_dir: str | None, store: str | None, as_json: bool) -> Outcome:
    """List all keys, revoked ones too."""

    async def work(opened: Store) -> Outcome:
        found = await opened.keys.all()
        rows = [
            f"{key.id}  {_day(key.created_at)}  {_scopes(key):<15}  "
            f"{'revoked ' + _day(key.revoked_at) if key.revoked_at is not None else 'valid':<18}  {key.name}".rstrip()
            for key in found
        ]
        where = f" in {data_dir}" if data_dir and not store else ""
        text = "\n".join(rows) or f"There is no key{where}; `onlinevpo keys create` makes one."
        return Outcome(json={"keys": [_facts(key) for key in found]}, text=text)

    return _with_store(work, data_dir, store)


@keys.command()
@click.argument("key_id", metavar="ID")
@data_options
@json_option
def revoke(key_id: str, data_dir: str | None, store: str | None, as_json: bool) -> Outcome:
    """Revoke the key ID. A running service refuses it from then on."""

    async def work(opened: Store) -> Outcome:
        key = await opened.keys.revoke(key_id)
        if key is None:
            raise InputError("there is no key with this id; `onlinevpo keys list` shows them")
        return Outcome(json=_facts(key), text=f"Key {key.id} is revoked.")

    return _with_store(work, data_dir, store)


def _with_store(work: Callable[[Store], Awaitable[T]], data_dir: str | None, store: str | None) -> T:
    from cluster.store.open import open_store
    from services.data_folder import store_address
    from services.serving_config import load_serve_config

    async def run() -> T:
        opened = await open_store(address)
        try:
            return await work(opened)
        finally:
            await opened.close()

    config = load_serve_config(None, options={"data_dir": data_dir, "store": store})
    address = store_address(config)
    return asyncio.run(run())


def _facts(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }


def _scopes(key: ApiKey) -> str:
    return ",".join(sorted(key.scopes))


def _day(seconds: float | None) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(seconds or 0, tz=datetime.UTC).strftime("%Y-%m-%d")
