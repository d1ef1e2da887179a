"""The prompts of the moving-shapes world and their split."""

import subprocess
import sys

import pytest

from policies.shapes.prompts import (
    ALL_PROMPTS,
    TEST_PROMPTS,
    TRAIN_PROMPTS,
    VALIDATION_PROMPTS,
    VALUES,
    Attributes,
    parse_prompt,
)


def test_the_three_splits_are_disjoint_and_cover_all_prompts() -> None:
    assert (len(TRAIN_PROMPTS), len(VALIDATION_PROMPTS), len(TEST_PROMPTS)) == (104, 16, 24)
    assert sorted(TRAIN_PROMPTS + VALIDATION_PROMPTS + TEST_PROMPTS) == sorted(ALL_PROMPTS)
    assert len(set(ALL_PROMPTS)) == 144


@pytest.mark.parametrize("split", [TRAIN_PROMPTS, VALIDATION_PROMPTS, TEST_PROMPTS])
def test_every_split_holds_every_attribute_value(split: tuple[str, ...]) -> None:
    seen = [parse_prompt(prompt) for prompt in split]
    for name, values in VALUES.items():
        assert {getattr(attributes, name) for attributes in seen} == set(values)


def test_a_prompt_reads_back_as_it_was_written() -> None:
    assert all(parse_prompt(prompt).prompt == prompt for prompt in ALL_PROMPTS)
    assert parse_prompt("  A Red  circle moving left SLOWLY ").prompt == "a red circle moving left slowly"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'a red circle moving left slowly'"),
        ("a cat on a mat", "'a cat on a mat' is not of the moving-shapes world"),
        ("a red circle moving left slowly today", "knows only"),
        ("a pink circle moving left slowly", "'pink' is no colour of this world.*magenta"),
        ("a red circel moving left slowly", "did you mean 'circle'"),
        ("a red circle moving north slowly", "'north' is no direction"),
        ("a red circle moving left fast", "'fast' is no speed"),
    ],
)
def test_text_from_outside_the_world_is_refused_with_what_fits(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_prompt(text)


def test_attributes_refuse_an_unknown_value() -> None:
    with pytest.raises(ValueError, match="shape 'star'"):
        Attributes(colour="red", shape="star", direction="up", speed="slowly")


def test_the_prompt_lists_import_neither_torch_nor_numpy() -> None:
    code = "import sys, policies.shapes.prompts; sys.exit(any(m in sys.modules for m in ('torch', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
