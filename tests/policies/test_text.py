from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from policies.errors import InputError
from policies.text import PromptEmbeddings
from tests.policies.families import tiny

Folder = Callable[[str], Path]


def encoder_in_memory() -> list[nn.Module]:
    gc.collect()
    return [
        thing
        for thing in gc.get_objects()
        if issubclass(type(thing), nn.Module) and "EncoderModel" in type(thing).__name__
    ]


class Recorder:
    """An encoder that remembers what it was asked."""

    def __init__(self) -> None:
        self.loads = 0
        self.texts: list[str] = []

    def load(self) -> Callable[[str, int], Tensor]:
        self.loads += 1
        return self.encode

    def encode(self, text: str, length: int) -> Tensor:
        self.texts.append(text)
        embedding = torch.zeros(length, 4)
        embedding[: len(text)] = float(len(text))
        return embedding


def test_a_seen_prompt_needs_no_encoder() -> None:
    recorder = Recorder()
    embeddings = PromptEmbeddings(recorder.load)
    first = embeddings.embed(["ab", "abc", "ab"], max_sequence_length=8)
    embeddings.release()
    again = embeddings.embed(["abc", "ab"], max_sequence_length=8)
    assert recorder.loads == 1 and recorder.texts == ["ab", "abc"]
    assert not embeddings.is_loaded
    assert torch.equal(again[0], first[1]) and torch.equal(again[1], first[0])
    embeddings.embed(["new"], max_sequence_length=8)
    assert recorder.loads == 2


def test_another_length_is_another_embedding() -> None:
    recorder = Recorder()
    embeddings = PromptEmbeddings(recorder.load)
    assert embeddings.embed(["ab"], max_sequence_length=8)[0].shape == (8, 4)
    assert embeddings.embed(["ab"], max_sequence_length=5)[0].shape == (5, 4)
    assert len(recorder.texts) == 2


def test_changing_an_embedding_does_not_change_the_cache() -> None:
    embeddings = PromptEmbeddings(Recorder().load)
    embeddings.embed(["ab"], max_sequence_length=8)[0].zero_()
    assert embeddings.embed(["ab"], max_sequence_length=8)[0].sum() == 2 * 2 * 4


def test_numbers_that_are_not_finite_are_refused() -> None:
    embeddings = PromptEmbeddings(lambda: lambda text, length: torch.full((length, 4), float("nan")))
    with pytest.raises(InputError, match="not finite"):
        embeddings.embed(["ab"], max_sequence_length=8)


@pytest.mark.parametrize("family", ["wan", "cogvideox"])
def test_embeddings_are_the_pipelines_own(family: str, tiny_folder: Folder) -> None:
    policy = tiny.load(tiny_folder(family))
    found = policy.embed(tiny.PROMPTS, max_sequence_length=tiny.TEXT_LENGTH)
    pipeline = DiffusionPipeline.from_pretrained(tiny_folder(family))
    expected_BLD = pipeline.encode_prompt(
        list(tiny.PROMPTS), do_classifier_free_guidance=False, max_sequence_length=tiny.TEXT_LENGTH
    )[0]
    torch.testing.assert_close(torch.stack(found), expected_BLD)


def test_wan_pads_with_zeros_behind_the_end_of_the_prompt(tiny_folder: Folder) -> None:
    policy = tiny.load(tiny_folder("wan"))
    short, long = (policy.embed(["a blue square"], max_sequence_length=length)[0] for length in (8, 16))
    assert short.shape == (8, tiny.TEXT_WIDTH) and long.shape == (16, tiny.TEXT_WIDTH)
    assert not short[4:].any() and not long[4:].any()  # three words and </s>
    assert short[:4].any(dim=1).all()
    torch.testing.assert_close(short[:4], long[:4])


def test_cogvideox_takes_exactly_its_own_text_length(tiny_folder: Folder) -> None:
    with pytest.raises(InputError, match="max_sequence_length to 16"):
        tiny.load(tiny_folder("cogvideox")).embed(["a"], max_sequence_length=226)


@pytest.mark.slow
def test_the_text_encoder_comes_for_an_unseen_prompt_and_leaves_memory_on_release(tiny_folder: Folder) -> None:
    before = len(encoder_in_memory())
    policy = tiny.load(tiny_folder("wan"))
    assert len(encoder_in_memory()) == before  # not loaded with the policy
    policy.embed(tiny.PROMPTS, max_sequence_length=8)
    assert len(encoder_in_memory()) > before
    policy.release_text_encoder()
    policy.release_text_encoder()  # harmless
    assert len(encoder_in_memory()) == before
    policy.embed(tiny.PROMPTS, max_sequence_length=8)
    assert len(encoder_in_memory()) == before  # all seen
