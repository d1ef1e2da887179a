"""From prompts to token ids."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from policies.errors import InputError
from policies.rewards.videoscore.idefics2_reader import Idefics2Reader
from policies.rewards.videoscore.template import frames_text, query_text
from policies.rewards.videoscore.tokens import load_tokenizer
from tests.policies.rewards import goldens
from tests.policies.rewards.videoscore.networks import RULES, frames_input

FOLDER = goldens.FOLDER / "videoscore" / "VideoScore"
CLIPS = goldens.expected("videoscore")["clips"]


@pytest.mark.parametrize("name", goldens.CLIPS)
def test_text_and_tokens_are_the_references(name: str) -> None:
    expected, frames = CLIPS[name], len(CLIPS[name]["sampling"]["indices"])
    text = frames_text(goldens.prompt(name), frames)
    assert len(text) == expected["text"]["chars"]
    assert hashlib.sha256(text.encode()).hexdigest() == expected["text"]["sha256"]
    assert goldens.sha256(frames_input(name).ids_L.numpy()) == expected["tokens"]["sha256_int64"]


def test_the_query_is_the_published_one_to_the_byte() -> None:
    digest = hashlib.sha256(query_text("{text_prompt}", reserved=()).encode()).hexdigest()
    assert digest == "49b386d9ea3003760c983cc258cf4211faf858d58191f95fcfacdf68a8fed2c0"


@pytest.mark.parametrize("token", ["<image>", "<fake_token_around_image>"])
def test_a_prompt_that_holds_an_image_token_is_refused(token: str) -> None:
    with pytest.raises(InputError, match=f"holds {token}, which marks a place in the input; remove it"):
        frames_text(f"a cat {token}", 2)


@pytest.mark.parametrize("token", ["<image>", "<fake_token_around_image>"])
def test_a_tokenizer_without_image_tokens_is_refused(token: str, tmp_path: Path) -> None:
    content = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    content["added_tokens"] = [added for added in content["added_tokens"] if added["content"] != token]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(InputError, match=f"tokenizer has no token {token}; take the tokenizer that was saved"):
        Idefics2Reader(tokenizer, source="the tokenizer", rules=RULES, tokens_per_frame=8, max_frames=16)


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "config.json", tmp_path / "tokenizer.json")
    with pytest.raises(InputError, match=r"tokenizer\.json cannot be read as a tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")
