"""Videos per second and peak memory of every reward model, against the same model used by hand.

    python -m tests.benchmarks.rewards --json [--model MODEL] [--device cuda] [--real-shapes]

Three ways, in turns, on videos that were prepared before: `together` is one call of `score` as a run makes it,
`one_by_one` a call per video, `fixed_batch` the bare network on one batch that somebody put together by hand and left
on the device. `mixed` is `together` with videos of two lengths and sizes. Each model runs in a process of its own, so
that peak memory is its own. The bundled model has its weights; the other two are the tiny checkpoints of tests/goldens
or, with --real-shapes, networks of the published sizes with random weights.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.config import ShapesRewardConfig, VideoRewardConfig, VideoScoreConfig
from policies.rewards.model import Prepared, RewardModel, load_reward_model
from policies.rewards.pixel_budget import budget_of
from policies.rewards.shapes import BUNDLED_FOLDER
from policies.rewards.videoreward.network import VideoBatch
from policies.shapes.reward import ShapesRewardModel
from tests.benchmarks.random_rewards import GOLDENS, random_videoreward, random_videoscore

MODELS = ("shapes", "videoreward", "videoscore")
PROMPT = "a red circle moving left slowly"
ByHand = Callable[[Sequence[Prepared]], Callable[[], Tensor]]


def subject(name: str, arguments: argparse.Namespace) -> tuple[RewardModel, ByHand]:
    """A model, and what feeds its bare network a batch that stays the same."""
    device, dtype = arguments.device, arguments.dtype
    settings: dict[str, Any] = {"dtype": dtype, "micro_batch_pixels": arguments.micro_batch_pixels}
    if name == "shapes":
        return load_reward_model(ShapesRewardConfig(), device=device), _shapes_by_hand(device)
    if arguments.real_shapes:
        budget = budget_of(arguments.micro_batch_pixels, device)
        size = {"dtype": getattr(torch, dtype), "device": device, "micro_batch_pixels": budget}
        if name == "videoreward":
            model: Any = random_videoreward("tiny" if arguments.tiny else "qwen2-vl-2b", **size)
        else:
            model = random_videoscore("tiny" if arguments.tiny else "idefics2-8b", **size)
    elif name == "videoreward":
        folder = GOLDENS / "videoreward"
        config = VideoRewardConfig(path=str(folder / "VideoReward"), base=str(folder / "base"), **settings)
        model = load_reward_model(config, device=device)
    else:
        config = VideoScoreConfig(path=str(GOLDENS / "videoscore" / "VideoScore"), **settings)
        model = load_reward_model(config, device=device)
    return model, _videoreward_by_hand(model) if name == "videoreward" else _videoscore_by_hand(model)


def _shapes_by_hand(device: str) -> ByHand:
    network = ShapesRewardModel.from_pretrained(BUNDLED_FOLDER).eval().to(device)

    def feed(inputs: Sequence[Prepared]) -> Callable[[], Tensor]:
        frames = torch.stack([clip.frames_FHWC for clip in inputs]).to(device)
        prompts = [clip.prompt for clip in inputs]
        return lambda: network.score_frames(frames, prompts)

    return feed


def _videoreward_by_hand(model: Any) -> ByHand:
    network = model._network

    def feed(inputs: Sequence[Prepared]) -> Callable[[], Tensor]:
        batch = VideoBatch.of(inputs, pad_token_id=model._tokenizer.pad_token_id, device=network.device)
        return lambda: network(batch)

    return feed


def _videoscore_by_hand(model: Any) -> ByHand:
    network = model._network

    def feed(inputs: Sequence[Prepared]) -> Callable[[], Tensor]:
        placed = [replace(one, ids_L=one.ids_L.to(network.device), frames_FCHW=one.frames_FCHW.to(network.device))
                  for one in inputs]  # fmt: skip
        return lambda: network(placed)

    return feed


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """What one model does."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    model, by_hand = subject(name, arguments)
    shape = (9, 32, 32) if name == "shapes" else (arguments.frames, arguments.height, arguments.width)
    rng = np.random.default_rng(0)
    count = arguments.videos
    begun = time.perf_counter()
    inputs = [model.prepare(_video(rng, shape), PROMPT, arguments.fps) for _ in range(count)]
    prepare_seconds = (time.perf_counter() - begun) / count
    ways: dict[str, Callable[[], Tensor]] = {
        "together": lambda: model.score(inputs),
        "one_by_one": lambda: torch.cat([model.score([one]) for one in inputs]),
        "fixed_batch": by_hand(inputs),
    }
    if name != "shapes":
        other = (shape[0] // 2 + 1, shape[1] // 2 * 3, shape[2])
        mixture = [
            one if index % 2 else model.prepare(_video(rng, other), PROMPT, arguments.fps)
            for index, one in enumerate(inputs)
        ]
        ways["mixed"] = lambda: model.score(mixture)
        ways["mixed_one_by_one"] = lambda: torch.cat([model.score([one]) for one in mixture])
    seconds, peaks, scores = _in_turns(ways, arguments)
    return {
        "model": model.revision if arguments.real_shapes and name != "shapes" else model.name,
        "videos": count,
        "frames_height_width": list(shape),
        "pixels_per_video": model.cost(inputs[0]),
        "dtype": "float32" if name == "shapes" else arguments.dtype,
        "over_fixed_batch": seconds["fixed_batch"] / seconds["together"],
        "over_one_by_one": seconds["one_by_one"] / seconds["together"],
        "mixed_over_one_by_one": seconds["mixed_one_by_one"] / seconds["mixed"] if "mixed" in seconds else None,
        "videos_per_s": {way: count / seconds[way] for way in ways},
        "peak_mib": peaks,
        "prepare_seconds_per_video": prepare_seconds,
        "largest_difference_to_one_by_one": float((scores["together"] - scores["one_by_one"]).abs().max()),
    }


def _video(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    return rng.integers(0, 256, (*shape, 3), np.uint8)


@torch.no_grad()
def _in_turns(
    ways: dict[str, Callable[[], Tensor]], arguments: argparse.Namespace
) -> tuple[dict[str, float], dict[str, float | None], dict[str, Tensor]]:
    """The least seconds of each way, its peak memory, and its scores; a round that does not count warms up."""
    device = arguments.device
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    peaks: dict[str, float | None] = {}
    scores: dict[str, Tensor] = {}
    started, turn = time.perf_counter(), -1
    while turn < arguments.rounds or time.perf_counter() - started < arguments.seconds:
        turn += 1
        for way, work in ways.items():
            _reset_peak(device)
            begun = time.perf_counter()
            scores[way] = work()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if turn:
                seconds[way].append(time.perf_counter() - begun)
                peaks[way] = _peak_mib(device)
    return {way: min(values) for way, values in seconds.items()}, peaks, {w: s.cpu() for w, s in scores.items()}


def _reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak becomes what is resident now


def _peak_mib(device: str) -> float | None:
    """The most memory since the last reset: allocated on the GPU, or resident of the process, weights included."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def machine(device: str) -> dict[str, Any]:
    """Where it was measured, and with what."""
    return {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": version("transformers"),
            "numpy": np.__version__,
        },
    }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", choices=["all", *MODELS], default="all")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="default: bfloat16 on a GPU")
    parser.add_argument("--real-shapes", action="store_true", help="published sizes, random weights; needs a GPU")
    parser.add_argument("--tiny", action="store_true", help="with --real-shapes: the same at tiny sizes")
    parser.add_argument("--videos", type=int, default=8, help="in a call")
    parser.add_argument("--frames", type=int, help="default: 16, real 81")
    parser.add_argument("--height", type=int, help="default: 64, real 480")
    parser.add_argument("--width", type=int, help="default: 64, real 832")
    parser.add_argument("--fps", type=float, default=16)
    parser.add_argument("--micro-batch-pixels", type=int, help="default: the model's own")
    parser.add_argument("--rounds", type=int, default=7, help="at least")
    parser.add_argument("--seconds", type=float, default=10, help="at least, per model")
    parser.add_argument("--threads", type=int, help="default: torch's own")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    given = parser.parse_args(arguments)
    given.dtype = given.dtype or ("bfloat16" if given.device.startswith("cuda") else "float32")
    is_large = given.real_shapes and not given.tiny
    for name, usual, real in (("frames", 16, 81), ("height", 64, 480), ("width", 64, 832)):
        setattr(given, name, getattr(given, name) or (real if is_large else usual))
    return given


def main(arguments: list[str]) -> dict[str, Any]:
    given = parse(arguments)
    if given.model != "all":
        return {"models": {given.model: measure(given.model, given)}, **machine(given.device)}
    found = [_apart([*arguments, "--model", name, "--json"]) for name in MODELS]
    models = {name: one["models"][name] for name, one in zip(MODELS, found, strict=True)}
    return {**found[0], "models": models}


def _apart(arguments: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.rewards", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def table(result: dict[str, Any]) -> str:
    lines = [f"{'':<12}{'videos/s':>10}{'/ fixed batch':>15}{'/ one by one':>14}{'mixed / 1 by 1':>16}{'peak MiB':>10}"]
    for name, one in result["models"].items():
        mixed = one["mixed_over_one_by_one"]
        lines.append(
            f"{name:<12}{one['videos_per_s']['together']:>10.2f}{one['over_fixed_batch']:>15.3f}"
            f"{one['over_one_by_one']:>14.2f}{'' if mixed is None else f'{mixed:.2f}':>16}"
            f"{one['peak_mib']['together'] or 0:>10.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    result = main(sys.argv[1:])
    print(json.dumps(result) if "--json" in sys.argv else table(result))
