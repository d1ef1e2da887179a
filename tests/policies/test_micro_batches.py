import warnings

import numpy as np
import pytest
import torch

from policies.config import ObjectiveConfig
from policies.errors import InputError
from policies.micro_batches import Item, MicroBatch, items_of, micro_batches
from tests.policies.pairs import pair, random_latents, random_pairs
from tests.policies.toy_policy import SHAPE, WIDE_SHAPE, ToyPolicy


def packed(items: list[Item], *, pairs_per_forward: int | None = None) -> list[MicroBatch]:
    policy = ToyPolicy()
    texts = sorted({item.pair.prompt.text for item in items})
    return list(
        micro_batches(
            items,
            policy=policy,
            embeddings=dict(zip(texts, policy.embed(texts, max_sequence_length=3), strict=True)),
            objective=ObjectiveConfig(),
            run_seed=0,
            batch_index=0,
            pairs_per_forward=pairs_per_forward,
        )
    )


def test_ranks_hold_each_item_once_and_number_it_alike() -> None:
    pairs = random_pairs(3)
    shares = [items_of(pairs, draws_per_pair=3, rank=rank, world_size=4) for rank in range(4)]
    whole = items_of(pairs, draws_per_pair=3)
    assert [item.index for item in whole] == list(range(9))
    assert sorted((item for share in shares for item in share), key=lambda item: item.index) == whole
    assert [len(share) for share in shares] == [3, 2, 2, 2]
    assert [(item.pair.group_id, item.draw) for item in whole[2:5]] == [("g0", 2), ("g1", 0), ("g1", 1)]


def test_chosen_and_rejected_share_noise_and_time_and_keep_their_own_latents() -> None:
    chosen, rejected = random_latents(1), random_latents(2)
    (micro,) = packed(items_of([pair(chosen, rejected)], draws_per_pair=2))
    assert micro.samples == 4
    t_chosen, t_rejected = micro.t_S.chunk(2)
    assert torch.equal(t_chosen, t_rejected) and t_chosen[0] != t_chosen[1]
    target_chosen, target_rejected = micro.target_S.chunk(2)
    noise = target_chosen + chosen
    torch.testing.assert_close(noise, target_rejected + rejected)
    assert not torch.equal(noise[0], noise[1])  # another draw, other noise
    sigma = t_chosen.reshape(-1, 1, 1, 1, 1) / 1000
    noisy_chosen, noisy_rejected = micro.noisy_S.chunk(2)
    torch.testing.assert_close(noisy_chosen, (1 - sigma) * chosen + sigma * noise)
    torch.testing.assert_close(noisy_rejected, (1 - sigma) * rejected + sigma * noise)
    torch.testing.assert_close(micro.noise_error_weight_B, (1 - t_chosen / 1000) ** 2)


def test_micro_batches_never_mix_shapes_and_hold_at_most_so_many_items() -> None:
    items = items_of(random_pairs(5, shapes=(SHAPE, WIDE_SHAPE)), draws_per_pair=2)
    sizes = [(tuple(part.noisy_S.shape[1:]), len(part.items)) for part in packed(items, pairs_per_forward=4)]
    assert sizes == [((2, 3, 4, 4), 4), ((2, 3, 4, 4), 2), ((2, 2, 4, 6), 4)]
    assert [len(part.items) for part in packed(items)] == [6, 4]


def test_a_draw_does_not_depend_on_the_micro_batch_it_lies_in() -> None:
    items = items_of(random_pairs(3), draws_per_pair=2)
    (whole,) = packed(items)
    (alone,) = packed(items[3:4])
    assert torch.equal(whole.noisy_S[[3, 9]], alone.noisy_S)
    assert torch.equal(whole.t_S[[3, 9]], alone.t_S)


def test_each_row_is_predicted_at_its_own_time() -> None:
    policy = ToyPolicy()
    (micro,) = packed(items_of(random_pairs(2), draws_per_pair=2))
    forward = micro.forward(policy)
    together = forward(slice(0, 8))
    one_by_one = torch.cat([forward(slice(row, row + 1)) for row in range(8)])
    torch.testing.assert_close(together, one_by_one)
    torch.testing.assert_close(micro.forward(policy, [6, 1])(slice(0, 2)), together[[6, 1]])


def test_read_only_arrays_are_taken_without_a_warning() -> None:
    chosen, rejected = random_latents(1).numpy(), random_latents(2).numpy()
    chosen.flags.writeable = rejected.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (from_arrays,) = packed(items_of([pair(chosen, rejected)], draws_per_pair=1))
    (from_tensors,) = packed(items_of([pair(random_latents(1), random_latents(2))], draws_per_pair=1))
    assert torch.equal(from_arrays.noisy_S, from_tensors.noisy_S)


def test_latents_of_another_layout_are_refused() -> None:
    swapped = random_latents(1).movedim(0, 1)
    with pytest.raises(InputError, match=r"g0 has latents of shape \(3, 2, 4, 4\).*\(2, 3, 4, 4\)"):
        packed(items_of([pair(random_latents(1), swapped)], draws_per_pair=1))


def test_an_unresolved_handle_is_refused() -> None:
    with pytest.raises(InputError, match="latents of type NoneType"):
        packed(items_of([pair(None, None)], draws_per_pair=1))


def test_the_spread_of_latents_is_that_of_the_clean_ones() -> None:
    chosen, rejected = random_latents(1), 3 * random_latents(2)
    (micro,) = packed(items_of([pair(chosen, rejected)], draws_per_pair=1))
    np.testing.assert_allclose(micro.latent_std_S, [chosen.std(), rejected.std()], rtol=1e-6)
