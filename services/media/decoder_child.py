"""A decoder process: `python -m services.media.decoder_child SETTINGS`, started by `services.media.decoder`.

It gives up files, network and other processes, says that it is ready, and then decodes one video after another out of
one shared memory into another.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import pkgutil
import sys
from dataclasses import asdict
from typing import Any

import av
import numpy as np

from services.media import sandbox, wire
from services.media.decoding import decode
from services.media.refusal import Code, MediaRefused
from services.media.wire import Caps, Settings

_NOT_FOR_DECODING = {"av.__main__", "av.datasets", "av.about"}


def main(settings: Settings) -> None:
    """Serves until the parent is gone."""
    sandbox.die_with_parent(settings.parent)
    av.logging.set_level(None)
    video = memoryview(mmap.mmap(settings.video, settings.video_bytes, prot=mmap.PROT_READ))
    frames = np.frombuffer(mmap.mmap(settings.frames, settings.frames_bytes), dtype=np.uint8)
    os.close(settings.video)
    os.close(settings.frames)
    _load_what_is_loaded_late()
    sandbox.limit(settings.memory_bytes)
    try:
        layers = sandbox.enter()
    except OSError:
        if not settings.unsafe:
            wire.send(settings.wire, {"ready": False, "layers": []})
            return
        layers = []
    wire.send(settings.wire, {"ready": True, "layers": layers})
    while True:
        wire.send(settings.wire, _answer(wire.receive(settings.wire), video, frames))


def _answer(request: dict[str, Any], video: memoryview, frames: np.ndarray) -> dict[str, Any]:
    try:
        data = bytes(video[: request["size"]])
        return {"facts": asdict(decode(data, request["container"], Caps(**request["caps"]), frames))}
    except MediaRefused as refused:
        return {"refused": refused.code}
    except MemoryError:
        return {"refused": Code.OUT_OF_MEMORY}


def _load_what_is_loaded_late() -> None:
    """Nothing can be imported once files are closed to this process."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in _NOT_FOR_DECODING:
            importlib.import_module(module.name)
    av.VideoFrame(16, 16, "yuv420p").to_ndarray(format="rgb24")
    json.loads(json.dumps({"fps": 8.0}))


if __name__ == "__main__":
    try:
        main(Settings(**json.loads(sys.argv[1])))
    except wire.BrokenWire:
        os._exit(0)
    except BaseException:
        os._exit(1)  # without a traceback, which would look for source files
