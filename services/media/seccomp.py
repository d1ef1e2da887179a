"""The system calls a decoder process may still make, as a seccomp filter (Linux, x86_64 and aarch64).

An allowlist: what is not named here, and what kernels will yet invent, fails with EPERM. Among what is missing:
opening, creating or renaming files, sockets, starting programs or processes, signals to others, ptrace, io_uring.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # audit architecture, column below
_SECCOMP = (317, 277)
_ALLOWED = {  # numbers of linux/arch/x86/entry/syscalls/syscall_64.tbl and of the generic table
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "lseek": (8, 62),
    "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216), "madvise": (28, 233),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293), "membarrier": (324, 283),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "getpid": (39, 172), "gettid": (186, 178),
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "gettimeofday": (96, 169), "getrandom": (318, 278), "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
_MMAP, _MPROTECT, _CLONE, _CLONE3 = (9, 222), (10, 226), (56, 220), (435, 435)
_PROT_EXEC, _CLONE_THREAD = 0x4, 0x10000

_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_SET, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF_LD+W+ABS, BPF_JMP+JEQ, +JSET, BPF_RET
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data; low halves, little endian
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_SET_MODE_FILTER, _ALL_THREADS, _NO_NEW_PRIVILEGES = 1, 1, 38


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def install() -> None:
    """Filters this process's system calls from here on, in all its threads.

    Raises:
        OSError: the system or the kernel has no such filter.
    """
    machine = platform.machine()
    if not sys.platform.startswith("linux") or machine not in _ARCHITECTURES or sys.maxsize < 2**32:
        raise OSError(errno.ENOSYS, "no system call filter for this machine")
    architecture, column = _ARCHITECTURES[machine]
    instructions = _instructions(architecture, column)
    program = _Program(len(instructions) // 8, instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "privileges cannot be given up")
    # a thread that cannot be filtered is told by its positive id
    call = [ctypes.c_long(number) for number in (_SECCOMP[column], _SET_MODE_FILTER, _ALL_THREADS)]
    if libc.syscall(*call, ctypes.byref(program)):
        raise OSError(ctypes.get_errno() or errno.EBUSY, "system calls cannot be filtered")


def _instructions(architecture: int, column: int) -> bytes:
    lines = [
        _line(_LOAD, _ARCHITECTURE_AT),
        _line(_JUMP_IF_EQUAL, architecture, 1, 0),
        _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER_AT),
    ]
    for numbers in _ALLOWED.values():
        lines += [_line(_JUMP_IF_EQUAL, numbers[column], 0, 1), _line(_RETURN, _ALLOW)]
    lines += _by_argument(_MMAP[column], 2, _PROT_EXEC, if_set=_FAIL | errno.EPERM, else_=_ALLOW)
    lines += _by_argument(_MPROTECT[column], 2, _PROT_EXEC, if_set=_FAIL | errno.EPERM, else_=_ALLOW)
    lines += _by_argument(_CLONE[column], 0, _CLONE_THREAD, if_set=_ALLOW, else_=_FAIL | errno.EPERM)
    # its flags lie in memory, out of a filter's sight; libc then falls back to clone
    lines += [_line(_JUMP_IF_EQUAL, _CLONE3[column], 0, 1), _line(_RETURN, _FAIL | errno.ENOSYS)]
    lines.append(_line(_RETURN, _FAIL | errno.EPERM))
    return b"".join(lines)


def _by_argument(number: int, argument: int, bit: int, *, if_set: int, else_: int) -> list[bytes]:
    return [
        _line(_JUMP_IF_EQUAL, number, 0, 4),
        _line(_LOAD, _ARGUMENTS_AT + 8 * argument),
        _line(_JUMP_IF_SET, bit, 0, 1),
        _line(_RETURN, if_set),
        _line(_RETURN, else_),
    ]


def _line(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, value)
