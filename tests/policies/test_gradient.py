import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from policies import gradient
from tests.policies.toy_policy import ToyPolicy

SAMPLES = 8
LATENT = (2, 3, 4, 4)


def network(policy: ToyPolicy) -> gradient.Forward:
    noisy = torch.randn(SAMPLES, *LATENT, generator=torch.Generator().manual_seed(1))
    t = torch.linspace(50, 950, SAMPLES)
    embeddings = policy.embed([f"text {i}" for i in range(SAMPLES)], max_sequence_length=3)
    return lambda rows: policy.predict(noisy[rows], t[rows], embeddings[rows])


def coupled_loss(prediction_S: Tensor) -> tuple[Tensor, Tensor]:
    """Samples matter to each other's gradient in it, as in a pair and, here, in a whole group."""
    error_S = prediction_S.square().flatten(1).mean(1)
    chosen_B, rejected_B = error_S.chunk(2)
    loss = -torch.nn.functional.logsigmoid(9 * (rejected_B - chosen_B)).mean() + error_S.std() * error_S.max()
    return loss, error_S.detach()


def gradient_of(policy: ToyPolicy, mode: gradient.GradientMode) -> tuple[Tensor, Tensor]:
    weights = [weight for _, weight in policy.trainable()]
    for weight in weights:
        weight.grad = None
    with policy.use("policy"):
        errors_S = gradient.backward(network(policy), SAMPLES, coupled_loss, mode=mode)
    grads = [weight.grad for weight in weights]
    assert all(grad is not None for grad in grads)
    return torch.cat([grad.flatten() for grad in grads if grad is not None]), errors_S


def disturbed_policy() -> ToyPolicy:
    policy = ToyPolicy()
    for index, (_, weight) in enumerate(policy.trainable()):
        with torch.no_grad():
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(index)))
    return policy


@pytest.mark.parametrize("is_checkpointing", [False, True])
def test_two_pass_equals_joint(is_checkpointing: bool) -> None:
    policy = disturbed_policy()
    joint, joint_errors = gradient_of(policy, "joint")
    policy.set_gradient_checkpointing(is_checkpointing)
    two_pass, two_pass_errors = gradient_of(policy, "two_pass")
    assert joint.abs().min() > 0
    # a weight whose gradient is the small rest of large terms has the rounding of the large ones
    rounding = 1e-6 * joint.abs().max().item()
    torch.testing.assert_close(two_pass, joint, rtol=1e-5, atol=rounding)
    assert torch.linalg.vector_norm(two_pass - joint) <= 1e-5 * torch.linalg.vector_norm(joint)
    torch.testing.assert_close(two_pass_errors, joint_errors)


def test_gradients_add_up_over_calls() -> None:
    policy = disturbed_policy()
    once, _ = gradient_of(policy, "two_pass")
    with policy.use("policy"):
        gradient.backward(network(policy), SAMPLES, coupled_loss, mode="two_pass")
    twice = torch.cat([weight.grad.flatten() for _, weight in policy.trainable() if weight.grad is not None])
    torch.testing.assert_close(twice, 2 * once)


def test_two_pass_goes_backward_one_sample_at_a_time() -> None:
    policy = disturbed_policy()
    gradient_of(policy, "two_pass")
    assert [len(noisy) for _, noisy, _ in policy.predictions] == [1] * (2 * SAMPLES)


def test_reference_predictions_are_made_in_the_slices_of_the_mode() -> None:
    policy = disturbed_policy()
    with policy.use("reference"):
        joint = gradient.predict(network(policy), SAMPLES, mode="joint")
        assert not joint.requires_grad
        torch.testing.assert_close(gradient.predict(network(policy), SAMPLES, mode="two_pass"), joint)
    assert [len(noisy) for _, noisy, _ in policy.predictions] == [SAMPLES] + [1] * SAMPLES
    assert len(gradient.predict(network(policy), 0, mode="joint")) == 0


def peak_saved_bytes(run: Callable[[], object], weights: list[nn.Parameter]) -> int:
    """Most bytes that autograd held at once for backward passes, weights apart."""
    own = {weight.data_ptr() for weight in weights}
    held = peak = 0

    class Box:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    def release(size: int) -> None:
        nonlocal held
        held -= size

    def pack(tensor: Tensor) -> Box:
        nonlocal held, peak
        box = Box(tensor)
        if tensor.data_ptr() not in own:
            size = tensor.numel() * tensor.element_size()
            held, peak = held + size, max(peak, held + size)
            weakref.finalize(box, release, size)
        return box

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor):
        run()
    return peak


def test_two_pass_saves_at_most_six_tenths_of_the_activations_of_joint_for_one_pair() -> None:
    policy = disturbed_policy()
    weights = [weight for _, weight in policy.trainable()]
    forward = network(policy)

    def run(mode: gradient.GradientMode) -> None:
        with policy.use("policy"):
            gradient.backward(forward, 2, coupled_loss, mode=mode)

    joint = peak_saved_bytes(lambda: run("joint"), weights)
    two_pass = peak_saved_bytes(lambda: run("two_pass"), weights)
    assert 0 < two_pass / joint <= 0.6
