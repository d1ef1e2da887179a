from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.errors import InputError, WeightsMismatchError
from policies.families.diffusers_policy import DiffusersPolicy
from policies.generator import LocalGenerator
from policies.types import Prompt, SampleRequest, VideoShape
from policies.weights import MemoryWeights, WeightDirectory
from tests.policies.families import tiny

Folder = Callable[[str], Path]


@pytest.fixture(params=["wan", "cogvideox"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def policy(family: str, tiny_folder: Folder) -> DiffusersPolicy:
    return tiny.load(tiny_folder(family))


def request(
    family: str,
    *,
    seeds: tuple[int, ...] = (1, 2, 3),
    version: int = 0,
    text: str = tiny.PROMPTS[0],
    guidance: float = 1.0,
) -> SampleRequest:
    return SampleRequest(
        group_id="g",
        prompt=Prompt(id="p", text=text),
        shape=tiny.SHAPES[family],
        seeds=seeds,
        policy_version=version,
        sampling=tiny.sampling(guidance_scale=guidance),
    )


def published(policy: DiffusersPolicy, *, versions: int = 2) -> MemoryWeights:
    """Version 0 is the base; later ones differ."""
    weights = MemoryWeights()
    for version in range(versions):
        weights.publish(version, policy.export("policy"))
        tiny.perturb(policy, seed=version)
    return weights


async def test_a_group_is_one_candidate_per_seed_in_order(family: str, policy: DiffusersPolicy) -> None:
    weights = published(policy)
    asked = request(family)
    candidates = await LocalGenerator(policy, weights, candidates_per_slice=2).sample(asked)
    assert [candidate.seed for candidate in candidates] == [1, 2, 3]
    shape = asked.shape
    for candidate in candidates:
        assert candidate.latents.shape == policy.latent_shape(shape)
        assert candidate.latents.dtype == torch.float32 and candidate.latents.device.type == "cpu"
        assert candidate.latents.untyped_storage().nbytes() == candidate.latents.numel() * 4  # not a view of the batch
        assert candidate.frames.shape == (shape.num_frames, shape.height, shape.width, 3)
        assert candidate.frames.dtype == np.uint8 and candidate.frames.base is None
        assert (candidate.group_id, candidate.prompt, candidate.shape) == ("g", asked.prompt, shape)
        assert (candidate.policy_version, candidate.weights_hash) == (0, weights.read(0)[1])
    decoded = policy.decode(torch.stack([candidate.latents for candidate in candidates]))
    np.testing.assert_allclose(decoded.astype(int), np.stack([c.frames for c in candidates]).astype(int), atol=1)


async def test_candidates_are_drawn_from_the_version_that_is_asked_for(family: str, policy: DiffusersPolicy) -> None:
    weights = published(policy)
    generator = LocalGenerator(policy, weights)
    old = await generator.sample(request(family, version=0))
    new = await generator.sample(request(family, version=1))
    again = await generator.sample(request(family, version=0))
    assert new[0].weights_hash == weights.read(1)[1] != old[0].weights_hash
    for before, between, after in zip(old, new, again, strict=True):
        assert torch.equal(before.latents, after.latents) and np.array_equal(before.frames, after.frames)
        assert (before.latents - between.latents).abs().max() > 1e-3


async def test_training_the_policy_meanwhile_changes_no_candidate(family: str, policy: DiffusersPolicy) -> None:
    generator = LocalGenerator(policy, published(policy))
    before = await generator.sample(request(family))
    tiny.perturb(policy, seed=99)
    after = await generator.sample(request(family))
    assert torch.equal(before[0].latents, after[0].latents)


async def test_slices_of_equal_size_give_equal_numbers_wherever_they_are_drawn(
    family: str, policy: DiffusersPolicy, tiny_folder: Folder
) -> None:
    weights = published(policy)
    whole = await LocalGenerator(policy, weights, candidates_per_slice=2).sample(request(family, seeds=(1, 2, 3, 4)))
    other = LocalGenerator(tiny.load(tiny_folder(family), seed=77, weight_sets=("behaviour",)), weights)
    late = await other.sample(request(family, seeds=(3, 4)))
    early = await other.sample(request(family, seeds=(1, 2)))
    for expected, found in zip(whole, [*early, *late], strict=True):
        assert torch.equal(found.latents, expected.latents)
        assert np.array_equal(found.frames, expected.frames)


async def test_a_directory_serves_as_well_as_memory(family: str, policy: DiffusersPolicy, tmp_path: Path) -> None:
    tiny.perturb(policy)
    directory, memory = WeightDirectory(tmp_path), MemoryWeights()
    assert directory.publish(1, policy, "policy") == memory.publish(1, policy.export("policy"))
    first = await LocalGenerator(policy, directory).sample(request(family, version=1))
    second = await LocalGenerator(policy, memory).sample(request(family, version=1))
    assert torch.equal(first[0].latents, second[0].latents) and first[0].weights_hash == second[0].weights_hash


async def test_prompt_and_guidance_reach_the_model(family: str, policy: DiffusersPolicy) -> None:
    generator = LocalGenerator(policy, published(policy))
    plain, other, guided = [
        (await generator.sample(asked))[0].latents
        for asked in (
            request(family),
            request(family, text=tiny.PROMPTS[1]),
            request(family, guidance=3.0),
        )
    ]
    assert (plain - other).abs().max() > 1e-5 and (plain - guided).abs().max() > 1e-5


async def test_what_cannot_be_drawn_is_refused(family: str, policy: DiffusersPolicy, tiny_folder: Folder) -> None:
    generator = LocalGenerator(policy, published(policy))
    with pytest.raises(WeightsMismatchError, match="version 9"):
        await generator.sample(request(family, version=9))
    assert len(await generator.sample(request(family))) == 3  # still usable
    bad = VideoShape(num_frames=2, height=16, width=32)
    with pytest.raises(InputError, match="num_frames 2"):
        await generator.sample(replace(request(family), shape=bad))
    with pytest.raises(ValueError, match="weight set 'behaviour'"):
        LocalGenerator(tiny.load(tiny_folder(family), weight_sets=("policy",)), MemoryWeights())
