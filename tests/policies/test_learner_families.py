"""The learner on tiny models of the real classes: everything that adapters, checkpointing and attention could break."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from policies import gradient
from policies.config import LearnerConfig, ObjectiveConfig
from policies.families.diffusers_policy import DiffusersPolicy
from policies.learner import LocalLearner
from policies.micro_batches import items_of, micro_batches
from policies.objectives.dpo import squared_error
from policies.types import Pair
from policies.weights import weights_hash
from tests.policies.families import tiny
from tests.policies.pairs import pair

Folder = Callable[[str], Path]
FAMILIES = ("wan", "cogvideox")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def learner_of(
    policy: DiffusersPolicy, *, objective: dict[str, object] | None = None, **settings: object
) -> LocalLearner:
    return LocalLearner(
        policy,
        LearnerConfig.model_validate({"learning_rate": 1e-2, "warmup_updates": 0} | settings),
        ObjectiveConfig.model_validate({"beta": 100.0, "draws_per_pair": 2} | (objective or {})),
        run_seed=3,
        max_sequence_length=tiny.TEXT_LENGTH,
    )


def pairs_of(policy: DiffusersPolicy, family: str, count: int = 2, *, first: int = 0) -> list[Pair]:
    shape = tiny.SHAPES[family]

    def latents(seed: int) -> Tensor:
        return torch.randn(policy.latent_shape(shape), generator=torch.Generator().manual_seed(seed))

    return [
        pair(latents(2 * i), latents(2 * i + 1), group_id=f"g{i}", text=tiny.PROMPTS[i % 3], shape=shape)
        for i in range(first, first + count)
    ]


@pytest.mark.parametrize("mode", ["joint", "two_pass"])
@pytest.mark.parametrize("is_checkpointing", [False, True])
async def test_log_two_with_a_gradient_at_the_start_and_after_each_swap(
    family: str, mode: str, is_checkpointing: bool, tiny_folder: Folder
) -> None:
    policy = tiny.load(tiny_folder(family), gradient_checkpointing=is_checkpointing)
    learner = learner_of(policy, gradient_mode=mode)
    for u in range(4):
        if u == 2:
            await learner.update_reference()
        stats = await learner.update(pairs_of(policy, family, first=2 * u), batch_index=u)
        assert stats.loss is not None
        # the forward with a gradient may round otherwise than the one without, so nearly
        assert (abs(stats.loss - math.log(2)) < 1e-6) == (u % 2 == 0)
        assert stats.metrics["gradient_norm"] > 1e-4
        assert (stats.metrics["kl_base"] < 1e-9) == (u == 0)


@pytest.mark.parametrize("is_checkpointing", [False, True])
async def test_two_pass_learns_as_joint_does(family: str, is_checkpointing: bool, tiny_folder: Folder) -> None:
    async def norms(mode: str) -> list[float]:
        is_two_pass = mode == "two_pass"
        policy = tiny.load(tiny_folder(family), gradient_checkpointing=is_checkpointing and is_two_pass)
        learner = learner_of(policy, gradient_mode=mode, pairs_per_forward=3, learning_rate=1e-4)
        stats = [await learner.update(pairs_of(policy, family, first=2 * u), batch_index=u) for u in range(2)]
        return [s.metrics["gradient_norm"] for s in stats] + [s.loss or 0.0 for s in stats]

    assert await norms("two_pass") == pytest.approx(await norms("joint"), rel=1e-5)


def forward_of(policy: DiffusersPolicy, family: str) -> tuple[gradient.Forward, int]:
    """The network on one pair at one draw."""
    pairs = pairs_of(policy, family, 1)
    text = pairs[0].prompt.text
    embeddings = {text: policy.embed([text], max_sequence_length=tiny.TEXT_LENGTH)[0]}
    (micro,) = micro_batches(
        items_of(pairs, draws_per_pair=1),
        policy=policy, embeddings=embeddings, objective=ObjectiveConfig(), run_seed=0, batch_index=0,
        pairs_per_forward=None,
    )  # fmt: skip
    return micro.forward(policy), micro.samples


def contrast(prediction_S: Tensor) -> tuple[Tensor, None]:
    chosen, rejected = squared_error(prediction_S, torch.zeros_like(prediction_S))
    return -torch.nn.functional.logsigmoid(20 * (rejected - chosen)), None


@pytest.mark.parametrize("is_checkpointing", [False, True])
def test_every_weights_gradient_is_the_same_in_both_modes(
    family: str, is_checkpointing: bool, tiny_folder: Folder
) -> None:
    policy = tiny.load(tiny_folder(family), gradient_checkpointing=is_checkpointing)
    tiny.perturb(policy)
    forward, samples = forward_of(policy, family)
    found = []
    for mode in ("joint", "two_pass"):
        with policy.use("policy"):
            gradient.backward(forward, samples, contrast, mode=mode)
        grads = {name: weight.grad.clone() for name, weight in policy.trainable() if weight.grad is not None}
        policy.transformer.zero_grad(set_to_none=True)
        found.append(grads)
    assert found[0].keys() == found[1].keys() == dict(policy.trainable()).keys()
    for name, grad in found[0].items():
        assert (found[1][name] - grad).norm() <= 1e-5 * grad.norm() > 0, name


def test_two_pass_holds_at_most_six_tenths_of_the_bytes_of_joint(family: str, tiny_folder: Folder) -> None:
    policy = tiny.load(tiny_folder(family))
    tiny.perturb(policy)
    weights = {weight.untyped_storage().data_ptr() for weight in policy.transformer.parameters()}
    forward, samples = forward_of(policy, family)

    def peak(mode: gradient.GradientMode) -> int:
        """Most bytes that autograd held at once, weights apart."""
        held = most = 0

        def release(size: int) -> None:
            nonlocal held
            held -= size

        class Box:
            def __init__(self, tensor: Tensor) -> None:
                nonlocal held, most
                self.tensor = tensor
                if tensor.untyped_storage().data_ptr() not in weights:
                    size = tensor.numel() * tensor.element_size()
                    held, most = held + size, max(most, held + size)
                    weakref.finalize(self, release, size)

        with policy.use("policy"), torch.autograd.graph.saved_tensors_hooks(Box, lambda box: box.tensor):
            gradient.backward(forward, samples, contrast, mode=mode)
        return most

    assert 0.4 < peak("two_pass") / peak("joint") <= 0.6


async def test_an_update_raises_the_margin_of_its_pairs(family: str, tiny_folder: Folder) -> None:
    policy = tiny.load(tiny_folder(family))
    learner = learner_of(policy)
    batch = pairs_of(policy, family)
    margins = [(await learner.update(batch, batch_index=u)).metrics["margin_mean"] for u in range(12)]
    assert margins[0] == pytest.approx(0, abs=1e-4) and margins[-1] > 0.01


async def test_a_resumed_learner_equals_an_unbroken_one_bit_for_bit(
    family: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    async def go_on(policy: DiffusersPolicy, learner: LocalLearner, updates: range) -> list[float | None]:
        return [(await learner.update(pairs_of(policy, family, first=u), batch_index=u)).loss for u in updates]

    unbroken_policy = tiny.load(tiny_folder(family))
    unbroken = learner_of(unbroken_policy)
    losses = await go_on(unbroken_policy, unbroken, range(2))
    unbroken.save(tmp_path)
    losses = await go_on(unbroken_policy, unbroken, range(2, 4))
    policy = tiny.load(tiny_folder(family), seed=77)  # other start weights, all of which are replaced
    resumed = learner_of(policy)
    resumed.restore(tmp_path)
    assert await go_on(policy, resumed, range(2, 4)) == losses
    assert weights_hash(resumed.state().tensors) == weights_hash(unbroken.state().tensors)


async def test_only_the_policy_changes_and_stays_trainable(family: str, tiny_folder: Folder) -> None:
    policy = tiny.load(tiny_folder(family))
    learner = learner_of(policy)
    frozen = {name: p.detach().clone() for name, p in policy.transformer.named_parameters() if not p.requires_grad}
    before = weights_hash(policy.export("policy"))
    await learner.update(pairs_of(policy, family), batch_index=0)
    trainable = {id(p) for _, p in policy.trainable()}
    assert trainable == {id(p) for p in policy.transformer.parameters() if p.requires_grad}
    assert weights_hash(policy.export("policy")) != before
    assert all(torch.equal(p, frozen[name]) for name, p in policy.transformer.named_parameters() if name in frozen)
