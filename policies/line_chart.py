"""Line charts as PNG: panels side by side, each with a few named lines. For pages that show pictures only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from policies.errors import InputError

_COLOURS = ("#1f5fbf", "#c2410c", "#15803d", "#7e22ce", "#0f766e", "#a16207")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 380, 250, 46, 14, 40, 26  # of a panel and its margins, pixels
_FONT_SIZE, _FINER = 11, 3  # drawn so many times larger and scaled down, since PIL's lines have hard edges


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Points (x, y) in order of x; a y that is not finite is left out."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Lines over one another. y_range: lowest and highest y shown; None: those of the points."""

    title: str
    x_label: str
    lines: Sequence[Line]
    y_range: tuple[float, float] | None = None


def write_line_chart(path: Path, panels: Sequence[Panel]) -> None:
    """Writes panels side by side into one PNG, whole or not at all.

    Raises:
        InputError: no panels.
    """
    if not panels:
        raise InputError("a chart needs at least one panel")
    image = Image.new("RGB", (_WIDTH * len(panels) * _FINER, _HEIGHT * _FINER), "white")
    for index, panel in enumerate(panels):
        _Drawing(ImageDraw.Draw(image), left=index * _WIDTH, panel=panel).draw()
    small = image.resize((_WIDTH * len(panels), _HEIGHT), Image.Resampling.LANCZOS)
    beside = path.with_name(f".{path.name}.new")
    small.quantize(64).save(beside, format="PNG", optimize=True)
    beside.replace(path)


class _Drawing:
    def __init__(self, draw: ImageDraw.ImageDraw, *, left: int, panel: Panel) -> None:
        self._draw, self._left, self._panel = draw, left, panel
        self._font = ImageFont.load_default(_FONT_SIZE * _FINER)
        points = [point for line in panel.lines for point in line.points if math.isfinite(point[1])]
        self._x = _widened(*_ends([x for x, _ in points]))
        self._y = panel.y_range or _widened(*_ends([y for _, y in points]))

    def draw(self) -> None:
        for value in _ticks(*self._y):
            self._stroke([(self._x[0], value), (self._x[1], value)], "#e2e2e2", 1)
            self._text(_LEFT - 5, self._to(self._x[0], value)[1], f"{value:g}", "rm")
        for value in _ticks(*self._x):
            self._text(self._to(value, 0)[0], _HEIGHT - _BOTTOM + 9, f"{value:g}", "mm")
        self._text(_LEFT, 10, self._panel.title, "lm")
        self._text(_WIDTH - _RIGHT, 10, self._panel.x_label, "rm", "#666666")
        place = _LEFT
        for index, line in enumerate(self._panel.lines):
            colour = _COLOURS[index % len(_COLOURS)]
            self._stroke(
                [(x, min(max(y, self._y[0]), self._y[1])) for x, y in line.points if math.isfinite(y)], colour, 2
            )
            self._text(place, 26, line.name, "lm", colour)
            place += 12 + int(self._font.getlength(line.name) / _FINER)

    def _to(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point, in its panel."""
        across = (x - self._x[0]) / (self._x[1] - self._x[0])
        up = (y - self._y[0]) / (self._y[1] - self._y[0])
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    def _stroke(self, points: Sequence[tuple[float, float]], colour: str, width: int) -> None:
        placed = [((self._left + x) * _FINER, y * _FINER) for x, y in (self._to(*point) for point in points)]
        if len(placed) == 1:
            (x, y), size = placed[0], width * _FINER
            self._draw.ellipse((x - size, y - size, x + size, y + size), fill=colour)
        elif placed:
            self._draw.line(placed, fill=colour, width=width * _FINER, joint="curve")

    def _text(self, x: float, y: float, text: str, anchor: str, colour: str = "black") -> None:
        self._draw.text(((self._left + x) * _FINER, y * _FINER), text, fill=colour, font=self._font, anchor=anchor)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 1.0)


def _widened(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between two."""
    step = 10 ** math.floor(math.log10((high - low) / 2))
    while (high - low) / step > 6:
        step *= 2.5 if f"{step:e}".startswith("2") else 2
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]
