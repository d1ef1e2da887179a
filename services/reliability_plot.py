"""The reliability plot as SVG that needs no script."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from policies.rewards.evaluation.reliability import Bin, Reliability

_WIDTH, _HEIGHT = 340, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 40  # margins
_SMALLEST, _LARGEST = 2.5, 6.0  # radius of a point, by its share of the largest bin


def reliability_plot(found: Reliability, name: str) -> str:
    """Confidence (0.5 to 1) against accuracy (0 to 1), a point with its interval for each bin with preferences."""
    label = escape(f"Reliability of {name}: accuracy against confidence")
    parts = "".join((*_axes(), *_points(found)))
    return f'<svg class="reliability" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{parts}</svg>'


def _x(confidence: float) -> str:
    return f"{_LEFT + (confidence - 0.5) * 2 * (_WIDTH - _LEFT - _RIGHT):.1f}"


def _y(accuracy: float) -> str:
    return f"{_TOP + (1 - accuracy) * (_HEIGHT - _TOP - _BOTTOM):.1f}"


def _axes() -> Iterator[str]:
    for tick in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        yield f'<line class="grid" x1="{_x(tick)}" x2="{_x(tick)}" y1="{_y(0)}" y2="{_y(1)}"/>'
        yield f'<text class="tick" x="{_x(tick)}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{tick:g}</text>'
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        yield f'<line class="grid" x1="{_x(0.5)}" x2="{_x(1)}" y1="{_y(tick)}" y2="{_y(tick)}"/>'
        yield f'<text class="tick" x="{_LEFT - 6}" y="{_y(tick)}" dy="0.35em" text-anchor="end">{tick:g}</text>'
    yield f'<line class="even" x1="{_x(0.5)}" y1="{_y(0.5)}" x2="{_x(1)}" y2="{_y(1)}"/>'
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield f'<text class="axis" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">confidence</text>'
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    yield f'<text class="axis" transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">accuracy</text>'


def _points(found: Reliability) -> Iterator[str]:
    largest = max((each.preferred for each in found.bins), default=0)
    for each in found.bins:
        if each.confidence is not None and each.accuracy is not None and each.interval is not None:
            yield _point(each, each.confidence, each.accuracy, each.interval, each.preferred / largest)


def _point(each: Bin, confidence: float, accuracy: float, interval: tuple[float, float], share: float) -> str:
    x, radius = _x(confidence), _SMALLEST + (_LARGEST - _SMALLEST) * share**0.5
    title = (
        f"|difference| {each.lowest:.3g} to {each.highest:.3g}: {accuracy:.1%} right of {each.preferred} pairs, "
        f"confidence {confidence:.1%}"
    )
    return (
        f"<g><title>{escape(title)}</title>"
        f'<line class="interval" x1="{x}" x2="{x}" y1="{_y(interval[0])}" y2="{_y(interval[1])}"/>'
        f'<circle class="point" cx="{x}" cy="{_y(accuracy)}" r="{radius:.1f}"/></g>'
    )
