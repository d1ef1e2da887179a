"""One decoder process as its guard sees it: start, one video at a time, end. Every call blocks, and none for ever."""

from __future__ import annotations

import json
import math
import mmap
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from policies.errors import StallError
from services.media import wire
from services.media.limits import MediaLimits
from services.media.refusal import Code, GuardUnavailable, MediaRefused
from services.media.sniff import Container
from services.media.wire import Caps, Facts, Settings

_CODES = frozenset(Code)
_KEPT = ("LD_LIBRARY_PATH",)  # what else the environment holds, such as keys, is not for a decoder
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Decoder:
    """A process that decodes, and the memory it shares with this one."""

    def __init__(self, limits: MediaLimits, *, unsafe: bool) -> None:
        """Starts the process and waits until it has given up everything it does not need.

        Raises:
            GuardUnavailable: it cannot protect itself here and `unsafe` does not allow that, or it does not start.
        """
        self._limits = limits
        self.clips = 0
        self._is_killed = False
        self._video = _shared_memory(limits.max_bytes)
        self._frames = _shared_memory(limits.decoded_bytes)
        self._socket, theirs = socket.socketpair()
        settings = Settings(
            wire=theirs.fileno(),
            parent=os.getpid(),
            video=self._video,
            video_bytes=limits.max_bytes,
            frames=self._frames,
            frames_bytes=limits.decoded_bytes,
            memory_bytes=limits.decode_memory_bytes,
            unsafe=unsafe,
        )
        self._process = _start(settings)
        theirs.close()
        try:
            self.layers = self._ready()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process can take another video."""
        return not self._is_killed and self._process.poll() is None

    def decode(self, data: bytes, container: Container, *, deadline: float) -> tuple[Facts, np.ndarray]:
        """What a video is, and its frames, uint8 (F, H, W, 3). A process that is in trouble is ended: see `is_alive`.

        Args:
            deadline: of the caller, by `time.monotonic`.
        Raises:
            MediaRefused: with the reason.
            StallError: the caller's deadline passed first.
        """
        self.clips += 1
        _write(self._video, data)
        own_deadline = time.monotonic() + self._limits.decode_s
        self._limit_cpu()
        request = {"size": len(data), "container": container, "caps": asdict(self._caps())}
        try:
            wire.send(self._socket.fileno(), request)
            return self._taken(wire.receive(self._socket.fileno(), min(deadline, own_deadline)))
        except TimeoutError as error:
            self.kill()
            if deadline < own_deadline:
                raise StallError("media decode: the deadline passed while a video was decoded") from error
            raise MediaRefused(Code.TOO_SLOW) from error
        except OSError as error:
            self.kill()
            raise MediaRefused(Code.DECODER_FAILED) from error
        finally:
            _forget(self._video, self._limits.max_bytes)
            _forget(self._frames, self._limits.decoded_bytes)

    def kill(self) -> None:
        """Ends the process; may be called from any thread."""
        self._is_killed = True  # it may take a moment to be gone
        self._process.kill()

    def close(self) -> None:
        """Ends the process and gives the shared memory back."""
        self._process.kill()
        self._process.wait()
        self._socket.close()
        os.close(self._video)
        os.close(self._frames)

    def _ready(self) -> tuple[str, ...]:
        try:
            message = wire.receive(self._socket.fileno(), time.monotonic() + self._limits.start_s)
        except TimeoutError as error:
            raise GuardUnavailable(f"media decoder start: not ready after {self._limits.start_s:g} s") from error
        except OSError as error:
            raise GuardUnavailable("a media decoder process does not start") from error
        if message.get("ready") is not True:
            raise GuardUnavailable(
                "videos from others cannot be decoded safely here: a decoder process needs Linux with seccomp filters"
                " on x86_64 or aarch64. Use such a machine, or allow unprotected decoding if you trust every caller"
            )
        return tuple(str(layer) for layer in message.get("layers", ()))

    def _caps(self) -> Caps:
        limits = self._limits
        return Caps(
            max_frame_pixels=limits.max_frame_pixels,
            max_frames=limits.max_frames,
            max_seconds=limits.max_seconds,
            max_fps=limits.max_fps,
            max_pixels=limits.max_pixels,
            threads=limits.decode_threads,
        )

    def _limit_cpu(self) -> None:
        """CPU seconds for this video on top of what the process has used; it may not change its limits itself."""
        if not sys.platform.startswith("linux"):
            return
        with suppress(OSError, psutil.Error):  # one that has ended is told by the exchange that follows
            times = psutil.Process(self.pid).cpu_times()
            seconds = math.ceil(times.user + times.system + self._limits.decode_s * self._limits.decode_threads) + 1
            hard = resource.prlimit(self.pid, resource.RLIMIT_CPU)[1]
            resource.prlimit(self.pid, resource.RLIMIT_CPU, (seconds, hard))

    def _taken(self, answer: Mapping[str, Any]) -> tuple[Facts, np.ndarray]:
        """The answer, believed no more than the video: a decoder that was taken over may say anything."""
        if "refused" in answer:
            if answer["refused"] not in _CODES:
                raise wire.BrokenWire("an unknown refusal")
            raise MediaRefused(Code(answer["refused"]))
        facts = _checked_facts(answer.get("facts"), self._limits)
        frames = np.empty((facts.frames, facts.height, facts.width, 3), dtype=np.uint8)
        _read(self._frames, frames)
        frames.flags.writeable = False
        return facts, frames


def _checked_facts(given: object, limits: MediaLimits) -> Facts:
    types = {"container": str, "codec": str, "frames": int, "height": int, "width": int, "fps": float}
    if not isinstance(given, dict) or {name: type(value) for name, value in given.items()} != types:
        raise wire.BrokenWire("facts of another shape")
    facts = Facts(**given)
    sides = (facts.frames, facts.height, facts.width)
    is_possible = (
        facts.container in ("mp4", "webm")
        and facts.codec in ("h264", "av1", "vp9")
        and all(0 < side <= limits.max_pixels for side in sides)
        and facts.frames <= limits.max_frames
        and math.prod(sides) <= limits.max_pixels
        and 0 < facts.fps <= limits.max_fps
    )
    if not is_possible:
        raise wire.BrokenWire("facts beyond the limits")
    return facts


def _start(settings: Settings) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-s", "-P", "-m", "services.media.decoder_child", json.dumps(asdict(settings))],
        env={
            "PYTHONPATH": str(root),
            **_ONE_THREAD,
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(settings.wire, settings.video, settings.frames),
        start_new_session=True,
    )


def _shared_memory(size: int) -> int:
    """A descriptor of memory that takes no room before it is written."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("onlinevpo-media", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def _write(descriptor: int, data: bytes) -> None:
    view, at = memoryview(data), 0
    while at < len(view):
        at += os.pwrite(descriptor, view[at:], at)


def _read(descriptor: int, into: np.ndarray) -> None:
    view, at = into.reshape(-1).data, 0
    while at < len(view):
        got = os.preadv(descriptor, [view[at:]], at)
        if not got:
            raise wire.BrokenWire("the frames end early")
        at += got


def _forget(descriptor: int, size: int) -> None:
    """Gives the pages back, and with them whatever the last video left for the next decoder run to see."""
    if hasattr(mmap, "MADV_REMOVE"):
        with mmap.mmap(descriptor, size) as pages, suppress(OSError):
            pages.madvise(mmap.MADV_REMOVE)
