"""Line charts."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from policies.line_chart import Line, Panel, write_line_chart


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def panel(points: list[tuple[float, float]], **options: tuple[float, float]) -> Panel:
    return Panel(title="accuracy", x_label="step", lines=[Line(name="VQ", points=points)], **options)


def blue_rows(path: Path) -> np.ndarray:
    """Rows of the plot, below its legend, that hold the first line's colour."""
    image = pixels(path)
    is_blue = (image[..., 2] - image[..., 0] > 100)[45:]
    return np.flatnonzero(is_blue.any(1))


def test_a_panel_is_drawn_beside_the_other(tmp_path: Path) -> None:
    write_line_chart(tmp_path / "one.png", [panel([(0, 0.5), (10, 0.9)])])
    write_line_chart(tmp_path / "two.png", [panel([(0, 0.5), (10, 0.9)])] * 2)
    one, two = pixels(tmp_path / "one.png"), pixels(tmp_path / "two.png")
    assert two.shape == (one.shape[0], 2 * one.shape[1], 3)
    assert (tmp_path / "two.png").stat().st_size < 40_000


def test_a_higher_value_is_drawn_higher(tmp_path: Path) -> None:
    for name, value in (("low", 0.6), ("high", 0.9)):
        write_line_chart(tmp_path / f"{name}.png", [panel([(0, value), (10, value)], y_range=(0.4, 1.0))])
    assert blue_rows(tmp_path / "high.png").max() < blue_rows(tmp_path / "low.png").min()


@pytest.mark.parametrize("points", [[], [(0, math.nan)], [(3, 0.5)], [(0, 0.5), (1, 0.5)], [(0, -1e9), (1, 1e9)]])
def test_few_or_flat_or_huge_values_are_drawn_too(tmp_path: Path, points: list[tuple[float, float]]) -> None:
    write_line_chart(tmp_path / "a.png", [panel(points)])
    assert pixels(tmp_path / "a.png").min() < 100
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_no_panels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one panel"):
        write_line_chart(tmp_path / "a.png", [])
