"""The bundled example clips: something to score before one has videos of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from policies.errors import InputError

PREFIX = "shapes:"
FOLDER = Path(__file__).parent / "assets" / "clips"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleClip:
    """A rendered clip: its prompt, the seed of its rendering, and the faults that were put in."""

    prompt: str
    seed: int
    visual: float = 0.0
    motion: float = 0.0
    wrong: tuple[str, ...] = ()


CLIPS = {
    "circle": ExampleClip(prompt="a red circle moving left slowly", seed=0),
    "square": ExampleClip(prompt="a blue square moving right quickly", seed=1),
    "square-jittery": ExampleClip(prompt="a blue square moving right quickly", seed=1, motion=0.8),
    "triangle-wrong-colour": ExampleClip(prompt="a yellow triangle moving up slowly", seed=2, wrong=("colour",)),
}


def clip_path(clip: str) -> Path:
    """The file of a clip as people name it: `shapes:NAME` for a bundled one, else a path."""
    if not clip.startswith(PREFIX):
        return Path(clip)
    name = clip.removeprefix(PREFIX)
    if name not in CLIPS:
        raise InputError(f"there is no bundled clip {clip}; there are {', '.join(PREFIX + name for name in CLIPS)}")
    return FOLDER / f"{name}.mp4"


def write_clips(folder: Path) -> None:
    """Renders all of them into a folder. The same encoder gives the same bytes."""
    import numpy as np

    from policies.shapes.world import FPS, Corruption, render
    from policies.video import write_video

    folder.mkdir(parents=True, exist_ok=True)
    for name, clip in CLIPS.items():
        faults = Corruption(visual=clip.visual, motion=clip.motion, wrong=clip.wrong)
        write_video(folder / f"{name}.mp4", render(clip.prompt, np.random.default_rng(clip.seed), faults), fps=FPS)
