"""What every family must do, on tiny models of the real classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from policies.errors import InputError, WeightsMismatchError
from policies.families.diffusers_policy import DiffusersPolicy
from policies.types import VideoShape
from tests.policies.families import tiny

FAMILIES = sorted(tiny.SHAPES)
Folder = Callable[[str], Path]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def policy(family: str, tiny_folder: Folder) -> DiffusersPolicy:
    return tiny.load(tiny_folder(family))


@pytest.fixture
def shape(family: str) -> VideoShape:
    return tiny.SHAPES[family]


def embedding(policy: DiffusersPolicy, text: str = tiny.PROMPTS[0]) -> Tensor:
    return policy.embed([text], max_sequence_length=tiny.TEXT_LENGTH)[0]


def latents(policy: DiffusersPolicy, shape: VideoShape, *, count: int = 3, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, *policy.latent_shape(shape), generator=rng)


def draw(policy: DiffusersPolicy, shape: VideoShape, seeds: list[int], *, guidance_scale: float = 1.0) -> Tensor:
    negative = embedding(policy, "blurry") if guidance_scale > 1 else None
    sampling = tiny.sampling(guidance_scale=guidance_scale)
    return policy.sample(embedding(policy), negative, seeds, shape=shape, sampling=sampling)


def plain_pipeline(folder: Path) -> DiffusionPipeline:
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def plain_draw(
    pipeline: DiffusionPipeline, shape: VideoShape, seeds: list[int], *, guidance_scale: float = 1.0
) -> Tensor:
    output: Tensor = pipeline(
        prompt=[tiny.PROMPTS[0]] * len(seeds),
        negative_prompt=["blurry"] * len(seeds),
        num_frames=shape.num_frames,
        height=shape.height,
        width=shape.width,
        num_inference_steps=3,
        guidance_scale=guidance_scale,
        max_sequence_length=tiny.TEXT_LENGTH,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="latent",
    ).frames
    return output


# -- the diffusion process ---------------------------------------------------------------------------------------------
def test_one_step_along_the_true_target_recovers_the_clean_latents(policy: DiffusersPolicy, shape: VideoShape) -> None:
    clean_B, noise_B = latents(policy, shape, seed=1), latents(policy, shape, seed=2)
    t_B = policy.times(torch.tensor([0.05, 0.5, 0.95]))
    noisy_B = policy.add_noise(clean_B, noise_B, t_B)
    found_B = policy.clean(noisy_B, policy.target(clean_B, noise_B, t_B), t_B)
    torch.testing.assert_close(found_B, clean_B, rtol=1e-4, atol=1e-5)


def test_noise_grows_with_u_from_almost_none_to_nothing_else(policy: DiffusersPolicy, shape: VideoShape) -> None:
    clean_B, noise_B = latents(policy, shape, seed=1), latents(policy, shape, seed=2)
    almost_clean_B = policy.add_noise(clean_B, noise_B, policy.times(torch.zeros(3)))
    all_noise_B = policy.add_noise(clean_B, noise_B, policy.times(torch.ones(3)))
    assert (almost_clean_B - clean_B).abs().mean() < 0.1
    torch.testing.assert_close(all_noise_B, noise_B)  # also CogVideoX: its terminal SNR is zero


def test_times_are_the_familys_own(policy: DiffusersPolicy) -> None:
    found_B = policy.times(torch.tensor([0.0, 0.2505, 1.0]))
    expected_B = torch.tensor([0.0, 250.5, 1000.0]) if policy.family == "wan" else torch.tensor([0, 250, 999])
    torch.testing.assert_close(found_B, expected_B)


def test_noise_error_weight_turns_prediction_errors_into_noise_errors(
    policy: DiffusersPolicy, shape: VideoShape
) -> None:
    """At a fixed x_t, an error of the prediction implies another clean latent and with it another noise."""
    clean_B, noise_B, error_B = (latents(policy, shape, seed=seed) for seed in (1, 2, 3))
    t_B = policy.times(torch.tensor([0.2, 0.5, 0.9]))
    noisy_B = policy.add_noise(clean_B, noise_B, t_B)
    prediction_B = policy.target(clean_B, noise_B, t_B) + error_B
    implied_clean_B = policy.clean(noisy_B, prediction_B, t_B)
    # x_t = add_noise(clean, 0) + scale * noise, so the implied noise is what is left of x_t.
    zeros_B = torch.zeros_like(clean_B)
    scale_B = policy.add_noise(zeros_B, torch.ones_like(clean_B), t_B)
    implied_noise_B = (noisy_B - policy.add_noise(implied_clean_B, zeros_B, t_B)) / scale_B
    found_B = (implied_noise_B - noise_B).square().flatten(1).sum(1)
    expected_B = policy.noise_error_weight(t_B) * error_B.square().flatten(1).sum(1)
    torch.testing.assert_close(found_B, expected_B, rtol=1e-3, atol=1e-4)


def test_cogvideox_agrees_with_its_noise_scheduler(tiny_folder: Folder) -> None:
    policy = tiny.load(tiny_folder("cogvideox"))
    clean_B, noise_B = (
        latents(policy, tiny.SHAPES["cogvideox"], seed=1),
        latents(policy, tiny.SHAPES["cogvideox"], seed=2),
    )
    t_B, scheduler = torch.tensor([3, 500, 999]), policy.pipeline.scheduler
    torch.testing.assert_close(policy.add_noise(clean_B, noise_B, t_B), scheduler.add_noise(clean_B, noise_B, t_B))
    torch.testing.assert_close(policy.target(clean_B, noise_B, t_B), scheduler.get_velocity(clean_B, noise_B, t_B))
    assert policy.noise_error_weight(torch.tensor([999])).item() == 0


# -- prediction --------------------------------------------------------------------------------------------------------
def test_each_sample_of_a_batch_has_its_own_time_and_prompt(policy: DiffusersPolicy, shape: VideoShape) -> None:
    noisy_B, t_B = latents(policy, shape), policy.times(torch.tensor([0.1, 0.5, 0.9]))
    embeddings = policy.embed(tiny.PROMPTS, max_sequence_length=tiny.TEXT_LENGTH)
    with torch.no_grad():
        together_B = policy.predict(noisy_B, t_B, embeddings)
        alone_B = torch.cat(
            [policy.predict(noisy_B[i : i + 1], t_B[i : i + 1], embeddings[i : i + 1]) for i in range(3)]
        )
        other_times_B = policy.predict(noisy_B, t_B.flip(0), embeddings)
        other_prompts_B = policy.predict(noisy_B, t_B, embeddings[::-1])
    torch.testing.assert_close(together_B, alone_B, rtol=1e-4, atol=1e-5)
    for changed_B in (other_times_B, other_prompts_B):
        assert (changed_B[0] - together_B[0]).abs().max() > 1e-5


def test_predictions_are_those_of_the_pipeline(policy: DiffusersPolicy, shape: VideoShape) -> None:
    """One step of the sampler from our own prediction is the pipeline's first step: time, layout and rotary agree."""
    seeds = [1, 2]
    sampled_B = policy.sample(embedding(policy), None, seeds, shape=shape, sampling=tiny.sampling(steps=1))
    noise_B = torch.stack(
        [torch.randn(policy.latent_shape(shape), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )
    policy.pipeline.scheduler.set_timesteps(1)
    t_B = policy.pipeline.scheduler.timesteps[:1].repeat(2)
    with torch.no_grad():
        prediction_B = policy.predict(noise_B, t_B, [embedding(policy)] * 2)
    step = policy.pipeline.scheduler.step(prediction_B, t_B[0], noise_B, return_dict=False)[0]
    torch.testing.assert_close(sampled_B, step, rtol=1e-5, atol=1e-5)


def test_a_batch_of_embeddings_of_different_lengths_is_refused(tiny_folder: Folder) -> None:
    policy = tiny.load(tiny_folder("wan"))
    short, long = (policy.embed([tiny.PROMPTS[0]], max_sequence_length=length)[0] for length in (8, 16))
    noisy_B = latents(policy, tiny.SHAPES["wan"], count=2)
    with pytest.raises(ValueError, match="one length"):
        policy.predict(noisy_B, torch.tensor([1.0, 2.0]), [short, long])


def test_gradient_checkpointing_changes_no_gradient(policy: DiffusersPolicy, shape: VideoShape) -> None:
    tiny.perturb(policy)
    noisy_B, t_B = latents(policy, shape), policy.times(torch.tensor([0.1, 0.5, 0.9]))

    def gradients() -> list[Tensor]:
        with policy.use("policy"):
            loss = policy.predict(noisy_B, t_B, [embedding(policy)] * 3).square().mean()
            return list(torch.autograd.grad(loss, [parameter for _, parameter in policy.trainable()]))

    plain = gradients()
    policy.set_gradient_checkpointing(True)
    assert policy.transformer.is_gradient_checkpointing
    for found, expected in zip(gradients(), plain, strict=True):
        torch.testing.assert_close(found, expected)
    assert any(gradient.abs().max() > 0 for gradient in plain)


# -- shapes and the VAE ------------------------------------------------------------------------------------------------
def test_latent_shape_is_the_pipelines(
    family: str, policy: DiffusersPolicy, shape: VideoShape, tiny_folder: Folder
) -> None:
    assert plain_draw(plain_pipeline(tiny_folder(family)), shape, [5]).shape[1:] == policy.latent_shape(shape)


def test_encode_and_decode_keep_the_shape_and_the_pixels_type(policy: DiffusersPolicy, shape: VideoShape) -> None:
    rng = np.random.default_rng(0)
    frames_B = rng.integers(0, 256, (2, shape.num_frames, shape.height, shape.width, 3), dtype=np.uint8)
    latents_B = policy.encode(frames_B)
    assert latents_B.shape == (2, *policy.latent_shape(shape))
    assert latents_B.dtype == torch.float32 and not latents_B.requires_grad
    decoded_B = policy.decode(latents_B)
    assert decoded_B.shape == frames_B.shape and decoded_B.dtype == np.uint8


def test_decode_gives_the_pipelines_pixels(
    family: str, policy: DiffusersPolicy, shape: VideoShape, tiny_folder: Folder
) -> None:
    pipeline = plain_pipeline(tiny_folder(family))
    latents_B = draw(policy, shape, [1, 2])
    expected_BFHWC = pipeline(
        prompt=[tiny.PROMPTS[0]] * 2,
        num_frames=shape.num_frames,
        height=shape.height,
        width=shape.width,
        num_inference_steps=3,
        guidance_scale=1.0,
        max_sequence_length=tiny.TEXT_LENGTH,
        generator=[torch.Generator().manual_seed(seed) for seed in (1, 2)],
        output_type="np",
    ).frames
    difference = np.abs(policy.decode(latents_B).astype(float) - expected_BFHWC * 255)
    assert difference.max() < 0.51  # rounding


def test_encode_is_in_the_scale_that_decode_takes(policy: DiffusersPolicy, shape: VideoShape) -> None:
    """Encoding the same video must undo exactly the normalisation that decoding does."""
    frames_B = np.full((1, shape.num_frames, shape.height, shape.width, 3), 200, dtype=np.uint8)
    video_BCFHW = torch.full((1, 3, shape.num_frames, shape.height, shape.width), 200 / 127.5 - 1)
    with torch.no_grad():
        raw_BCFHW = policy.vae.encode(video_BCFHW).latent_dist.mode()
        expected = (policy.vae.decode(raw_BCFHW).sample / 2 + 0.5).clamp(0, 1).mul(255).round()
    latents_B = policy.encode(frames_B)
    with torch.no_grad():
        torch.testing.assert_close(latents_B, policy._to_latents(video_BCFHW))  # pixels 0..255 are -1..1
    decoded_B = policy.decode(latents_B)
    np.testing.assert_allclose(decoded_B[0], expected[0].permute(1, 2, 3, 0).numpy(), atol=1)


def test_videos_decoded_one_by_one_equal_those_of_a_batch(
    policy: DiffusersPolicy, shape: VideoShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents_B = latents(policy, shape)
    together_B = policy.decode(latents_B)
    monkeypatch.setattr("policies.families.diffusers_policy._PIXELS_AT_ONCE", 1)
    np.testing.assert_allclose(policy.decode(latents_B).astype(int), together_B.astype(int), atol=1)
    np.testing.assert_array_equal(policy.encode(together_B).shape, latents_B.shape)


@pytest.mark.parametrize(
    ("num_frames", "height", "width", "message"),
    [
        (6, 16, 32, "num_frames 6"),
        (9, 20, 32, "height 20 .*nearest: 16, 32"),
        (9, 16, 40, "width 40"),
        (9, 0, 16, "height 0"),
    ],
)
def test_a_size_the_family_cannot_take_is_refused_with_the_nearest_ones(
    policy: DiffusersPolicy, num_frames: int, height: int, width: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        policy.check_shape(VideoShape(num_frames=num_frames, height=height, width=width))


def test_frames_follow_the_familys_rule(policy: DiffusersPolicy) -> None:
    step = 4 if policy.family == "wan" else 8  # CogVideoX decodes latent frames in twos
    for frames in range(1, 34):
        shape = VideoShape(num_frames=frames, height=16, width=32)
        if frames % step == 1:
            policy.check_shape(shape)
            assert policy.decode(latents(policy, shape, count=1)).shape[1] == frames
        else:
            below, above = (
                frames // step * step + 1 - (step if frames % step == 0 else 0),
                -(-frames // step) * step + 1,
            )
            with pytest.raises(InputError, match=f"nearest: {below}, {above}"):
                policy.check_shape(shape)


# -- sampling ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_sampling_equals_a_strangers_plain_pipeline_call(
    family: str, policy: DiffusersPolicy, shape: VideoShape, tiny_folder: Folder, guidance_scale: float
) -> None:
    seeds = [7, 2**62 + 11, 3]
    expected_B = plain_draw(plain_pipeline(tiny_folder(family)), shape, seeds, guidance_scale=guidance_scale)
    found_B = draw(policy, shape, seeds, guidance_scale=guidance_scale)
    assert found_B.dtype == torch.float32 and not found_B.requires_grad
    torch.testing.assert_close(found_B, expected_B, rtol=1e-5, atol=1e-5)


def test_guidance_changes_the_sample_and_needs_a_negative_prompt(policy: DiffusersPolicy, shape: VideoShape) -> None:
    assert (draw(policy, shape, [1], guidance_scale=3.0) - draw(policy, shape, [1])).abs().max() > 1e-4
    with pytest.raises(ValueError, match="negative"):
        policy.sample(embedding(policy), None, [1], shape=shape, sampling=tiny.sampling(guidance_scale=3.0))


def test_a_slice_depends_on_its_seeds_alone(policy: DiffusersPolicy, shape: VideoShape) -> None:
    first_B = draw(policy, shape, [1, 2])
    other_B = draw(policy, shape, [3, 4], guidance_scale=2.0)
    again_B = draw(policy, shape, [1, 2])
    assert torch.equal(first_B, again_B)  # bit for bit: the noise scheduler keeps nothing
    assert (first_B - other_B).abs().max() > 1e-3
    swapped_B = draw(policy, shape, [2, 1])
    torch.testing.assert_close(swapped_B.flip(0), first_B, rtol=1e-4, atol=1e-5)
    alone_B = draw(policy, shape, [2])
    torch.testing.assert_close(alone_B[0], first_B[1], rtol=1e-4, atol=1e-5)


# -- weight sets -------------------------------------------------------------------------------------------------------
def test_all_weight_sets_start_as_the_base(policy: DiffusersPolicy, shape: VideoShape) -> None:
    noisy_B, t_B = latents(policy, shape), policy.times(torch.tensor([0.1, 0.5, 0.9]))

    def predict(which: str | None) -> Tensor:
        with torch.no_grad(), policy.use(which):
            return policy.predict(noisy_B, t_B, [embedding(policy)] * 3)

    base_B = predict(None)
    for which in policy.weight_sets:
        assert torch.equal(predict(which), base_B)
    tiny.perturb(policy)
    assert (predict("policy") - base_B).abs().max() > 1e-3
    for which in (None, "reference", "behaviour"):
        assert torch.equal(predict(which), base_B)


def test_only_the_policy_is_trainable_whatever_is_in_use(policy: DiffusersPolicy, shape: VideoShape) -> None:
    expected = {id(parameter) for _, parameter in policy.trainable()}

    def trainable() -> set[int]:
        return {id(parameter) for parameter in policy.transformer.parameters() if parameter.requires_grad}

    assert expected and trainable() == expected
    for which in ("reference", None, "policy", "behaviour", "reference"):
        with policy.use(which):
            assert trainable() == expected
            with policy.use("policy"):
                assert trainable() == expected
        assert trainable() == expected
    assert not any(parameter.requires_grad for parameter in policy.vae.parameters())
    assert not policy.transformer.training and not policy.vae.training


def test_a_backward_after_a_reference_phase_finds_its_gradient(policy: DiffusersPolicy, shape: VideoShape) -> None:
    noisy_B, t_B = latents(policy, shape), policy.times(torch.tensor([0.1, 0.5, 0.9]))
    with policy.use("policy"):
        prediction_B = policy.predict(noisy_B, t_B, [embedding(policy)] * 3)
        with torch.no_grad(), policy.use("reference"):
            reference_B = policy.predict(noisy_B, t_B, [embedding(policy)] * 3)
        prediction_B.square().mean().backward()
    assert not reference_B.requires_grad
    norms = {name: parameter.grad for name, parameter in policy.trainable()}
    assert all(gradient is not None for gradient in norms.values())
    # At the start A gets no gradient, because B is zero; every B does.
    assert all(
        gradient.abs().max() > 0 for name, gradient in norms.items() if gradient is not None and "lora_B" in name
    )


def test_use_goes_back_to_what_was_in_use_also_after_an_error(policy: DiffusersPolicy, shape: VideoShape) -> None:
    tiny.perturb(policy)
    noisy_B, t_B = latents(policy, shape, count=1), policy.times(torch.tensor([0.5]))

    def predict() -> Tensor:
        with torch.no_grad():
            return policy.predict(noisy_B, t_B, [embedding(policy)])

    first = predict()
    with pytest.raises(RuntimeError, match="on purpose"), policy.use("reference"):
        assert not torch.equal(predict(), first)
        raise RuntimeError("on purpose")
    assert torch.equal(predict(), first)
    with pytest.raises(ValueError, match="'old' was not loaded"), policy.use("old"):
        pass
    assert torch.equal(predict(), first)


def test_blend_copies_and_never_aliases(policy: DiffusersPolicy) -> None:
    tiny.perturb(policy)
    policy.blend("policy", "reference")
    copied = policy.export("reference")
    assert all(torch.equal(copied[name], tensor) for name, tensor in policy.export("policy").items())
    tiny.perturb(policy, seed=9)
    assert all(torch.equal(copied[name], tensor) for name, tensor in policy.export("reference").items())
    policy.blend("policy", "reference", weight=0.25)
    for name, tensor in policy.export("reference").items():
        torch.testing.assert_close(tensor, 0.75 * copied[name] + 0.25 * policy.export("policy")[name])


def test_export_and_load_are_exact_and_independent(policy: DiffusersPolicy) -> None:
    tiny.perturb(policy)
    exported = policy.export("policy")
    assert list(exported) == sorted(exported) == [name for name, _ in policy.trainable()]
    assert all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in exported.values())
    policy.load("behaviour", exported)
    before = {name: tensor.clone() for name, tensor in exported.items()}
    tiny.perturb(policy, seed=5)
    assert all(torch.equal(exported[name], tensor) for name, tensor in before.items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.export("behaviour").items())


def test_load_refuses_what_does_not_fit_and_changes_nothing(policy: DiffusersPolicy) -> None:
    good = policy.export("policy")
    first, last = min(good), max(good)
    changed = {name: tensor + 1 for name, tensor in good.items()}
    for bad, message in (
        ({name: tensor for name, tensor in changed.items() if name != last}, "missing"),
        ({**changed, "transformer.x.lora_A.weight": good[first]}, "fit no layer"),
        ({**changed, last: good[last][:1, :1]}, "shape"),
    ):
        with pytest.raises(WeightsMismatchError, match=message):
            policy.load("policy", bad)
    assert all(torch.equal(tensor, good[name]) for name, tensor in policy.export("policy").items())


def test_lora_starts_from_the_seed(family: str, tiny_folder: Folder) -> None:
    one, same, other = (tiny.load(tiny_folder(family), seed=seed).export("policy") for seed in (1, 1, 2))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    downs = [name for name in one if "lora_A" in name]
    assert downs and all(not torch.equal(one[name], other[name]) for name in downs)
    assert len({float(one[name].sum()) for name in downs}) == len(downs)  # no two layers alike


def test_the_exported_lora_gives_a_plain_pipeline_the_same_latents(
    family: str, policy: DiffusersPolicy, shape: VideoShape, tiny_folder: Folder, tmp_path: Path
) -> None:
    base_B = draw(policy, shape, [1, 2])
    tiny.perturb(policy)  # alpha / rank is 1.5
    expected_B = draw(policy, shape, [1, 2])
    policy.save_lora(tmp_path, "policy", metadata={"base": "tiny"})
    pipeline = plain_pipeline(tiny_folder(family))
    pipeline.load_lora_weights(tmp_path)
    found_B = plain_draw(pipeline, shape, [1, 2])
    torch.testing.assert_close(found_B, expected_B, rtol=1e-5, atol=1e-5)
    assert (expected_B - base_B).abs().max() > 1e-2


# -- precision ---------------------------------------------------------------------------------------------------------
def test_a_bfloat16_base_works_with_float32_lora(family: str, shape: VideoShape, tiny_folder: Folder) -> None:
    policy = tiny.load(tiny_folder(family), dtype="bfloat16")
    exact = tiny.load(tiny_folder(family))
    assert policy.dtype == torch.bfloat16 and policy.vae.dtype == torch.float32
    assert {parameter.dtype for _, parameter in policy.trainable()} == {torch.float32}
    latents_B = draw(policy, shape, [1, 2], guidance_scale=2.0)
    assert latents_B.dtype == torch.float32 and torch.isfinite(latents_B).all()
    torch.testing.assert_close(latents_B, draw(exact, shape, [1, 2], guidance_scale=2.0), rtol=0.1, atol=0.2)
    prediction_B = policy.predict(latents_B, policy.times(torch.tensor([0.3, 0.7])), [embedding(policy)] * 2)
    assert prediction_B.dtype == torch.float32
    prediction_B.square().mean().backward()
    gradients = [p.grad for name, p in policy.trainable() if "lora_B" in name]
    assert all(g is not None and g.dtype == torch.float32 and g.abs().max() > 0 for g in gradients)
