"""The exact scorer: visual quality, motion quality and text alignment measured from pixels. For evaluation only.

Legend: B clips, F frames, H height, W width, C colour channels, S shapes, K colours. Clips are uint8, lengths in px.

The scorer knows how clips are made, so it needs no training and no policy can have learned its weaknesses:
in every frame it finds the shape's centre, area and colour, renders each shape anew there, and compares.

    VQ = how well the best shape's rendering fits the picture (soft IoU), times brightness
    MQ = sqrt(smoothness of the path * steadiness of colour * steadiness of size) * whether it moves at all
    TA = mean of colour, shape, direction and speed, each in [0, 1] against the prompt
    ground truth = mean of VQ, MQ, TA
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.errors import InputError
from policies.shapes.prompts import COLOURS, SHAPES, Attributes, parse_prompt
from policies.shapes.world import HEADING, NUM_FRAMES, RGB, SIZE, SPEED_PX, Clips, area_of, coverage

Floats = NDArray[np.float32]

PEAK_PIXELS = 21  # fewer than the smallest shape has, many more than noise can light up
IOU_FLOOR, IOU_CEILING = 0.2, 0.9
ACCELERATION_SCALE_PX = 2.0
MOVES_AT_PX = 0.4  # px per frame: below the slowest clip of the world
PALETTE_KC = np.array([RGB[colour] for colour in COLOURS], np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthScores:
    """Scores of one clip, each in [0, 1]; ta is the mean of the four parts, ground_truth the mean of vq, mq, ta."""

    vq: float
    mq: float
    ta: float
    colour: float
    shape: float
    direction: float
    speed: float
    ground_truth: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is in the frames: contrast-stretched and raw masks, and each frame's centre, area, colour, brightness."""

    raw_BFHW: Floats
    stretched_BFHW: Floats
    centre_BF2: Floats
    area_BF: Floats
    rgb_BFC: Floats
    peak_BF: Floats


def score_clip(frames_FHWC: Clips, prompt: str) -> TruthScores:
    """Scores of one clip of this world, (F, H, W, C) uint8, against its prompt. See score_clips."""
    return score_clips(np.asarray(frames_FHWC)[None], [prompt])[0]


def score_clips(frames_BFHWC: Clips, prompts: Sequence[str]) -> list[TruthScores]:
    """Scores of many clips at once, in order.

    Args:
        frames_BFHWC: uint8, 9 frames of 32x32 RGB each.
        prompts: one text of this world per clip.
    Raises:
        InputError: wrong shape or type of the frames, another number of prompts, or text that is not of this world.
    """
    frames_BFHWC = np.asarray(frames_BFHWC)
    _check(frames_BFHWC, prompts)
    if not len(prompts):
        return []
    asked = [parse_prompt(prompt) for prompt in prompts]
    seen = _see(frames_BFHWC.astype(np.float32) / 255.0)
    vq_B, shape_odds_BS = _visual_quality(seen)
    velocity_B2 = _velocity(seen.centre_BF2)
    mq_B = _motion_quality(seen, velocity_B2)
    colour_B = _colour_match(seen.rgb_BFC, asked)
    shape_B = shape_odds_BS[np.arange(len(asked)), [SHAPES.index(attributes.shape) for attributes in asked]]
    direction_B, speed_B = _path_match(velocity_B2, asked)
    ta_B = (colour_B + shape_B + direction_B + speed_B) / 4
    columns = (vq_B, mq_B, ta_B, colour_B, shape_B, direction_B, speed_B, (vq_B + mq_B + ta_B) / 3)
    names = ("vq", "mq", "ta", "colour", "shape", "direction", "speed", "ground_truth")
    return [TruthScores(**dict(zip(names, map(float, row), strict=True))) for row in np.stack(columns, axis=1)]


def match_energy(frames_FHWC: Clips, base_FHWC: Clips) -> Clips:
    """The clip made as bright as the base clip: scaled so that the mean squared pixel value is equal.

    Tells whether a gain in score is more than a gain in brightness. Values that leave [0, 255] are cut, and the
    scale is found again for what is left (three rounds), so that cutting does not leave it darker than the base.
    """
    clip = np.asarray(frames_FHWC).astype(np.float64)
    target = float((np.asarray(base_FHWC).astype(np.float64) ** 2).mean())
    matched = clip
    for _ in range(3):
        energy = float((matched**2).mean())
        matched = np.clip(matched * (target / energy) ** 0.5, 0.0, 255.0) if energy > 0 else matched
    return (matched + 0.5).astype(np.uint8)


def pixel_diversity(frames_NFHWC: Clips) -> float:
    """Standard deviation between samples of one prompt, mean over all pixels, on the scale [0, 1].

    It falls when faults go away, not only when samples become alike: read it beside position_diversity_px.
    """
    return float((np.asarray(frames_NFHWC).astype(np.float64) / 255.0).std(axis=0).mean())


def position_diversity_px(frames_NFHWC: Clips) -> float:
    """Spread of the shape's place in the middle frame between samples of one prompt, px: root mean variance of x, y."""
    middle = np.asarray(frames_NFHWC)[:, NUM_FRAMES // 2 : NUM_FRAMES // 2 + 1]
    centre_N2 = _see(middle.astype(np.float32) / 255.0).centre_BF2[:, 0]
    return float(np.sqrt(centre_N2.var(axis=0).mean()))


def _check(frames_BFHWC: Clips, prompts: Sequence[str]) -> None:
    if frames_BFHWC.dtype != np.uint8 or frames_BFHWC.shape[1:] != (NUM_FRAMES, SIZE, SIZE, 3):
        raise InputError(
            f"clips are {frames_BFHWC.dtype} of shape {frames_BFHWC.shape[1:]}; the scorer of moving shapes takes "
            f"uint8 of shape ({NUM_FRAMES}, {SIZE}, {SIZE}, 3), frames first and colour last."
        )
    if len(frames_BFHWC) != len(prompts):
        raise InputError(f"{len(frames_BFHWC)} clips but {len(prompts)} prompts; give one prompt for each clip.")


def _see(clips_BFHWC: Floats) -> _Seen:
    value_BFHW = clips_BFHWC.max(-1)
    flat_BFP = value_BFHW.reshape(*value_BFHW.shape[:2], -1)
    peak_BF = np.sort(flat_BFP, -1)[..., -PEAK_PIXELS:].mean(-1)
    ground_BF = np.median(flat_BFP, -1)  # shapes fill less than half of the picture
    raw_BFHW = np.clip(value_BFHW / np.maximum(peak_BF, 1e-3)[..., None, None], 0, 1)
    contrast_BF = np.maximum(peak_BF - ground_BF, 1e-3)
    stretched_BFHW = np.clip((value_BFHW - ground_BF[..., None, None]) / contrast_BF[..., None, None], 0, 1)
    core_BFHW = np.clip(stretched_BFHW - 0.4, 0, None) + 1e-6  # haze and noise must not pull the centre
    weight_BF = core_BFHW.sum((-1, -2))
    pixel = np.arange(value_BFHW.shape[-1], dtype=np.float32) + 0.5
    centre_BF2 = np.stack([(core_BFHW.sum(-2) * pixel).sum(-1), (core_BFHW.sum(-1) * pixel).sum(-1)], -1)
    ground_BFC = np.median(clips_BFHWC.reshape(*clips_BFHWC.shape[:2], -1, 3), 2)
    rgb_BFC = np.einsum("bfhw,bfhwc->bfc", core_BFHW, clips_BFHWC) / weight_BF[..., None] - ground_BFC
    area_BF = np.clip((stretched_BFHW > 0.5).sum((-1, -2)), 7, 356).astype(np.float32)
    return _Seen(
        raw_BFHW, stretched_BFHW, centre_BF2 / weight_BF[..., None], area_BF, rgb_BFC.clip(0, 1), peak_BF.clip(0, 1)
    )


def _visual_quality(seen: _Seen) -> tuple[Floats, Floats]:
    """VQ (B,) and how much the clip looks like each shape (B, S), which sums to 1."""
    raw_BS, outline_BS = [], []
    for shape in SHAPES:
        cover_BFHW = coverage(shape, seen.centre_BF2, np.sqrt(seen.area_BF / area_of(shape, 1.0)))
        raw_BS.append(_soft_iou(seen.raw_BFHW, cover_BFHW))
        outline_BS.append(_soft_iou(_outline(seen.stretched_BFHW), _outline(cover_BFHW)).mean(-1))
    best_BF = np.stack(raw_BS, -1).max(-1)
    fit_BF = np.clip((best_BF - IOU_FLOOR) / (IOU_CEILING - IOU_FLOOR), 0, 1)
    odds_BS = np.exp((np.stack(outline_BS, -1) - np.max(outline_BS, 0)[:, None]) / 0.025)
    vq_B: Floats = (fit_BF * np.clip(seen.peak_BF / 0.85, 0, 1)).mean(-1)
    shape_BS: Floats = odds_BS / odds_BS.sum(-1, keepdims=True)
    return vq_B, shape_BS


def _outline(mask_BFHW: Floats) -> Floats:
    """The mask made steep about one half, where blur leaves an outline almost in place: shape is not sharpness."""
    steep: Floats = np.clip(4 * (mask_BFHW - 0.5) + 0.5, 0, 1)
    return steep


def _soft_iou(left: Floats, right: Floats) -> Floats:
    iou: Floats = np.minimum(left, right).sum((-1, -2)) / np.maximum(left, right).sum((-1, -2))
    return iou


def _velocity(centre_BF2: Floats) -> Floats:
    """Least-squares slope of the path, px per frame, (B, 2)."""
    frame_F = np.arange(NUM_FRAMES, dtype=np.float32) - (NUM_FRAMES - 1) / 2
    velocity: Floats = np.einsum("f,bfx->bx", frame_F, centre_BF2) / (frame_F**2).sum()
    return velocity


def _motion_quality(seen: _Seen, velocity_B2: Floats) -> Floats:
    bend_B = np.sqrt((np.diff(seen.centre_BF2, n=2, axis=1) ** 2).sum(-1).mean(-1))
    smooth_B = np.exp(-np.clip(bend_B - 0.1, 0, None) / ACCELERATION_SCALE_PX)
    lit_BFC = seen.rgb_BFC / np.maximum(np.median(seen.rgb_BFC.max(-1), 1), 1e-3)[:, None, None]
    colour_off_BF = np.abs(lit_BFC - np.median(lit_BFC, 1, keepdims=True)).mean(-1)
    colour_B = np.exp(-np.clip(colour_off_BF.mean(-1) - 0.02, 0, None) / 0.15)
    size_BF = np.sqrt(seen.area_BF)
    size_off_B = np.abs(size_BF / np.median(size_BF, 1, keepdims=True) - 1).mean(-1)
    steady_B = np.exp(-np.clip(size_off_B - 0.02, 0, None) / 0.15)
    moves_B = np.clip(np.sqrt((velocity_B2**2).sum(-1)) / MOVES_AT_PX, 0, 1)
    mq_B: Floats = np.sqrt(smooth_B * colour_B * steady_B) * moves_B
    return mq_B


def _colour_match(rgb_BFC: Floats, asked: Sequence[Attributes]) -> Floats:
    """Share of the asked colour among the palette, for the median frame: 1 when nothing else is nearer."""
    hue_BFC = rgb_BFC / np.maximum(rgb_BFC.max(-1, keepdims=True), 1e-3)
    distance_BK = np.sqrt(((np.median(hue_BFC, 1)[:, None] - PALETTE_KC) ** 2).sum(-1))
    odds_BK = np.exp(-((distance_BK / 0.3) ** 2))
    asked_B = [COLOURS.index(attributes.colour) for attributes in asked]
    share_B: Floats = odds_BK[np.arange(len(asked)), asked_B] / (odds_BK.sum(-1) + 1e-3)
    return share_B


def _path_match(velocity_B2: Floats, asked: Sequence[Attributes]) -> tuple[Floats, Floats]:
    """Direction: cosine to the asked heading, 0 for standing still. Speed: 1 within the drawn range, then falling."""
    pace_B = np.sqrt((velocity_B2**2).sum(-1))
    heading_B2 = np.array([HEADING[attributes.direction] for attributes in asked], np.float32)
    cosine_B = (velocity_B2 * heading_B2).sum(-1) / np.maximum(pace_B, 1e-6)
    direction_B = np.clip(cosine_B, 0, 1) * np.clip(pace_B / MOVES_AT_PX, 0, 1)
    asked_B = np.array([SPEED_PX[attributes.speed] for attributes in asked], np.float32)
    slack_B = 0.1 * asked_B + 0.05
    speed_B = np.exp(-((np.clip(np.abs(pace_B - asked_B) - slack_B, 0, None) / 0.45) ** 2))
    return direction_B, speed_B
