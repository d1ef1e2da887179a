"""Where a service keeps what must outlive it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from policies.errors import InputError
from services.serve_config import ServeConfig

STORE_FILE = "store.sqlite"
FILES_FOLDER = "files"


def prepare(config: ServeConfig) -> Path:
    """Makes the data folder, readable by its owner only, and tries to write into it. Raises InputError."""
    folder = Path(config.data_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
            probe.flush()
    except OSError as error:
        raise InputError(
            f"data_dir {folder} cannot be written ({error.strerror}); free space there, change its permissions, or "
            "name another folder with --data-dir"
        ) from error
    return folder


def store_address(config: ServeConfig) -> str:
    """The address of the service's store: the one that is set, else a file in the data folder, which is made."""
    return config.store or str(prepare(config) / STORE_FILE)


def files_folder(config: ServeConfig) -> Path:
    """Where uploaded files lie."""
    return Path(config.data_dir) / FILES_FOLDER
