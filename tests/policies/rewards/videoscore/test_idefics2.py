"""The Idefics2 network against the reference values, and against the mistakes that they list."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer
from transformers import MistralConfig

from policies.rewards.videoscore import idefics2, template, tokens
from policies.rewards.videoscore.idefics2 import idefics2_config, position_ids
from policies.rewards.videoscore.inputs import FramesInput
from tests.policies.rewards import goldens
from tests.policies.rewards.videoscore.networks import (
    EXPECTED,
    FOLDER,
    frames_input,
    logits,
    network,
    reader,
    reference,
)

TOLERANCE = EXPECTED["tolerance"]


def scores_of(*inputs: FramesInput, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    with torch.no_grad():
        return network(dtype)(inputs)


@pytest.mark.parametrize("name", goldens.CLIPS)
@pytest.mark.parametrize(("row", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_scores_are_the_references(name: str, row: str, dtype: torch.dtype) -> None:
    scores = scores_of(frames_input(name), dtype=dtype)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, reference(name, row), rtol=0, atol=TOLERANCE[f"logits_{row}_abs"])


@pytest.mark.parametrize("name", ["clip_a", pytest.param("clip_c", marks=pytest.mark.slow)])
def test_scores_of_48_frames_are_the_references(name: str) -> None:
    expected = logits(EXPECTED["other_frame_limit_fp32"]["clips"][name]["logits"])
    torch.testing.assert_close(scores_of(frames_input(name, 48)), expected, rtol=0, atol=TOLERANCE["logits_fp32_abs"])


@pytest.mark.slow
def test_videos_of_any_length_and_size_together_score_as_alone() -> None:
    inputs = [frames_input(name) for name in goldens.CLIPS]
    short = reader().read(torch.from_numpy(goldens.clip("clip_a").frames_FHWC[:2]), "a cat")
    together = scores_of(*inputs, short)
    alone = torch.cat([scores_of(each) for each in (*inputs, short)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=0)


def without_trailing_space(name: str) -> FramesInput:
    clip = frames_input(name)
    return replace(clip, ids_L=clip.ids_L[:-1])


def with_trimmed_lines(name: str) -> FramesInput:
    text = template.query_text(goldens.prompt(name), reserved=())
    trimmed = "\n".join(line.rstrip(" ") if "sub-score" in line else line for line in text.split("\n"))
    return replace(frames_input(name), ids_L=encode(trimmed, len(frames_input(name).frames_FCHW)))


def without_begin_of_sequence(name: str) -> FramesInput:
    clip = frames_input(name)
    return replace(clip, ids_L=clip.ids_L[1:])


def in_reverse(name: str) -> FramesInput:
    clip = frames_input(name)
    return replace(clip, frames_FCHW=clip.frames_FCHW.flip(0))


def with_another_space(name: str) -> FramesInput:
    """As a loader that puts no prefix before text between special tokens: the space is one mark, not two joined."""
    clip = frames_input(name)
    one_mark = network_tokenizer().token_to_id("▁")
    return replace(clip, ids_L=torch.where(clip.ids_L == clip.ids_L[-1], one_mark, clip.ids_L))


def network_tokenizer() -> Tokenizer:
    return tokens.load_tokenizer(FOLDER / "tokenizer.json")


def encode(text: str, frames: int) -> torch.Tensor:
    frame = template.FRAME_BORDER_TOKEN + template.IMAGE_TOKEN * 8 + template.FRAME_BORDER_TOKEN
    return torch.tensor(network_tokenizer().encode(text + f"{frame} " * frames).ids)


MISTAKES: dict[str, Callable[[str], FramesInput]] = {
    "trailing_space_removed": without_trailing_space,
    "template_without_trailing_spaces": with_trimmed_lines,
    "no_begin_of_sequence_token": without_begin_of_sequence,
    "frame_order_reversed": in_reverse,
    "space_after_frame_as_one_piece_instead_of_prefix_plus_space": with_another_space,
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_input_moves_scores_as_the_reference_says(mistake: str) -> None:
    moved = [(scores_of(MISTAKES[mistake](name)) - reference(name)).abs().max().item() for name in goldens.CLIPS]
    expected = EXPECTED["deviation_of_logits_under_faults_fp32"][mistake]
    assert max(moved) == pytest.approx(expected, abs=2 * TOLERANCE["logits_fp32_abs"])
    assert max(moved) > 100 * TOLERANCE["logits_fp32_abs"]


def library_position_ids(rows: int, columns: int, *, per_side: int) -> torch.Tensor:
    """As transformers computes them now: index times step, in float32."""
    boundaries = torch.arange(1 / per_side, 1.0, 1 / per_side)
    row_ids, column_ids = (
        torch.bucketize(
            (torch.arange(count).float() * (1.0 / torch.tensor(count))).clamp(max=1 - 1e-6), boundaries, right=True
        )
        for count in (rows, columns)
    )
    return (row_ids[:, None] * per_side + column_ids).flatten()


def test_buckets_from_float32_products_move_scores_at_49_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idefics2, "position_ids", library_position_ids)
    for name in goldens.CLIPS:
        moved = (scores_of(frames_input(name)) - reference(name)).abs().max().item()
        expected = EXPECTED["position_bucket_fault_per_clip"][name]
        assert moved == pytest.approx(expected, abs=2 * TOLERANCE["logits_fp32_abs"])


def test_buckets_differ_from_the_library_at_49_and_58_patches_only() -> None:
    differ = [
        count
        for count in range(1, 71)
        if not torch.equal(position_ids(count, 1, per_side=70), library_position_ids(count, 1, per_side=70))
    ]
    assert differ == [49, 58]


def test_buckets_do_not_depend_on_the_default_precision() -> None:
    position_ids.cache_clear()
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = {count: position_ids(count, 1, per_side=70) for count in (28, 29, 49, 58)}
    finally:
        torch.set_default_dtype(torch.float32)
    position_ids.cache_clear()
    for count, ids in found.items():
        assert len(ids) == count
        assert torch.equal(ids, position_ids(count, 1, per_side=70))


def test_the_perceiver_takes_width_and_epsilon_from_the_decoder() -> None:
    """At the published width of 4096 transformers' own defaults fit, but for the epsilon."""
    config = idefics2_config(
        {
            "image_token_id": 32001,
            "text_config": {"model_type": "mistral", "rms_norm_eps": 1e-5, "vocab_size": 32003},
            "vision_config": {"model_type": "idefics2"},
            "perceiver_config": {"model_type": "idefics2"},
        }
    )
    assert config.perceiver_config.hidden_size == MistralConfig().hidden_size == 4096
    assert config.perceiver_config.rms_norm_eps == 1e-5
