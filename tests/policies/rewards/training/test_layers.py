"""Trained parts beside frozen weights."""

import torch
from torch import nn

from policies.rewards.training.layers import TrainedLora, TrainedRows


def lora(dropout: float = 0.0) -> TrainedLora:
    torch.manual_seed(0)
    return TrainedLora(nn.Linear(6, 4), rank=2, alpha=4, dropout=dropout, seed=1, name="layer")


def test_a_new_lora_changes_nothing_and_learns() -> None:
    layer, x = lora(), torch.randn(3, 6)
    assert torch.equal(layer(x), layer.base(x))
    layer(x).sum().backward()
    assert layer.base.weight.grad is None
    assert layer.lora_b.grad is not None and layer.lora_b.grad.abs().sum() > 0


def test_the_update_is_scaled_by_alpha_over_rank() -> None:
    layer, x = lora(), torch.randn(3, 6)
    nn.init.normal_(layer.lora_b)
    expected = layer.base(x) + 2.0 * x @ layer.lora_a.T @ layer.lora_b.T
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_dropout_is_for_training_only() -> None:
    layer, x = lora(dropout=0.5), torch.randn(3, 6)
    nn.init.normal_(layer.lora_b)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_the_same_name_and_seed_draw_the_same_lora() -> None:
    assert torch.equal(lora().lora_a, lora().lora_a)
    other = TrainedLora(nn.Linear(6, 4), rank=2, alpha=4, dropout=0, seed=1, name="other")
    assert not torch.equal(lora().lora_a, other.lora_a)


def test_lora_is_float32_beside_a_bfloat16_layer() -> None:
    layer = TrainedLora(nn.Linear(6, 4).bfloat16(), rank=2, alpha=4, dropout=0, seed=1, name="layer")
    assert layer.lora_a.dtype == torch.float32
    assert layer(torch.randn(3, 6).bfloat16()).dtype == torch.bfloat16


def test_only_the_rows_of_some_tokens_are_trained() -> None:
    table = nn.Embedding(7, 3)
    embedding, ids = TrainedRows(table, [5, 2]), torch.tensor([[0, 5, 2], [2, 2, 6]])
    assert torch.equal(embedding(ids), table(ids))
    embedding(ids).sum().backward()
    assert table.weight.grad is None
    assert embedding.rows_KE.grad is not None
    assert embedding.rows_KE.grad.tolist() == [[1, 1, 1], [3, 3, 3]]


def test_the_whole_embedding_has_the_trained_rows_in_place() -> None:
    table = nn.Embedding(7, 3)
    embedding = TrainedRows(table, [5, 2])
    with torch.no_grad():
        embedding.rows_KE.copy_(torch.tensor([[1.0, 1, 1], [2, 2, 2]]))
    whole = embedding.whole()
    assert whole[5].tolist() == [1, 1, 1] and whole[2].tolist() == [2, 2, 2]
    assert torch.equal(whole[:2], table.weight[:2])
    assert torch.equal(embedding(torch.arange(7)), whole)
