"""Sizes of a video that a model can take, and the nearest ones to a size that it cannot."""

from __future__ import annotations

from dataclasses import dataclass

from policies.errors import InputError
from policies.types import VideoShape


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRule:
    """Numbers of the form `multiple * k + remainder`, k >= 0, at least 1."""

    multiple: int
    remainder: int = 0

    def accepts(self, value: int) -> bool:
        return value >= max(1, self.remainder) and value % self.multiple == self.remainder % self.multiple

    def nearest(self, value: int) -> tuple[int, ...]:
        """The accepted numbers just below and just above."""
        below = (value - self.remainder) // self.multiple * self.multiple + self.remainder
        return tuple(number for number in (below, below + self.multiple) if self.accepts(number)) or (
            self.remainder or self.multiple,
        )

    def __str__(self) -> str:
        return f"a multiple of {self.multiple}" + (f" plus {self.remainder}" if self.remainder else "")


def check_sizes(family: str, shape: VideoShape, *, frames: SizeRule, height: SizeRule, width: SizeRule) -> None:
    """Raises InputError that names every size at fault with its nearest possible values."""
    faults = [
        f"{name} {value} must be {rule} (nearest: {', '.join(map(str, rule.nearest(value)))})"
        for name, value, rule in (
            ("num_frames", shape.num_frames, frames),
            ("height", shape.height, height),
            ("width", shape.width, width),
        )
        if not rule.accepts(value)
    ]
    if faults:
        raise InputError(f"this {family} model cannot make {shape}: {'; '.join(faults)}")
