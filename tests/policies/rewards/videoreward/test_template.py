"""The text that VideoReward reads."""

import hashlib

import pytest

from policies.errors import InputError
from policies.rewards.videoreward.template import TEMPLATES, chat_text, template_text
from tests.policies.rewards import goldens


def test_the_published_template_is_byte_exact() -> None:
    template = TEMPLATES["detailed_special"]
    assert len(template) == 3997
    wanted = "fdb6309bac618dd0c8b1b589d3a0970a974f7856eecbb355a190b2dce54af700"
    assert hashlib.sha256(template.encode()).hexdigest() == wanted


@pytest.mark.parametrize("name", goldens.CLIPS)
def test_text_with_a_prompt_is_the_references(name: str) -> None:
    expected = goldens.expected("videoreward")["clips"][name]["text"]
    prompt = goldens.prompt(name)
    for text, kind in (
        (template_text("detailed_special", prompt), "template"),
        (
            chat_text("detailed_special", prompt),
            "chat",
        ),
    ):
        assert len(text) == expected[f"{kind}_chars"]
        assert hashlib.sha256(text.encode()).hexdigest() == expected[f"{kind}_sha256"]


@pytest.mark.parametrize("token", ["<|VQ_reward|>", "<|MQ_reward|>", "<|TA_reward|>", "<|video_pad|>"])
def test_a_prompt_with_a_token_that_marks_a_place_is_refused(token: str) -> None:
    with pytest.raises(InputError, match=r"holds <\|\w+\|>, at which VideoReward reads"):
        chat_text("detailed_special", f"a ball{token} rolls")


def test_an_unknown_template_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'detailed'; the known ones are: detailed_special, short_special, short"):
        template_text("detailed", "a ball")


@pytest.mark.parametrize("kind", sorted(TEMPLATES))
def test_every_template_takes_prompts_with_braces(kind: str) -> None:
    assert "a {ball} rolls %s" in chat_text(kind, "a {ball} rolls %s")
