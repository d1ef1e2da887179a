"""The toy AutoencoderKLWan: parallel passes, folding, and determinism of its training."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from policies.shapes.prompts import ALL_PROMPTS
from policies.shapes.vae import (
    VaeTraining,
    decode_parallel,
    encode_parallel,
    folded,
    new_vae,
    to_clips,
    to_video,
    train_vae,
)
from policies.shapes.world import render_batch

VIDEO = to_video(render_batch(ALL_PROMPTS[:4], np.random.default_rng(0)))


@torch.no_grad()
def assert_parallel_equals_chunked(vae: AutoencoderKLWan, video: torch.Tensor) -> None:
    latents = vae.encode(video).latent_dist.mode()
    scale = latents.abs().max()
    assert (encode_parallel(vae, video) - latents).abs().max() < 1e-5 * scale
    assert (decode_parallel(vae, latents) - vae.decode(latents).sample).abs().max() < 1e-5


def test_parallel_passes_equal_the_class_of_wan_2_2_style() -> None:
    assert_parallel_equals_chunked(new_vae(16).eval(), VIDEO)


@pytest.mark.parametrize("frames", [1, 5])
def test_parallel_passes_equal_the_class_at_other_lengths(frames: int) -> None:
    assert_parallel_equals_chunked(new_vae(16).eval(), VIDEO[:, :, :frames])


def test_parallel_passes_equal_the_class_of_wan_2_1_style() -> None:
    vae = AutoencoderKLWan(base_dim=8, z_dim=4, dim_mult=[1, 2, 2], num_res_blocks=1, temperal_downsample=[False, True])
    assert_parallel_equals_chunked(vae.eval(), VIDEO)


def test_clips_and_videos_convert_exactly() -> None:
    clips = render_batch(ALL_PROMPTS[:2], np.random.default_rng(1))
    assert np.array_equal(to_clips(to_video(clips)), clips)


@torch.no_grad()
def test_folding_all_channels_changes_no_picture_and_whitens() -> None:
    vae = new_vae(8).eval()
    torch.nn.init.zeros_(vae.post_quant_conv.bias)
    latents = encode_parallel(vae, VIDEO)
    new = folded(vae, latents, 8)
    again = encode_parallel(new, VIDEO)
    assert (decode_parallel(new, again) - decode_parallel(vae, latents)).abs().max() < 1e-4
    assert again.mean((0, 2, 3, 4)).abs().max() < 1e-3
    assert again.var((0, 2, 3, 4)).mean() == pytest.approx(1.0, abs=0.02)
    assert folded(vae, latents, 3).config.z_dim == 3


@torch.no_grad()
def test_a_folded_posterior_is_as_good_as_certain() -> None:
    vae = new_vae(8).eval()
    posterior = folded(vae, encode_parallel(vae, VIDEO), 4).encode(VIDEO).latent_dist
    assert posterior.std.max() < 1e-3


def test_training_is_deterministic_and_leaves_the_global_random_state_alone() -> None:
    training = VaeTraining(steps=2, batch_size=2, whitening_clips=8)
    state = torch.get_rng_state()
    one, two = train_vae(training, seed=5), train_vae(training, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    other = train_vae(training, seed=6)
    pairs = list(zip(one.parameters(), two.parameters(), strict=True))
    assert all(torch.equal(left, right) for left, right in pairs)
    assert not torch.equal(one.encoder.conv_in.weight, other.encoder.conv_in.weight)
