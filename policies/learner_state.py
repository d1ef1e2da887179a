"""What a learner needs to go on where it stopped, bit for bit: tensors and JSON values, nothing executable."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from policies.errors import WeightsMismatchError

TENSORS_FILE = "learner.safetensors"
VALUES_FILE = "learner.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LearnerState:
    """Tensors are on CPU, named `policy/...`, `reference/...`, `adam/exp_avg/...` and `adam/exp_avg_sq/...`."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors below `name/`, by the rest of their names."""
        prefix = f"{name}/"
        return {key.removeprefix(prefix): t for key, t in self.tensors.items() if key.startswith(prefix)}

    def write(self, folder: Path) -> dict[str, str]:
        """Writes two files that are on disk when this returns; gives their sha256 by file name."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(self.tensors), folder / TENSORS_FILE)
        text = json.dumps(self.values, indent=1, sort_keys=True, allow_nan=False)
        (folder / VALUES_FILE).write_text(text + "\n", encoding="utf-8")
        return {name: _synced_sha256(folder / name) for name in (TENSORS_FILE, VALUES_FILE)}

    @classmethod
    def read(cls, folder: Path) -> LearnerState:
        """Reads what `write` wrote.

        Raises:
            WeightsMismatchError: a file is missing or is not what it should be.
        """
        try:
            values = json.loads((folder / VALUES_FILE).read_text(encoding="utf-8"))
            return cls(tensors=load_file(folder / TENSORS_FILE), values=values)
        except (OSError, ValueError, SafetensorError) as error:
            raise WeightsMismatchError(f"{folder} holds no readable learner state: {error}") from error


def _synced_sha256(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
