"""Flow-matching pre-training."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from policies.pretrain import PretrainConfig, flow_matching_loss, padded, pretrain


class TinyTransformer(nn.Module):
    """Called like WanTransformer3DModel; remembers the text lengths it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4)])
        self.lengths: list[int] = []

    def forward(
        self, hidden_states: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, return_dict: bool
    ) -> tuple[Tensor]:
        self.lengths.append(encoder_hidden_states.shape[1])
        return (self.blocks[0](hidden_states.transpose(1, -1)).transpose(1, -1),)


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    rng = torch.Generator().manual_seed(0)
    while True:
        yield torch.randn(3, 4, 2, 2, 4, generator=rng), torch.ones(3, 7, 5)


def tiny_transformer() -> TinyTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyTransformer()


def trained(seed: int) -> TinyTransformer:
    model = tiny_transformer()
    pretrain(model, batches(), PretrainConfig(steps=40, warmup_steps=2), seed=seed)
    return model


class Oracle(nn.Module):
    """Knows the velocity; checks what it is told."""

    def __init__(self, latents: Tensor, noise: Tensor) -> None:
        super().__init__()
        self.latents, self.noise = latents, noise

    def forward(self, hidden_states: Tensor, timestep: Tensor, **_: object) -> tuple[Tensor]:
        t = timestep.view(-1, 1, 1, 1, 1) / 1000
        assert torch.allclose(hidden_states, (1 - t) * self.latents + t * self.noise, atol=1e-6)
        return (self.noise - self.latents,)


def test_the_loss_is_zero_for_noise_minus_latents_at_timestep_1000_t() -> None:
    latents, noise = torch.randn(2, 3, 4, 1, 2, 2)
    time = torch.tensor([0.1, 0.5, 0.9])
    assert flow_matching_loss(Oracle(latents, noise), latents, torch.ones(3, 2, 5), time, noise) < 1e-10


def test_padding_adds_zeros_behind_and_never_cuts() -> None:
    embeds = torch.ones(2, 3, 4)
    assert padded(embeds, 5).shape == (2, 5, 4)
    assert padded(embeds, 5)[:, 3:].abs().sum() == 0
    assert torch.equal(padded(embeds, 2), embeds)


def test_all_text_lengths_are_used_at_about_their_share() -> None:
    lengths = trained(seed=1).lengths
    assert set(lengths) == {8, 32, 512}
    assert lengths.count(8) > lengths.count(32)


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    one, two, other = trained(seed=1), trained(seed=1), trained(seed=2)
    assert torch.equal(one.blocks[0].weight, two.blocks[0].weight)
    assert not torch.equal(one.blocks[0].weight, other.blocks[0].weight)


def test_training_lowers_the_loss() -> None:
    seen: list[float] = []
    model = tiny_transformer()
    black = iter(lambda: (torch.zeros(8, 4, 2, 2, 4), torch.ones(8, 7, 5)), None)  # then the velocity is the noise
    config = PretrainConfig(steps=80, warmup_steps=2, lr=0.2)
    pretrain(model, black, config, seed=0, progress=lambda done, steps, loss: seen.append(loss))
    assert len(seen) == 80
    assert sum(seen[-10:]) < 0.5 * sum(seen[:10])
    assert not model.training


@pytest.mark.parametrize("lengths", [{}, {8: 0.0}])
def test_text_lengths_without_a_share_are_refused(lengths: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="text_lengths"):
        PretrainConfig(text_lengths=lengths)
