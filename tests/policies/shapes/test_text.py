"""The world's tokenizer and text encoder."""

from pathlib import Path

import torch
from transformers import AutoTokenizer, UMT5EncoderModel

from policies.shapes.prompts import ALL_PROMPTS
from policies.shapes.text import VOCABULARY, embed, new_text_encoder, new_tokenizer


def test_a_prompt_is_its_six_words_and_an_end() -> None:
    ids = new_tokenizer()("A red circle moving LEFT slowly").input_ids
    assert ids == [VOCABULARY[word] for word in ("a", "red", "circle", "moving", "left", "slowly", "</s>")]


def test_unknown_words_are_unknown_tokens() -> None:
    assert VOCABULARY["<unk>"] in new_tokenizer()("a pink circle moving left slowly").input_ids


def test_embeddings_differ_between_prompts_and_are_zero_behind_the_end() -> None:
    embeds = embed(new_tokenizer(), new_text_encoder(0), ALL_PROMPTS)
    assert embeds.shape == (144, 8, 32)
    assert embeds[:, 7:].abs().sum() == 0
    distance = torch.cdist(embeds.flatten(1), embeds.flatten(1)) + 100 * torch.eye(144)
    assert distance.min() > 0.1


def test_padding_leaves_the_embedding_of_a_prompt_as_it_is() -> None:
    tokenizer, encoder = new_tokenizer(), new_text_encoder(0)
    tokens = tokenizer([ALL_PROMPTS[0]], padding="max_length", max_length=40, return_tensors="pt")
    with torch.no_grad():
        hidden = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
    assert torch.allclose(hidden[:, :7], embed(tokenizer, encoder, ALL_PROMPTS[:1])[:, :7], atol=1e-6)


def test_saving_and_loading_changes_nothing(tmp_path: Path) -> None:
    new_tokenizer().save_pretrained(tmp_path)
    new_text_encoder(3).save_pretrained(tmp_path)
    loaded = UMT5EncoderModel.from_pretrained(tmp_path).eval()
    again = embed(AutoTokenizer.from_pretrained(tmp_path), loaded, ALL_PROMPTS[:3])
    assert torch.equal(again, embed(new_tokenizer(), new_text_encoder(3), ALL_PROMPTS[:3]))
    assert not torch.equal(again, embed(new_tokenizer(), new_text_encoder(4), ALL_PROMPTS[:3]))
