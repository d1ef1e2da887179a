"""How a process that passes on thousands of videos a second treats its memory."""

from __future__ import annotations

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEPT_BYTES = 256 * 2**20
_LARGEST_KEPT_BYTES = 32 * 2**20  # glibc takes no more
_YOUNG_OBJECTS = 20_000


def settle() -> None:
    """Call it once, when everything that stays is there.

    The garbage collector does not look through it again: libraries bring hundreds of thousands of objects, a request
    few. And freed memory is kept for the next batch: having the kernel clear new pages for each one takes longer than
    all else that is done with its frames.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
    mallopt = getattr(_c_library(), "mallopt", None)  # other C libraries have none, and keep memory as they do
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None
