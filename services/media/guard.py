"""The media guard: a pool of decoder processes that are ready before the first video comes."""

from __future__ import annotations

import asyncio
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from policies.errors import StallError
from services.media.cache import Media, MediaCache
from services.media.decoder import Decoder
from services.media.limits import MediaLimits
from services.media.refusal import DEPENDS_ON_THE_MOMENT, Code, GuardBusy, GuardUnavailable, MediaRefused
from services.media.sniff import Container, container_of

_QUICK = 128 * 1024  # bytes that are hashed sooner than a thread is asked


class _Slot:
    """A place for one decoder process, which comes and goes."""

    def __init__(self, limits: MediaLimits, *, unsafe: bool) -> None:
        self._limits, self._unsafe = limits, unsafe
        self.decoder: Decoder | None = None

    def fill(self) -> Decoder:
        """The process, a new one if there is none that can go on."""
        if self.decoder and not (self.decoder.is_alive and self.decoder.clips < self._limits.clips_per_child):
            self.empty()
        if self.decoder is None:
            self.decoder = Decoder(self._limits, unsafe=self._unsafe)
        return self.decoder

    def empty(self) -> None:
        """Ends the process."""
        if self.decoder is not None:
            self.decoder.close()
            self.decoder = None


class MediaGuard:
    """Decodes videos from strangers.

    `async with MediaGuard(slots=2) as guard: media = await guard.decode(data, deadline_s=10)`
    """

    def __init__(
        self,
        limits: MediaLimits | None = None,
        *,
        slots: int = 2,
        max_waiting: int = 64,
        cache_bytes: int = 256 * 2**20,
        unsafe_decode: bool = False,
    ) -> None:
        """Prepares a guard; nothing starts before it is entered.

        Args:
            slots: decoder processes, each of which decodes one video at a time. One per core that may be spent.
            max_waiting: videos that may wait for a process; one more is turned away at once.
            cache_bytes: of frames that are kept for the case that the same video comes again; 0 for none.
            unsafe_decode: decode even where a decoder process cannot be closed off. Limits still hold.
        """
        self.limits = limits or MediaLimits()
        self._slots = [_Slot(self.limits, unsafe=unsafe_decode) for _ in range(slots)]
        self._idle: asyncio.Queue[_Slot] = asyncio.Queue()
        self._max_waiting, self._waiting = max_waiting, 0
        self._cache = MediaCache(cache_bytes)
        # Threads of its own, as many as slots: a decoder process ends with the thread that started it.
        self._threads = ThreadPoolExecutor(max_workers=slots, thread_name_prefix="media")
        self._refills: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Starts all decoder processes.

        Raises:
            GuardUnavailable: they cannot protect themselves here, or do not start.
        """
        loop = asyncio.get_running_loop()
        starts = [loop.run_in_executor(self._threads, slot.fill) for slot in self._slots]
        outcomes = await asyncio.gather(*starts, return_exceptions=True)
        failed = next((outcome for outcome in outcomes if isinstance(outcome, BaseException)), None)
        if failed is not None:
            await self._close()
            raise failed
        for slot in self._slots:
            self._idle.put_nowait(slot)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends all decoder processes, those that are decoding too."""
        await self._close()

    @property
    def layers(self) -> tuple[str, ...]:
        """What closes the decoder processes off: "landlock", "seccomp"; nothing if decoding is unsafe."""
        return next((slot.decoder.layers for slot in self._slots if slot.decoder), ())

    @property
    def pids(self) -> tuple[int, ...]:
        """The decoder processes that run."""
        return tuple(slot.decoder.pid for slot in self._slots if slot.decoder)

    def known(self, sha256: str) -> Media | None:
        """What the video with this hash gave, if that is remembered. Raises MediaRefused, if it was that."""
        outcome = self._cache.get(sha256)
        if isinstance(outcome, Code):
            raise MediaRefused(outcome)
        return outcome

    async def decode(self, data: bytes, *, deadline_s: float) -> Media:
        """The frames of a video, and what it is.

        Args:
            data: the whole file; nothing else is read because of it.
            deadline_s: how long the caller waits, for a free process and for the decoding.
        Raises:
            MediaRefused: the video is not one that this guard takes; its code says why.
            GuardBusy: too many videos wait already.
            StallError: the deadline passed; the message says in which stage.
            GuardUnavailable: a decoder process had to be replaced and no new one starts.
        """
        deadline = time.monotonic() + deadline_s
        if len(data) > self.limits.max_bytes:
            raise MediaRefused(Code.TOO_LARGE)
        container = container_of(data)
        hashing = hashlib.sha256(data) if len(data) < _QUICK else await asyncio.to_thread(hashlib.sha256, data)
        sha256 = hashing.hexdigest()
        known = self._cache.get(sha256)
        if known is None:
            known = await self._outcome(data, sha256, container, deadline)
        if isinstance(known, Code):
            raise MediaRefused(known)
        return known

    async def _outcome(self, data: bytes, sha256: str, container: Container, deadline: float) -> Media | Code:
        slot = await self._free_slot(deadline)
        try:
            outcome = await self._in_thread(slot, data, sha256, container, deadline)
        finally:
            self._release(slot)
        if outcome not in DEPENDS_ON_THE_MOMENT:
            self._cache.put(sha256, outcome)
        return outcome

    async def _free_slot(self, deadline: float) -> _Slot:
        if self._idle.empty() and self._waiting >= self._max_waiting:
            raise GuardBusy(f"{self._waiting} videos wait for a decoder already; try again later")
        self._waiting += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await self._idle.get()
        except TimeoutError as error:
            raise StallError("media queue: the deadline passed before a decoder was free") from error
        finally:
            self._waiting -= 1

    async def _in_thread(
        self, slot: _Slot, data: bytes, sha256: str, container: Container, deadline: float
    ) -> Media | Code:
        def work() -> Media | Code:
            try:
                facts, frames = slot.fill().decode(data, container, deadline=deadline)
            except MediaRefused as refused:
                return refused.code
            return Media(frames_FHWC=frames, facts=facts, sha256=sha256)

        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if slot.decoder is not None:
                slot.decoder.kill()
            # the thread notices at once; until then the slot is not another's
            await asyncio.wait([running])
            raise

    def _release(self, slot: _Slot) -> None:
        """Gives a slot back; one whose process is at its end first gets another, so that nobody waits for that."""

        async def refill() -> None:
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, slot.fill)
            except GuardUnavailable:
                pass  # the next caller tries again, and is told
            finally:
                self._idle.put_nowait(slot)

        task = asyncio.create_task(refill())
        self._refills.add(task)
        task.add_done_callback(self._refills.discard)

    async def _close(self) -> None:
        for slot in self._slots:
            if slot.decoder is not None:
                slot.decoder.kill()
        if self._refills:
            await asyncio.wait(self._refills)
        await asyncio.to_thread(self._threads.shutdown)
        for slot in self._slots:
            slot.empty()
