"""How a decoder process gives up what it does not need, before it sees the first byte of a video."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path

from services.media import seccomp

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # Landlock's system calls, the same on every architecture
_ASK_VERSION = 1
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # how many bits of file system rights a version of Landlock knows
_TCP_RIGHTS, _SCOPES = 0b11, 0b11  # bind and connect (version 4); abstract sockets and signals (version 6)
_DIE_WITH_PARENT, _NO_NEW_PRIVILEGES = 1, 38
_OPEN_FILES = 16
_LONG = ctypes.c_long  # what a system call takes where ctypes would pass half of it


def die_with_parent(parent: int) -> None:
    """Ends this process when the thread that started it ends; at once if that has already happened."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def limit(memory: int) -> None:
    """Bounds what this process can take: no files, no core dumps, and `memory` bytes beyond what it has now."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    with suppress(OSError, ValueError):  # macOS has no such limit
        total = _address_space() + memory
        resource.setrlimit(resource.RLIMIT_AS, (total, total))


def enter() -> list[str]:
    """Closes file system, network and other processes to this one for good; what did it.

    Raises:
        OSError: system calls cannot be filtered here.
    """
    layers = []
    with suppress(OSError):  # a second wall where there is one; the filter alone closes everything
        _forbid_files_and_network()
        layers.append("landlock")
    seccomp.install()
    return [*layers, "seccomp"]


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _forbid_files_and_network() -> None:
    """Landlock: all rights are handled, and no rule gives one back."""
    if not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, "no Landlock here")
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_LONG(_CREATE_RULESET), None, _LONG(0), _LONG(_ASK_VERSION))
    if version < 1:
        raise OSError(ctypes.get_errno(), "no Landlock here")
    bits = max(count for since, count in _FILE_RIGHTS.items() if since <= version)
    handled = [(1 << bits) - 1]
    if version >= 4:
        handled.append(_TCP_RIGHTS)
    if version >= 6:
        handled.append(_SCOPES)
    rules = struct.pack(f"={len(handled)}Q", *handled)
    ruleset = libc.syscall(_LONG(_CREATE_RULESET), rules, _LONG(len(rules)), _LONG(0))
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "Landlock takes no rules")
    try:
        if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.syscall(_LONG(_RESTRICT_SELF), _LONG(ruleset), _LONG(0)):
            raise OSError(ctypes.get_errno(), "Landlock cannot be entered")
    finally:
        os.close(ruleset)
