"""Renders the clips: one antialiased shape on black, 9 frames of 32x32 RGB at 8 frames per second, by formula.

Legend (letters name the layout in memory order): B clips, F frames, H height, W width, C colour channels.
At this module's border clips are uint8 in [0, 255]; all lengths are in pixels, speeds in pixels per frame.

Three kinds of fault with a known severity in [0, 1] can be put in, one per dimension that a reward model scores:
visual (blur, grey haze, noise), motion (jitter, flicker, pulsing size, colour swaps) and text (wrong attributes).
Jitter is free of mean and trend, so a motion fault leaves direction and speed what the prompt says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.errors import InputError
from policies.shapes.prompts import COLOURS, VALUES, Attributes, parse_prompt

NUM_FRAMES = 9
SIZE = 32
FPS = 8

RGB: dict[str, tuple[float, float, float]] = {
    "red": (1.0, 0.15, 0.10),
    "green": (0.10, 1.0, 0.15),
    "blue": (0.20, 0.30, 1.0),
    "yellow": (1.0, 0.90, 0.10),
    "magenta": (1.0, 0.20, 0.90),
    "cyan": (0.10, 0.95, 1.0),
}
HEADING: dict[str, tuple[float, float]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""Unit vectors (x to the right, y down, as pixels are counted)."""
SPEED_PX: dict[str, float] = {"slowly": 0.67, "quickly": 1.87}

Floats = NDArray[np.float32]
Clips = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """Faults of one clip. visual and motion are severities in [0, 1]; wrong names attributes rendered otherwise."""

    visual: float = 0.0
    motion: float = 0.0
    wrong: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("visual", self.visual), ("motion", self.motion)):
            if not 0.0 <= value <= 1.0:
                raise InputError(f"{name} severity {value} is outside [0, 1].")
        for name in self.wrong:
            if name not in VALUES:
                raise InputError(f"wrong={name!r} is no attribute; use some of {', '.join(VALUES)}.")


CLEAN = Corruption()


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRates:
    """How often data is corrupted: p of a visual fault, of a motion fault, and of each attribute being wrong."""

    visual: float
    motion: float
    wrong: float
    min_severity: float = 0.35

    def draw(self, rng: np.random.Generator) -> Corruption:
        has_visual, has_motion = rng.random(2) < (self.visual, self.motion)
        severity = rng.uniform(self.min_severity, 1.0, size=2)
        is_wrong = rng.random(len(VALUES)) < self.wrong
        return Corruption(
            visual=float(severity[0]) if has_visual else 0.0,
            motion=float(severity[1]) if has_motion else 0.0,
            wrong=tuple(name for name, flag in zip(VALUES, is_wrong, strict=True) if flag),
        )


def render(prompt: str | Attributes, rng: np.random.Generator, corruption: Corruption = CLEAN) -> Clips:
    """One clip of a prompt. (F, H, W, C) uint8.

    Args:
        prompt: text of this world, or its attributes.
        rng: draws place, size, exact speed and the faults; the same state gives the same clip.
        corruption: faults to put in.
    Raises:
        InputError: the text is not a prompt of this world.
    """
    clip: Clips = render_batch([prompt], rng, [corruption])[0]
    return clip


def render_batch(
    prompts: Sequence[str | Attributes], rng: np.random.Generator, corruptions: Sequence[Corruption] | None = None
) -> Clips:
    """Clips of several prompts at once, (B, F, H, W, C) uint8; corruptions: one per prompt, or none at all."""
    corruptions = [CLEAN] * len(prompts) if corruptions is None else corruptions
    if len(corruptions) != len(prompts):
        raise InputError(f"{len(prompts)} prompts but {len(corruptions)} corruptions; give one for each.")
    shown = [shown_attributes(prompt, corruption, rng) for prompt, corruption in zip(prompts, corruptions, strict=True)]
    motion_B = np.array([corruption.motion for corruption in corruptions], np.float32)
    visual_B = np.array([corruption.visual for corruption in corruptions], np.float32)

    centre_BF2 = _paths(shown, rng) + _jitter(motion_B, rng)
    radius_BF = rng.uniform(4.8, 5.6, (len(shown), 1)) * _pulse(motion_B, rng)
    rgb_BFC = _colours(shown, motion_B, rng) * _flicker(motion_B, rng)[..., None]

    shapes = np.array([attributes.shape for attributes in shown])
    cover_BFHW = np.empty((len(shown), NUM_FRAMES, SIZE, SIZE), np.float32)
    for shape in VALUES["shape"]:
        chosen = shapes == shape
        cover_BFHW[chosen] = coverage(shape, centre_BF2[chosen], radius_BF[chosen])
    clips_BFHWC = cover_BFHW[..., None] * rgb_BFC[:, :, None, None, :].astype(np.float32)
    faulty = visual_B > 0
    if faulty.any():
        clips_BFHWC[faulty] = _spoil_picture(clips_BFHWC[faulty], visual_B[faulty], rng)
    return (np.clip(clips_BFHWC, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def shown_attributes(prompt: str | Attributes, corruption: Corruption, rng: np.random.Generator) -> Attributes:
    """What a clip of the prompt shows: the prompt's attributes, but another value for each that is to be wrong."""
    attributes = parse_prompt(prompt) if isinstance(prompt, str) else prompt
    values = {name: getattr(attributes, name) for name in VALUES}
    for name in corruption.wrong:
        others = [value for value in VALUES[name] if value != values[name]]
        values[name] = others[rng.integers(len(others))]
    return Attributes(**values)


def coverage(shape: str, centre_X2: NDArray[np.floating], radius_X: NDArray[np.floating]) -> Floats:
    """How much of each pixel a shape covers, in [0, 1]: (X, ..., H, W) for centres (X, ..., 2) and radii (X, ...).

    A one-pixel ramp over the signed distance to the outline. The radius is a circle's; a square has the circle's
    area, a triangle (pointing up, about its centroid) a little less, so that it stays in the picture.
    """
    pixel = np.arange(SIZE, dtype=np.float32) + 0.5
    centre = centre_X2.astype(np.float32)[..., None, None]
    x = pixel[None, :] - centre[..., 0, :, :]
    y = pixel[:, None] - centre[..., 1, :, :]
    radius = radius_X.astype(np.float32)[..., None, None]
    if shape == "circle":
        distance = np.sqrt(x * x + y * y) - radius
    elif shape == "square":
        distance = np.maximum(np.abs(x), np.abs(y)) - 0.886 * radius
    else:
        slanted = 0.866 * np.abs(x) - 0.5 * y
        distance = np.maximum(slanted, y) - 0.625 * radius
    cover: Floats = np.clip(0.5 - distance, 0.0, 1.0)
    return cover


def area_of(shape: str, radius: float) -> float:
    """Area in square pixels of a shape of this radius."""
    return {"circle": np.pi, "square": 4 * 0.886**2, "triangle": 3 * 3**0.5 * 0.625**2}[shape] * radius**2


def _paths(shown: Sequence[Attributes], rng: np.random.Generator) -> NDArray[np.float64]:
    """Straight paths whose middle lies within 2 px of the picture's middle: (B, F, 2), x and y."""
    heading_B2 = np.array([HEADING[attributes.direction] for attributes in shown]).reshape(-1, 2)
    speed_B = np.array([SPEED_PX[attributes.speed] for attributes in shown]) * rng.uniform(0.9, 1.1, len(shown))
    middle_B2 = SIZE / 2 + rng.uniform(-2.0, 2.0, (len(shown), 2))
    frame_F = np.arange(NUM_FRAMES) - (NUM_FRAMES - 1) / 2
    velocity_B2 = heading_B2 * speed_B[:, None]
    paths: NDArray[np.float64] = middle_B2[:, None] + velocity_B2[:, None] * frame_F[None, :, None]
    return paths


def _jitter(severity_B: Floats, rng: np.random.Generator) -> NDArray[np.float64]:
    """Displacements of each frame without mean and trend, so that place, direction and speed stay what they were."""
    noise_BF2 = rng.standard_normal((len(severity_B), NUM_FRAMES, 2))
    frame_F = np.arange(NUM_FRAMES) - (NUM_FRAMES - 1) / 2
    noise_BF2 -= noise_BF2.mean(1, keepdims=True)
    slope_B2 = np.einsum("f,bfx->bx", frame_F, noise_BF2) / (frame_F**2).sum()
    noise_BF2 -= slope_B2[:, None] * frame_F[None, :, None]
    jitter: NDArray[np.float64] = np.clip(1.2 * severity_B[:, None, None] * noise_BF2, -4.0, 4.0)
    return jitter


def _pulse(severity_B: Floats, rng: np.random.Generator) -> NDArray[np.float64]:
    pulse: NDArray[np.float64] = 1 + 0.45 * severity_B[:, None] * rng.uniform(-1, 1, (len(severity_B), NUM_FRAMES))
    return pulse


def _flicker(severity_B: Floats, rng: np.random.Generator) -> NDArray[np.float64]:
    dimmed: NDArray[np.float64] = 1 - 0.4 * severity_B[:, None] * rng.random((len(severity_B), NUM_FRAMES))
    return dimmed


def _colours(shown: Sequence[Attributes], motion_B: Floats, rng: np.random.Generator) -> NDArray[np.float64]:
    """Colour of every frame, (B, F, C); under a motion fault some frames (never half of them) have another one."""
    palette = np.array([RGB[colour] for colour in COLOURS])
    colour_B = np.array([COLOURS.index(attributes.colour) for attributes in shown], np.int64)
    other_BF = (colour_B[:, None] + rng.integers(1, len(COLOURS), (len(shown), NUM_FRAMES))) % len(COLOURS)
    order_BF = rng.random((len(shown), NUM_FRAMES)).argsort(1)
    is_swapped_BF = order_BF < np.round(4 * motion_B)[:, None]
    rgb: NDArray[np.float64] = palette[np.where(is_swapped_BF, other_BF, colour_B[:, None])]
    return rgb


def _spoil_picture(clips_BFHWC: Floats, severity_B: Floats, rng: np.random.Generator) -> Floats:
    severity = severity_B[:, None, None, None, None]
    haze = 0.2 * severity
    clips_BFHWC = _blur(clips_BFHWC, 0.3 + 1.3 * severity_B) * (1 - haze) + 0.5 * haze
    noise = rng.standard_normal(clips_BFHWC.shape, dtype=np.float32)
    return clips_BFHWC + 0.06 * severity * noise


def _blur(clips_BFHWC: Floats, sigma_B: Floats) -> Floats:
    """Gaussian blur in both directions as two matrix products; rows of the kernel sum to 1 at the border too."""
    pixel = np.arange(SIZE, dtype=np.float32)
    kernel_BHH = np.exp(-((pixel[:, None] - pixel[None, :]) ** 2) / (2 * sigma_B[:, None, None] ** 2))
    kernel_BHH /= kernel_BHH.sum(-1, keepdims=True)
    batch, frames, height, width, channels = clips_BFHWC.shape
    rows = kernel_BHH[:, None] @ clips_BFHWC.reshape(batch, frames, height, width * channels)
    columns: Floats = kernel_BHH[:, None, None] @ rows.reshape(batch, frames, height, width, channels)
    return columns
