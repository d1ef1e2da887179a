"""A connection is closed so that whoever is still sending gets to read why.

A socket that is closed with bytes unread resets the connection, and a client that meets the reset while it sends may
never see the answer that refused it. So our side ends first, what still comes is thrown away, and the rest of the
connection goes when the client has read the answer, or after LINGER_S.
"""

from __future__ import annotations

import asyncio
from asyncio.events import TimerHandle
from collections.abc import Callable
from typing import Any

LINGER_S = 5.0
FLUSH_S = 30.0
"""Until the last of an answer is read."""


class LingeringTransport:
    """What a protocol knows as its transport. Once it is closing, the protocol throws away what it is given.

    Args:
        is_midway: whether the client may still be sending a request.
    """

    def __init__(self, transport: asyncio.Transport, is_midway: Callable[[], bool]) -> None:
        self._bare, self._is_midway = transport, is_midway
        self._timer: TimerHandle | None = None
        self._is_paused = False
        self.write = transport.write  # called for every answer, so without a step between
        self.get_extra_info = transport.get_extra_info

    def is_closing(self) -> bool:
        return self._timer is not None or self._bare.is_closing()

    def close(self) -> None:
        """Ends our side once all is written, and the rest at once where nothing more can come."""
        if self.is_closing():
            return
        is_midway = self._is_midway() and self._bare.can_write_eof()
        self._timer = asyncio.get_running_loop().call_later(LINGER_S if is_midway else FLUSH_S, self._bare.abort)
        if is_midway:
            self.resume_reading()
            self._bare.write_eof()
        else:
            self._bare.close()

    def abort(self) -> None:
        """Ends the connection; what is not written is lost."""
        self._bare.abort()

    def lost(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()

    def pause_reading(self) -> None:
        self._is_paused = True
        self._bare.pause_reading()

    def resume_reading(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._bare.resume_reading()

    def set_protocol(self, protocol: Any) -> None:
        self._bare.set_protocol(protocol)
