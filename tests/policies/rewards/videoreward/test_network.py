"""VideoReward's network at toy size; numbers of the reference are in test_reward."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from policies.errors import InputError
from policies.rewards.videoreward.network import RewardToken, VideoBatch, VideoInput, VideoRewardNetwork
from policies.rewards.videoreward.rotary import set_rotary
from tests.policies.rewards import goldens
from tests.policies.rewards.videoreward import tiny

VIDEOS = (
    tiny.video("a ball"),
    tiny.video("two long paper boats drift on a lake at dusk", frames=8),
    tiny.video("a cube turns", frames=2, size=(28, 56)),
)


def batch(*inputs: VideoInput) -> VideoBatch:
    return VideoBatch.of(inputs, pad_token_id=tiny.tokenizer().pad_token_id, device="cpu")


@torch.no_grad()
def scores(network: VideoRewardNetwork, *inputs: VideoInput) -> Tensor:
    return network(batch(*inputs))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("output_dim", "reward_token"), [(1, "special"), (3, "special"), (3, "last")])
def test_mixed_lengths_and_sizes_score_as_one_by_one(output_dim: int, reward_token: RewardToken) -> None:
    network = tiny.network(output_dim=output_dim, reward_token=reward_token)
    together = scores(network, *VIDEOS)
    assert together.shape == (3, 3) and together.dtype == torch.float32
    torch.testing.assert_close(together, torch.cat([scores(network, video) for video in VIDEOS]), rtol=1e-5, atol=1e-6)
    assert together.std() > 0.01


def test_a_shared_head_equals_three_equal_rows() -> None:
    shared, apart = tiny.network(output_dim=1), tiny.network(output_dim=3)
    weights = shared.state_dict()
    apart.load_state_dict(weights | {"rm_head.weight": weights["rm_head.weight"].expand(3, -1)})
    torch.testing.assert_close(scores(shared, *VIDEOS), scores(apart, *VIDEOS))


def test_each_row_of_the_head_is_read_at_its_own_token() -> None:
    network = tiny.network(output_dim=3)
    before = scores(network, *VIDEOS)
    with torch.no_grad():
        network.rm_head.weight[1] *= 2
    after = scores(network, *VIDEOS)
    torch.testing.assert_close(after, before * torch.tensor([1.0, 2.0, 1.0]))


def test_the_last_token_is_the_last_that_is_no_padding() -> None:
    network = tiny.network(output_dim=3, reward_token="last")
    longer = replace(VIDEOS[0], ids_L=torch.cat([VIDEOS[0].ids_L, torch.tensor([5])]))
    assert not torch.allclose(scores(network, VIDEOS[0]), scores(network, longer))
    torch.testing.assert_close(scores(network, VIDEOS[0], longer)[:1], scores(network, VIDEOS[0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_weight_and_the_patches(checkpointing: bool) -> None:
    network = tiny.network().train()
    if checkpointing:
        network.model.activation_checkpointing_enable()
    inputs = batch(*VIDEOS)
    inputs.patches_NP.requires_grad_()
    network(inputs).sum().backward()
    unused = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert unused == []
    assert inputs.patches_NP.grad is not None and bool(inputs.patches_NP.grad.any())


def test_bfloat16_on_cpu_takes_one_masked_softmax_and_stays_close() -> None:
    network = tiny.network()
    exact = scores(network, *VIDEOS)
    rounded = scores(network.bfloat16(), *VIDEOS)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.2


def test_published_frequencies_are_those_that_bfloat16_gives() -> None:
    network, expected = tiny.network(), goldens.expected("videoreward")["rotary_inverse_frequencies"]
    for rotary, row in ("exact", "fp32"), ("published", "bf16"):
        set_rotary(network.model, rotary)  # type: ignore[arg-type]
        text, vision = network.model.language_model.rotary_emb.inv_freq, network.model.visual.rotary_pos_emb.inv_freq
        assert text.tolist() == pytest.approx(expected[row]["text"], rel=1e-7)
        assert vision.tolist() == pytest.approx(expected[row]["vision"], rel=1e-7)


@pytest.mark.parametrize(("output_dim", "reward_token"), [(2, "special"), (1, "last")])
def test_a_head_that_fits_no_reading_is_refused(output_dim: int, reward_token: RewardToken) -> None:
    with pytest.raises(InputError, match=f"output_dim is {output_dim} with reward_token {reward_token}"):
        tiny.network(output_dim=output_dim, reward_token=reward_token)


def test_special_reading_needs_a_template_with_reward_tokens() -> None:
    with pytest.raises(InputError, match="the template has no reward tokens"):
        VideoRewardNetwork(tiny.network().model, output_dim=1, reward_token="special", reward_token_ids=())


def test_an_input_without_its_reward_tokens_is_refused() -> None:
    ids_L = VIDEOS[0].ids_L.clone()
    ids_L[ids_L == tiny.tokenizer().reward_token_ids[1]] = 5
    with pytest.raises(InputError, match="each reward token once"):
        scores(tiny.network(), replace(VIDEOS[0], ids_L=ids_L))
