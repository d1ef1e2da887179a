"""Tells a store what a run does. Neither a store that is away nor one that is slow stops the run or slows it down."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeAlias

from cluster.config import RunConfig
from cluster.log_sender import SAID, Groups, Said, Sender
from cluster.log_spool import Spool, SpoolLimits
from cluster.observer import RunEnd
from cluster.run_directory import RunDirectory, config_digest
from cluster.run_facts import events_of, line_of, samples_of, validation_of
from cluster.store.run_items import Happened, Line, Stage
from cluster.store.run_record import EndState
from cluster.store.runs import Origin

LOGGER = logging.getLogger(__name__)

P = ParamSpec("P")

SPOOL = "unsent.sqlite"
INTERVAL_S = 0.25  # what waits in between shares a commit
CLOSE_LIMIT_S = 5.0
LIMITS = SpoolLimits()


class Alarm(NamedTuple):
    """`code` tells it from others."""

    code: str
    text: str


Watch: TypeAlias = Callable[[Mapping[str, Any]], Iterable[Alarm]]
"""Is shown each line of metrics.jsonl and says what begins to look wrong. The run waits for it."""


def _harmless(method: Callable[Concatenate[RunLog, P], None]) -> Callable[Concatenate[RunLog, P], None]:
    """What fails here is said once and is not the run's trouble."""

    @functools.wraps(method)
    def guarded(self: RunLog, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.complain(error)

    return guarded


class RunLog:
    """An observer of one run. `close` it when the run is over, however it ended: `with RunLog(...) as log`.

    Args:
        address: the store's, as for open_store.
        owner: whose run it is.
        forked_from: the id of the run that it continues with another configuration.
        say: is given a sentence when the store goes away, comes back, or loses something.
        watch: what raises alarms.
    """

    def __init__(
        self,
        address: str | Path,
        *,
        owner: str = "local",
        forked_from: str | None = None,
        say: Callable[[str], None] = LOGGER.warning,
        watch: Watch = lambda line: (),
        limits: SpoolLimits = LIMITS,
        interval_s: float = INTERVAL_S,
        deadline_s: float = 5.0,
    ) -> None:
        self._address, self._owner, self._forked_from = str(address), owner, forked_from
        self._say, self._watch, self._limits = say, watch, limits
        self._interval_s, self._deadline_s = interval_s, deadline_s
        self._directory: RunDirectory | None = None
        self._spool: Spool | None = None
        self._sender: Sender | None = None
        self._update: int | None = None
        self._has_complained = False

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close("failed")

    @_harmless
    def on_start(self, run_dir: Path, config: RunConfig, first_update: int) -> None:
        directory = self._directory = RunDirectory(run_dir)
        origin = Origin(
            run_id=run_dir.name,
            owner=self._owner,
            run_dir=str(run_dir),
            config_digest=config_digest(config),
            forked_from=self._forked_from,
            updates=config.updates,
        )
        self._spool = Spool(run_dir / SPOOL, self._limits)
        self._sender = Sender(
            self._address, origin, directory, self._spool,
            first_update=first_update, say=self._say, interval_s=self._interval_s, deadline_s=self._deadline_s,
        )  # fmt: skip
        if first_update:
            self._push(Happened(what="resumed", text=f"at update {first_update}", update=first_update, at=time.time()))
        self._sender.start()

    @_harmless
    def on_stage(self, name: str) -> None:
        self._push(Stage(name=name))

    @_harmless
    def on_update(self, line: Mapping[str, Any]) -> None:
        told = line_of(line)
        self._update = told.update
        self._push_line(told)
        self._push(Groups(update=told.update, group_ids=tuple(line.get("group_ids") or ())))
        for event in events_of(line):
            self._push(Happened(what=event.what, text=event.text, update=event.update, at=time.time()))
        for alarm in self._watch(line):
            self._push(Happened(what="alarm", code=alarm.code, text=alarm.text, update=told.update, at=time.time()))

    @_harmless
    def on_validation(self, line: Mapping[str, Any]) -> None:
        self._push_line(validation_of(line))

    def on_commit(self, update: int) -> None:
        """Of no interest to the store: what is above a commit is void only once a run resumes."""

    @_harmless
    def on_event(self, text: str) -> None:
        self._push(Happened(what="note", text=text, update=self._update, at=time.time()))

    @_harmless
    def on_end(self, result: RunEnd) -> None:
        if self._directory is not None:
            for sample in samples_of(self._directory):
                self._push(sample)
        self.close("completed" if result.ended in ("completed", "early_stop") else "stopped")

    @_harmless
    def close(self, end: EndState = "stopped") -> None:
        """Sends the rest, for five seconds at most; what is left is sent when the run is resumed or indexed again."""
        if self._sender is not None:
            sender, self._sender = self._sender, None
            sender.close(end, limit_s=CLOSE_LIMIT_S)

    def complain(self, error: Exception) -> None:
        """Says the first thing that went wrong in the log itself."""
        if not self._has_complained:
            self._has_complained = True
            self._say(f"the run goes on, but is not written to the store as it should: {error!r}")

    def _push_line(self, line: Line) -> None:
        if self._spool is not None:
            self._spool.push(SAID.dump_json(line), points=len(line.points) or 1)

    def _push(self, said: Said) -> None:
        if self._spool is not None:
            self._spool.push(SAID.dump_json(said))
