"""Token ids of the whole input."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from policies.errors import InputError
from policies.rewards.videoreward.tokens import RewardTokenizer
from tests.policies.rewards import goldens

FOLDER = goldens.FOLDER / "videoreward" / "VideoReward" / "checkpoint-11352" / "tokenizer"


@pytest.mark.parametrize("name", goldens.CLIPS)
def test_ids_are_the_references(name: str) -> None:
    tokenizer = RewardTokenizer.load(FOLDER, template_type="detailed_special")
    expected = goldens.expected("videoreward")["clips"][name]["tokens"]
    ids = tokenizer.encode(goldens.prompt(name), video_tokens=expected["video_tokens"])
    assert len(ids) == expected["length"]
    assert goldens.sha256(ids.numpy().astype("<i8")) == expected["sha256_int64"]
    assert tokenizer.video_token_id == expected["video_token_id"]
    assert dict(zip(("VQ", "MQ", "TA"), tokenizer.reward_token_ids, strict=True)) == expected["special_token_ids"]
    positions = np.flatnonzero(np.isin(ids.numpy(), tokenizer.reward_token_ids)).tolist()
    assert positions == expected["special_positions"]


def test_its_length_counts_the_reward_tokens() -> None:
    assert len(RewardTokenizer.load(FOLDER, template_type="detailed_special")) == 457


def test_a_tokenizer_without_the_reward_tokens_is_refused_unless_nothing_is_read_there() -> None:
    base = goldens.FOLDER / "videoreward" / "base"
    with pytest.raises(InputError, match=r"tokenizer.json has no token <\|VQ_reward\|>; take the tokenizer that was"):
        RewardTokenizer.load(base, template_type="detailed_special")
    assert RewardTokenizer.load(base, template_type="short").reward_token_ids == ()


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer.json is missing"):
        RewardTokenizer.load(tmp_path, template_type="short")
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"tokenizer.json cannot be read as a tokenizer"):
        RewardTokenizer.load(tmp_path, template_type="short")


def test_padding_and_truncation_of_the_file_are_not_used(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "tokenizer.json", tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    content["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    tokenizer = RewardTokenizer.load(tmp_path, template_type="detailed_special")
    assert len(tokenizer.encode("a ball", video_tokens=540)) > 2000
