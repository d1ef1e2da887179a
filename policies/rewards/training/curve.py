"""The curve of a training: agreement on held-out examples and loss, over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from policies.line_chart import Line, Panel, write_line_chart
from policies.rewards.videoreward.template import DIMENSIONS

_PANELS = {
    "accuracy": ("held-out accuracy without ties", (0.4, 1.0)),
    "tie_auc": ("AUC of |difference|, clear against tied", (0.4, 1.0)),
    "spearman": ("held-out rank correlation", (-0.2, 1.0)),
}


def write_curve(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Draws the lines of metrics.jsonl."""
    panels = [
        Panel(title=title, x_label="step", lines=[_measured(lines, name, key) for name in DIMENSIONS], y_range=y_range)
        for key, (title, y_range) in _PANELS.items()
    ]
    panels = [panel for panel in panels if any(line.points for line in panel.lines)]
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    write_line_chart(path, [*panels, Panel(title="loss", x_label="step", lines=[Line(name="training", points=losses)])])


def _measured(lines: Sequence[Mapping[str, Any]], dimension: str, key: str) -> Line:
    points = [
        (line["step"], line["heldout"][dimension][key])
        for line in lines
        if "heldout" in line and line["heldout"][dimension].get(key) is not None
    ]
    return Line(name=dimension, points=points)
