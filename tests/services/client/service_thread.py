"""The whole HTTP API on a port of this machine, in a thread: real store, decoders and reward model, no Ray."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.store.keys import SCOPES, new_key
from cluster.store.open import open_store
from services.gateway.app import create_app
from services.gateway.state import Gateway
from services.media.files import ContentFolder
from services.media.guard import MediaGuard
from services.serve_config import ServeConfig
from services.serving.http_server import HttpServer, bind, url_of
from tests.services.in_process_model import shapes_models


@dataclass(kw_only=True)
class ServiceThread:
    url: str = ""
    key: str = ""


@contextmanager
def service_thread(folder: Path) -> Iterator[ServiceThread]:
    """A service for as long as the block lasts."""
    service, is_up, loop = ServiceThread(), threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        config = ServeConfig(port=0, drain_s=1)
        store = await open_store(folder / "store.db")
        async with MediaGuard(slots=1) as guard:
            gateway = Gateway(
                config=config, store=store, files=ContentFolder(folder / "files"), guard=guard, models=shapes_models()
            )
            new = new_key()
            await store.keys.add(new, name="test", scopes=SCOPES)
            server, bound = HttpServer(create_app(gateway), drain_s=1), bind(config)
            await server.start(bound)
            service.url, service.key = url_of(config, bound), new.token
            is_up.set()
            await stop.wait()
            await server.stop()
        await store.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="service")
    thread.start()
    try:
        assert is_up.wait(60), "the service did not start"
        yield service
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()
