"""The 144 prompts of the world and their split. Imports nothing heavy: command lines and validators read it.

A prompt is "a {colour} {shape} moving {direction} {speed}". The split is a rule of arithmetic, not a shuffle, so it is
the same on every Python and balanced: the 24 test prompts hold each (shape, direction, speed) once and each colour four
times; the 16 validation prompts hold every attribute value; the other 104 are for training.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from policies.errors import InputError

COLOURS = ("red", "green", "blue", "yellow", "magenta", "cyan")
SHAPES = ("circle", "square", "triangle")
DIRECTIONS = ("left", "right", "up", "down")
SPEEDS = ("slowly", "quickly")

VALUES: dict[str, tuple[str, ...]] = {"colour": COLOURS, "shape": SHAPES, "direction": DIRECTIONS, "speed": SPEEDS}
"""The attributes in the order in which a prompt names them, each with its values."""

ATTRIBUTE_WORDS: tuple[str, ...] = tuple(word for values in VALUES.values() for word in values)
WORDS: tuple[str, ...] = ("a", "moving", *ATTRIBUTE_WORDS)
"""Every word that a prompt can hold: the vocabulary of the world's tokenizer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What a clip shows: one value per attribute."""

    colour: str
    shape: str
    direction: str
    speed: str

    def __post_init__(self) -> None:
        for name, values in VALUES.items():
            if getattr(self, name) not in values:
                value = getattr(self, name)
                raise InputError(f"{name} {value!r} is not of this world; use one of {', '.join(values)}.")

    @property
    def prompt(self) -> str:
        return f"a {self.colour} {self.shape} moving {self.direction} {self.speed}"


def parse_prompt(text: str) -> Attributes:
    """The attributes that a prompt names. Case, outer and repeated spaces do not matter.

    Raises:
        InputError (a ValueError): the text is not a prompt of this world; says which word is wrong and what fits.
    """
    words = text.lower().split()
    form = "a {colour} {shape} moving {direction} {speed}"
    if len(words) != 6 or words[0] != "a" or words[3] != "moving":
        raise InputError(
            f"prompt {text!r} is not of the moving-shapes world, which knows only {form!r}; "
            "write it like 'a red circle moving left slowly'.",
            public=f"The prompt is not of the moving-shapes world, which knows only {form!r}; "
            "write it like 'a red circle moving left slowly'.",
        )
    found = dict(zip(VALUES, (words[1], words[2], words[4], words[5]), strict=True))
    for name, value in found.items():
        if value not in VALUES[name]:
            near = difflib.get_close_matches(value, VALUES[name], n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            known = ", ".join(VALUES[name])
            raise InputError(
                f"prompt {text!r}: {value!r} is no {name} of this world; {hint}Use one of {known}.",
                public=f"The prompt's {name} is not of the moving-shapes world; use one of {known}.",
            )
    return Attributes(**found)


def _all_attributes() -> Iterator[tuple[tuple[int, int, int, int], Attributes]]:
    for colour, shape, direction, speed in product(*(range(len(values)) for values in VALUES.values())):
        attributes = Attributes(
            colour=COLOURS[colour], shape=SHAPES[shape], direction=DIRECTIONS[direction], speed=SPEEDS[speed]
        )
        yield (colour, shape, direction, speed), attributes


def _split_of(colour: int, shape: int, direction: int, speed: int) -> str:
    residue = (colour + 2 * shape + direction + 3 * speed) % 6
    if residue == 0:
        return "test"
    return "validation" if residue == 3 and (shape + direction) % 3 else "train"


def _prompts_of(split: str) -> tuple[str, ...]:
    return tuple(attributes.prompt for index, attributes in _all_attributes() if _split_of(*index) == split)


TRAIN_PROMPTS: tuple[str, ...] = _prompts_of("train")
VALIDATION_PROMPTS: tuple[str, ...] = _prompts_of("validation")
TEST_PROMPTS: tuple[str, ...] = _prompts_of("test")
ALL_PROMPTS: tuple[str, ...] = tuple(attributes.prompt for _, attributes in _all_attributes())
