"""report.html: everything about a run in one file that opens anywhere, offline, and runs nothing but its own script.

The page is a fixed template. What comes from a run (prompts, config, scores) is one JSON block that cannot end its
element, and the script puts it on the page as text only. The content security policy allows the page's own script and
style by hash, and images and videos as data; no request leaves the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from html import escape
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from cluster.config import RunConfig
from cluster.run_directory import write_atomic
from services.alarms import alarms
from services.run_record import RunRecord, curves, for_browser, pairs_of, swaps
from services.runs import read_run_config

MAX_VIDEO_BYTES = 24_000_000  # all videos of a report; what is beyond stays in samples/ and is said
_PACKAGES = ("onlinevpo", "torch", "ray", "diffusers", "transformers", "peft", "numpy")


def write_report(run_dir: Path) -> Path:
    """Writes `report.html` into a run directory, from what is there at this moment.

    Raises:
        InputError: the folder is no run directory.
    """
    config = read_run_config(run_dir)
    record = RunRecord.read(run_dir, config.model_dump(mode="json"))
    page = render_page(report_data(record, config), title=run_dir.name)
    path = run_dir / "report.html"
    write_atomic(path, page.encode())
    return path


def report_data(record: RunRecord, config: RunConfig) -> dict[str, Any]:
    """Everything that the page shows, as JSON values."""
    samples, notes = _samples_with_videos(record)
    data = {
        "title": record.run_dir.name,
        "written": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "status": _status(record, config),
        "facts": _facts(config),
        "curves": curves(record.lines),
        "dimensions": list(dict.fromkeys(name for line in record.lines for name in line.get("scores") or {})),
        "swaps": swaps(record.lines),
        "max_gradient_norm": config.learner.max_gradient_norm,
        "validation": record.validation,
        "test": record.test,
        "samples": samples,
        "sample_height": config.sampling.height,
        "pairs": pairs_of(record.lines),
        "alarms": alarms(record.lines, record.test),
        "notes": [*record.notes, *notes],
        "config": record.config_text,
        "reward_model": record.reward_model,
        "calibration": record.calibration,
        "versions": record.versions or _versions(),
    }
    return dict(for_browser(data))


def render_page(data: Mapping[str, Any], *, title: str) -> str:
    """The page with its data. `title` and `data` may hold anything."""
    script = f"{asset('vendor/uplot/uPlot.iife.min.js')}\n{asset('assets/report.js')}"
    style = f"{asset('vendor/uplot/uPlot.min.css')}\n{asset('assets/report.css')}"
    policy = (
        f"default-src 'none'; script-src '{csp_hash(script)}'; style-src '{csp_hash(style)}'; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    parts = {"policy": policy, "title": escape(title), "style": style, "data": _json_for_html(data), "script": script}
    page = asset("assets/report.html")
    before, *rest = page.split("{{")  # split rather than replaced in turn, so that no part can hold another's mark
    return before + "".join(parts[name] + after for name, _, after in (piece.partition("}}") for piece in rest))


def _json_for_html(data: Mapping[str, Any]) -> str:
    """JSON that cannot end its script element, whatever it holds."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def csp_hash(text: str) -> str:
    """What a content security policy names an inline script or style by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def asset(name: str) -> str:
    """A text file of this package."""
    return files("services").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _status(record: RunRecord, config: RunConfig) -> str:
    done = record.lines[-1]["update"] + 1 if record.lines else 0
    ended = str(record.result.get("ended", "")) if record.result else ""
    words = {
        "completed": "completed",
        "early_stop": "stopped early: validations no longer got better",
        "stopped_sigint": "stopped by Ctrl-C",
        "stopped_sigterm": "stopped by SIGTERM",
    }
    return f"{done} of {config.updates} updates, {words.get(ended, 'not finished')}"


def _facts(config: RunConfig) -> list[list[str]]:
    interval = config.reference_update_interval
    return [
        ["Policy", config.policy.path],
        ["LoRA", f"rank {config.policy.lora.rank}, alpha {config.policy.lora.alpha:g}"],
        ["Update", f"{config.prompts_per_update} prompts x {config.sampling.candidates_per_prompt} candidates"],
        ["Pairs", f"{config.pairs.source}, {config.pairs.selection.replace('_', ' and ')}"],
        ["Reference", f"renewed every {interval} updates" if interval else "fixed"],
        ["Objective", f"{config.objective.type}, beta {config.objective.beta:g} {config.objective.beta_schedule}"],
        ["Learning rate", f"{config.learner.learning_rate:g}"],
        ["Placement", config.placement.mode.replace("_", " ")],
        ["Seed", str(config.seed)],
    ]


def _samples_with_videos(record: RunRecord) -> tuple[list[dict[str, Any]], list[str]]:
    folder = record.run_dir / "samples"
    left = MAX_VIDEO_BYTES
    shown: list[dict[str, Any]] = []
    notes: list[str] = []
    for sample in record.samples:
        item: dict[str, Any] = {key: sample.get(key) for key in ("name", "prompt", "seed")}
        for when in ("before", "after"):
            file = folder / f"{sample.get('name')}-{when}.mp4"
            side = sample.get(when)
            shown_side = {**(side if isinstance(side, dict) else {}), "video": None}
            item[when] = shown_side
            if file.parent != folder or file.is_symlink() or not file.is_file():
                notes.append(f"samples/: no video {file.name}")
            elif file.stat().st_size > left:
                notes.append(f"samples/{file.name} is left out to keep this page small")
            else:
                left -= file.stat().st_size
                shown_side["video"] = f"data:video/mp4;base64,{base64.b64encode(file.read_bytes()).decode()}"
        shown.append(item)
    return shown, notes


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
