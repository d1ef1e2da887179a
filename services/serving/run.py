"""Runs a service until a signal ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cluster.serving.memory import settle
from policies.errors import OnlineVPOError
from services.outcome import exit_code_of_error
from services.serve_config import ServeConfig
from services.serving.service import Service
from services.serving.starting import StartProgress

_ENDING = (signal.SIGINT, signal.SIGTERM)
_LIVE = ("models", "default_model")  # what a running service takes over from its configuration

_OPEN_FILES = 65536
_CLOSING_S, _IN_A_HURRY_S, _AFTER_FAILURE_S = 45.0, 5.0, 10.0

Ready = Callable[[dict[str, Any]], None]


def run(config: ServeConfig, reload: Callable[[], ServeConfig], ready: Ready) -> int:
    """Serves until SIGINT or SIGTERM; the number of the signal that ended it.

    Args:
        reload: the configuration as it is now, for SIGHUP.
        ready: told once what a client has to know.
    Raises:
        OnlineVPOError: it did not start.
    """
    _allow_many_connections()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_Running(config, reload, ready).until_told())


def _allow_many_connections() -> None:
    """A connection is an open file, of which a process may have 1024 unless it asks for more."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


class _Running:
    def __init__(self, config: ServeConfig, reload: Callable[[], ServeConfig], ready: Ready) -> None:
        self._config, self._reload, self._ready = config, reload, ready
        self._progress = StartProgress(sys.stderr)
        self._received: list[signal.Signals] = []
        self._told = asyncio.Event()
        self._service: Service | None = None
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[None]] = set()

    async def until_told(self) -> int:
        self._take_signals()
        serving = asyncio.create_task(self._serve(), name="serve")
        told = asyncio.create_task(self._told.wait(), name="signals")
        await asyncio.wait((serving, told), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if self._service is None and self._received:
            # Ray ends a process that talks to it while it is being left, and nothing has been accepted yet
            self._leave(128 + self._received[0], "told to stop before it was up")
        await serving
        return self._received[0]

    async def _serve(self) -> None:
        async with Service.open(self._config, self._progress, on_ray=self._take_signals) as service:
            self._service = service
            settle()
            self._ready(await self._facts(service))
            try:
                await service.until_ended(self._told)
            except OnlineVPOError as error:
                self._end_within(_AFTER_FAILURE_S, exit_code_of_error(error), str(error))
                raise
            self._progress.say("stopping: finishing what runs")
            for task in self._reloads:
                task.cancel()
        self._progress.say("stopped")

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _ENDING:
            loop.add_signal_handler(number, self._on_end, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)

    async def _facts(self, service: Service) -> dict[str, Any]:
        facts = {
            "url": service.url,
            "pid": os.getpid(),
            "models": list(service.models.pool.names),
            "version": _version(),
        }
        key = await service.first_key()
        return facts if key is None else facts | {"key": key}

    def _on_end(self, number: signal.Signals) -> None:
        signal.alarm(0)  # where Ray's handler came first, it has asked to be aborted in three seconds
        self._received.append(number)
        self._told.set()
        code = 128 + self._received[0]
        if len(self._received) == 1:
            self._end_within(2 * self._config.drain_s + _CLOSING_S, code, "stopping took too long")
        else:
            self._end_within(_IN_A_HURRY_S, code, "told to stop more than once")
            if self._service is not None:
                self._service.hurry()

    def _end_within(self, seconds: float, code: int, why: str) -> None:
        """Whatever hangs, the process is gone then, and its reaper ends Ray."""

        timer = threading.Timer(seconds, self._leave, (code, why))
        timer.daemon = True
        timer.start()

    def _leave(self, code: int, why: str) -> None:
        self._progress.say(f"leaving at once: {why}")
        os._exit(code)

    def _on_reload(self) -> None:
        task = asyncio.create_task(self._apply(), name="reload")
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _apply(self) -> None:
        """A configuration that is wrong, or a model that does not come up, changes nothing else."""
        async with self._reloading:
            if self._service is None:
                self._progress.say("SIGHUP: not up yet; the configuration was not read again")
                return
            try:
                config = await asyncio.to_thread(self._reload)
                done = await self._service.models.apply(config)
            except OnlineVPOError as error:
                self._progress.say(f"SIGHUP: {error}")
                return
            other = _differing(self._config, config)
            self._progress.say(f"SIGHUP: {'; '.join(done) or 'no model changed'}")
            if other:
                self._progress.say(f"SIGHUP: {', '.join(other)} changed, too; that takes a restart")


def _differing(one: ServeConfig, other: ServeConfig) -> list[str]:
    return [
        name for name in ServeConfig.model_fields if name not in _LIVE and getattr(one, name) != getattr(other, name)
    ]


def _version() -> str:
    try:
        return version("onlinevpo")
    except PackageNotFoundError:
        return "unknown"
