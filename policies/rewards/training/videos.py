"""Videos of a training, read ahead of the network and batched: which rows make step s, and their inputs.

Rows pass in epochs, each in an order of its own that follows from (seed, epoch). Step s is the s-th slice of that
endless row, so it depends on no state and a resumed training starts anywhere.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from policies.errors import InputError
from policies.rewards.ahead import made_ahead
from policies.rewards.frames import Clip, read_clip
from policies.rewards.model import Prepared
from policies.rewards.training.examples import Example, PromptedVideo
from policies.rewards.training.loop import LabelledVideos, Step
from policies.seeds import seed_for

Prepare = Callable[[np.ndarray, str, float], Prepared]
"""Frames uint8 (F, H, W, 3), prompt and frames per second as the model wants them; see RewardModel."""


class ClipCache:
    """Reads clips, and keeps the last ones used within a number of bytes. For several threads."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity, self._size = capacity_bytes, 0
        self._clips: OrderedDict[Path, Clip] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, path: Path) -> Clip:
        """The clip of a file. Raises InputError when it cannot be read as a video."""
        with self._lock:
            if path in self._clips:
                self._clips.move_to_end(path)
                return self._clips[path]
        clip = read_clip(path)
        with self._lock:
            if path not in self._clips and clip.frames_FHWC.nbytes <= self._capacity:
                self._clips[path] = clip
                self._size += clip.frames_FHWC.nbytes
                while self._size > self._capacity:
                    _, old = self._clips.popitem(last=False)
                    self._size -= old.frames_FHWC.nbytes
        return clip


@dataclass(slots=True, kw_only=True)
class VideoSource:
    """Makes inputs of videos, in threads.

    Args:
        prepare: of the model.
        workers: threads.
        skip_unreadable: videos that cannot be read become None, and are remembered, rather than an error.
    """

    prepare: Prepare
    cache: ClipCache
    workers: int
    skip_unreadable: bool = False
    unreadable: dict[Path, str] = field(default_factory=dict)

    def input(self, video: PromptedVideo, place: str = "") -> Prepared | None:
        """A video as the model wants it, or None. Raises InputError, naming the place that asks for it."""
        try:
            clip = self.cache.read(video.path)
            return self.prepare(clip.frames_FHWC, video.prompt, clip.fps)
        except InputError as error:
            if self.skip_unreadable:
                self.unreadable[video.path] = str(error)
                return None
            raise InputError(f"{place + ': ' if place else ''}{_about(video, error)}") from error

    def inputs(self, videos: Sequence[PromptedVideo]) -> Iterator[Prepared | None]:
        """Each video in order, made ahead."""
        return made_ahead(self.input, videos, threads=self.workers, ahead=2 * self.workers)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSteps:
    """Examples in steps and micro-batches.

    Args:
        batch_size: examples of a step.
        micro_batch_size: examples that go through the network at once.
    """

    examples: Sequence[Example]
    source: VideoSource
    batch_size: int
    micro_batch_size: int
    seed: int

    @property
    def per_epoch(self) -> float:
        """Steps that make an epoch."""
        return len(self.examples) / self.batch_size

    def between(self, first: int, last: int) -> Iterator[Step[list[Prepared]]]:
        """Steps `first` to `last` - 1, counted from 0. Each step's micro-batches must be used up before the next."""
        ready = made_ahead(
            self._micro_batch,
            (part for step in range(first, last) for part in self._parts(step)),
            threads=self.source.workers,
            ahead=2 * self.source.workers,
        )
        for step in range(first, last):
            parts = self._parts(step)
            labels = _labels([example for part in parts for example in part])
            yield Step(labels=labels, micro_batches=_non_empty(islice(ready, len(parts))))

    def rows(self, step: int) -> list[int]:
        """Indices of a step's examples."""
        count = len(self.examples)
        places = [divmod(place, count) for place in range(step * self.batch_size, (step + 1) * self.batch_size)]
        return [_epoch_order(count, self.seed, epoch)[index] for epoch, index in places]

    def _parts(self, step: int) -> list[list[Example]]:
        examples = [self.examples[row] for row in self.rows(step)]
        size = self.micro_batch_size
        return [examples[start : start + size] for start in range(0, len(examples), size)]

    def _micro_batch(self, examples: Sequence[Example]) -> LabelledVideos[list[Prepared]]:
        """Of pairs the first videos, then the second ones; without examples that have an unreadable video."""
        made = [[self.source.input(video, example.place) for video in example.videos] for example in examples]
        used = [index for index, inputs in enumerate(made) if None not in inputs]
        sides = range(len(examples[0].videos))
        return LabelledVideos(
            [made[index][side] for side in sides for index in used], _labels([examples[index] for index in used])
        )


def _non_empty(parts: Iterable[LabelledVideos[list[Prepared]]]) -> Iterator[LabelledVideos[list[Prepared]]]:
    return (part for part in parts if part.inputs)


def _labels(examples: Sequence[Example]) -> Tensor:
    return torch.tensor([example.labels for example in examples], dtype=torch.float32)


@lru_cache(maxsize=4)  # a step may straddle epochs, and threads may be one epoch ahead
def _epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """A permutation by sorting hashes: unlike a library's shuffle, it can never change with a version."""
    return sorted(range(count), key=lambda index: seed_for("example order", seed, epoch, index))


def _about(video: PromptedVideo, error: InputError) -> str:
    return str(error) if str(video.path) in str(error) else f"{video.path}: {error}"
