"""A folder of this machine whose files may be asked for, and whose links lead nowhere else."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_NO_WAITING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe must not hold up the thread


class LocalRoot:
    """Opens files below a folder."""

    def __init__(self, folder: str) -> None:
        """Raises OSError: it is no folder that can be opened."""
        self._folder = Path(folder).resolve(strict=True)
        os.close(os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY))

    def open(self, path: str) -> BinaryIO:
        """A regular file below the folder; links may only lead to such.

        Raises:
            OSError: FileNotFoundError for all that is elsewhere or no regular file.
        """
        try:
            found = (self._folder / path).resolve(strict=True)
            descriptor = self._descend(found.relative_to(self._folder).parts)
        except (ValueError, RuntimeError) as error:  # outside; a ring of links
            raise FileNotFoundError from error
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
                raise FileNotFoundError from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError
        return os.fdopen(descriptor, "rb")

    def _descend(self, parts: tuple[str, ...]) -> int:
        """Opens one part after another without following links: whoever puts one in the way meanwhile gains nothing."""
        at = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for index, part in enumerate(parts):
                is_last = index == len(parts) - 1
                deeper = os.open(part, _NO_WAITING | (0 if is_last else os.O_DIRECTORY), dir_fd=at)
                os.close(at)
                at = deeper
        except OSError:
            os.close(at)
            raise
        return at
