"""The world's reward model as a class; what it has learned is tested with the shipped folder."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from policies.shapes.prompts import ALL_PROMPTS
from policies.shapes.reward import ShapesRewardModel, new_reward_model
from policies.shapes.text import new_tokenizer

MODEL = new_reward_model(0).eval()
FRAMES = torch.rand(2, 9, 32, 32, 3, generator=torch.Generator().manual_seed(0))
PROMPTS = [ALL_PROMPTS[0], ALL_PROMPTS[143]]


def test_scores_are_one_row_per_clip_and_have_a_gradient_to_the_frames() -> None:
    frames = FRAMES.clone().requires_grad_()
    scores = MODEL.score_frames(frames, PROMPTS)
    assert scores.shape == (2, 3)
    assert scores.dtype == torch.float32
    for dimension in range(3):
        (gradient,) = torch.autograd.grad(scores[:, dimension].sum(), frames, retain_graph=True)
        assert all(part.abs().sum() > 0 for part in gradient)


def test_only_text_alignment_depends_on_the_prompt() -> None:
    one, two = MODEL.score_frames(FRAMES, PROMPTS), MODEL.score_frames(FRAMES, PROMPTS[::-1])
    assert torch.equal(one[:, :2], two[:, :2])
    assert not torch.equal(one[:, 2], two[:, 2])


def test_text_alignment_is_a_sum_over_the_words_of_the_prompt() -> None:
    frames = FRAMES[:1].expand(4, -1, -1, -1, -1)
    texts = [f"a {colour} {shape} moving up slowly" for colour in ("red", "blue") for shape in ("circle", "square")]
    red_circle, red_square, blue_circle, blue_square = MODEL.score_frames(frames, texts)[:, 2]
    assert torch.allclose(red_circle - red_square, blue_circle - blue_square, atol=1e-5)


def test_a_clip_scores_alike_alone_and_in_a_batch() -> None:
    alone, batch = MODEL.score_frames(FRAMES[:1], PROMPTS[:1]), MODEL.score_frames(FRAMES, PROMPTS)
    assert torch.allclose(alone, batch[:1], atol=1e-5)


def test_its_own_token_ids_are_those_of_the_tokenizer() -> None:
    assert MODEL.token_ids(ALL_PROMPTS).tolist() == new_tokenizer()(list(ALL_PROMPTS)).input_ids


def test_padding_of_the_token_ids_changes_no_score() -> None:
    padded = new_tokenizer()(PROMPTS, padding="max_length", max_length=32, return_tensors="pt").input_ids
    assert torch.allclose(MODEL(FRAMES, padded), MODEL.score_frames(FRAMES, PROMPTS), atol=1e-6)


def test_the_auto_classes_load_what_was_saved(tmp_path: Path) -> None:
    MODEL.save_pretrained(tmp_path)
    new_tokenizer().save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).dimensions == ["VQ", "MQ", "TA"]
    for loaded in (AutoModel.from_pretrained(tmp_path), ShapesRewardModel.from_pretrained(tmp_path)):
        weights = loaded.state_dict()
        assert all(torch.equal(weights.pop(name), weight) for name, weight in MODEL.state_dict().items())
        assert not weights
        # where weights lie in memory decides how a matrix product rounds
        torch.testing.assert_close(loaded.eval().score_frames(FRAMES, PROMPTS), MODEL.score_frames(FRAMES, PROMPTS))
    assert AutoTokenizer.from_pretrained(tmp_path)(PROMPTS).input_ids == MODEL.token_ids(PROMPTS).tolist()
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".bin", ".pt", ".py")]


def test_wrong_input_is_refused_with_what_is_expected() -> None:
    with pytest.raises(ValueError, match=r"takes \(9, 32, 32, 3\)"):
        MODEL.score_frames(FRAMES.permute(0, 1, 4, 2, 3), PROMPTS)
    with pytest.raises(ValueError, match="2 clips but 1 prompts"):
        MODEL.score_frames(FRAMES, PROMPTS[:1])
    with pytest.raises(ValueError, match="not of the moving-shapes world"):
        MODEL.score_frames(FRAMES, ["a dog", "a cat"])


def test_no_clip_gives_no_score() -> None:
    assert MODEL.score_frames(FRAMES[:0], []).shape == (0, 3)
