import asyncio
import json
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from policies.config import LearnerConfig, ObjectiveConfig
from policies.errors import InputError, NonFiniteError, WeightsMismatchError
from policies.learner import LocalLearner
from policies.learner_state import LearnerState
from policies.types import Pair, UpdateStats
from policies.weights import weights_hash
from tests.policies.pairs import pair, random_latents, random_pairs
from tests.policies.toy_policy import SHAPE, WIDE_SHAPE, ToyPolicy

METRICS = {
    "implicit_accuracy", "margin_mean", "margin_abs_mean", "chosen_error_delta", "rejected_error_delta",
    "gate_openness", "kl_reference", "kl_base", "gradient_norm", "learning_rate", "latent_std_chosen",
    "latent_std_rejected", "gap_mean", "pairs",
}  # fmt: skip


def learner_of(policy: ToyPolicy, *, objective: dict[str, object] | None = None, rank: int = 0, world_size: int = 1,
               all_reduce: Callable[[Tensor], None] | None = None, **settings: object) -> LocalLearner:  # fmt: skip
    config = LearnerConfig.model_validate({"learning_rate": 1e-2, "warmup_updates": 0} | settings)
    return LocalLearner(
        policy,
        config,
        ObjectiveConfig.model_validate({"beta": 100.0, "draws_per_pair": 3} | (objective or {})),
        run_seed=5,
        max_sequence_length=4,
        rank=rank,
        world_size=world_size,
        all_reduce=all_reduce,
    )


async def updated(learner: LocalLearner, count: int, *, first: int = 0, pairs: int = 2) -> list[UpdateStats]:
    return [await learner.update(random_pairs(pairs, first=10 * u), batch_index=u) for u in range(first, first + count)]


async def test_before_the_first_update_and_after_each_swap_the_loss_is_log_two_and_the_gradient_is_not_zero() -> None:
    for mode in ("joint", "two_pass"):
        learner = learner_of(ToyPolicy(), gradient_mode=mode)
        for u in range(6):
            if u % 2 == 0:
                assert await learner.update_reference() == u
            stats = await learner.update(random_pairs(2, first=10 * u), batch_index=u)
            at_reference = u % 2 == 0
            assert stats.loss is not None
            assert (stats.loss == pytest.approx(math.log(2), rel=1e-12)) == at_reference
            assert (stats.metrics["margin_abs_mean"] == 0.0) == at_reference
            assert (stats.metrics["kl_reference"] == 0.0) == at_reference
            assert stats.metrics["gradient_norm"] > 0.01
            assert (stats.policy_version, stats.reference_version) == (u, u - u % 2)
            if at_reference:
                assert stats.metrics["implicit_accuracy"] == 0.5 and stats.metrics["gate_openness"] == 0.5


async def test_a_rehearsal_changes_nothing() -> None:
    for mode in ("joint", "two_pass"):
        plain, rehearsed = learner_of(ToyPolicy(), gradient_mode=mode), learner_of(ToyPolicy(), gradient_mode=mode)
        torch.manual_seed(3)
        rehearsed.rehearse([p.prompt for p in random_pairs(2)], SHAPE)
        torch.testing.assert_close(
            torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(3)), rtol=0, atol=0
        )
        assert await updated(rehearsed, 3) == await updated(plain, 3)


async def test_a_rehearsal_that_runs_out_of_memory_says_what_to_lower() -> None:
    class Cramped(ToyPolicy):
        def predict(self, *arguments: object, **named: object) -> Tensor:
            raise torch.OutOfMemoryError("tried to allocate 80 GiB")

    with pytest.raises(InputError, match=r"two_pass.*pairs_per_forward"):
        learner_of(Cramped()).rehearse([p.prompt for p in random_pairs(1)], SHAPE)


async def test_reports_every_metric() -> None:
    stats = (await updated(learner_of(ToyPolicy()), 2))[1]
    assert set(stats.metrics) == METRICS
    assert all(math.isfinite(value) for value in stats.metrics.values())
    assert stats.metrics["pairs"] == 2.0
    assert stats.metrics["gap_mean"] == pytest.approx((11 + 12) / 2)
    assert stats.metrics["learning_rate"] == 1e-2


async def test_metrics_are_means_over_pairs_whatever_the_micro_batches() -> None:
    policy = ToyPolicy()
    batch = random_pairs(3, shapes=(SHAPE, WIDE_SHAPE))
    results = [
        await learner_of(ToyPolicy(), pairs_per_forward=size).update(batch, batch_index=0) for size in (1, 4, None)
    ]
    stds = [torch.as_tensor(p.chosen_candidate.latents).std().item() for p in batch]
    assert results[0].metrics["latent_std_chosen"] == pytest.approx(sum(stds) / 3)
    for stats in results[1:]:
        assert stats.loss == pytest.approx(results[0].loss)
        for name in METRICS:
            assert stats.metrics[name] == pytest.approx(results[0].metrics[name], rel=1e-4, abs=1e-7), name
    assert policy.export("policy").keys() == ToyPolicy().export("policy").keys()


async def test_drift_from_the_base_is_measured_on_the_chosen_sample_of_each_pairs_first_draw() -> None:
    policy = ToyPolicy()
    learner = learner_of(policy)
    await updated(learner, 3)
    await learner.update_reference()  # the base is not the reference any more
    policy.predictions.clear()
    stats = (await updated(learner, 1, first=3))[0]
    (base,) = [(noisy, t) for which, noisy, t in policy.predictions if which is None]
    (trained,) = [(noisy, t) for which, noisy, t in policy.predictions if which == "policy"]
    assert len(base[0]) == 2 and len(trained[0]) == 12  # 2 pairs; times 3 draws, times 2 members
    assert torch.equal(base[0], trained[0][[0, 3]])
    assert stats.metrics["kl_base"] > 0 and stats.metrics["kl_reference"] == 0


async def test_one_reference_phase_then_one_policy_phase_and_no_toggling() -> None:
    policy = ToyPolicy()
    policy.set_gradient_checkpointing(True)
    await learner_of(policy, pairs_per_forward=1).update(random_pairs(2, shapes=(SHAPE, WIDE_SHAPE)), batch_index=0)
    assert policy.uses == ["reference", None, "policy"]


async def test_an_update_raises_the_margin_and_exchanged_labels_lower_it() -> None:
    async def margin_after(labelled: list[Pair]) -> float:
        """Of the right labels, after 20 updates on these ones."""
        learner = learner_of(ToyPolicy(), learning_rate=3e-3)
        for u in range(20):
            await learner.update(labelled, batch_index=u)
        stats = await learner.update(random_pairs(4), batch_index=20)
        return stats.metrics["margin_mean"]

    right = random_pairs(4)
    wrong = [pair(p.rejected_candidate.latents, p.chosen_candidate.latents, group_id=p.group_id, text=p.prompt.text)
             for p in right]  # fmt: skip
    assert await margin_after(right) > 0.05
    assert await margin_after(wrong) < -0.05


async def test_the_order_of_pairs_does_not_matter() -> None:
    batch = random_pairs(4, shapes=(SHAPE, WIDE_SHAPE))
    one, other = ToyPolicy(), ToyPolicy()
    losses = []
    for policy, pairs in ((one, batch), (other, batch[::-1])):
        learner = learner_of(policy)
        await learner.update(pairs, batch_index=0)
        losses.append((await learner.update(pairs, batch_index=1)).loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for name, weight in one.export("policy").items():
        torch.testing.assert_close(weight, other.export("policy")[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("is_checkpointing", [False, True])
@pytest.mark.parametrize("schedule", ["constant", "quadratic"])
async def test_two_pass_learns_as_joint_does(schedule: str, is_checkpointing: bool) -> None:
    norms: list[list[float]] = []
    for mode in ("joint", "two_pass"):
        policy = ToyPolicy()
        policy.set_gradient_checkpointing(is_checkpointing and mode == "two_pass")
        learner = learner_of(policy, gradient_mode=mode, pairs_per_forward=4, objective={"beta_schedule": schedule})
        stats = [
            await learner.update(random_pairs(3, shapes=(SHAPE, WIDE_SHAPE), first=5 * u), batch_index=u)
            for u in range(3)
        ]
        norms.append([s.metrics["gradient_norm"] for s in stats] + [s.loss or 0.0 for s in stats])
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


async def test_a_swap_copies_and_later_updates_leave_the_reference_alone() -> None:
    policy = ToyPolicy()
    learner = learner_of(policy)
    await updated(learner, 1)
    assert await learner.update_reference() == 1
    assert weights_hash(policy.export("reference")) == weights_hash(policy.export("policy"))
    reference = weights_hash(policy.export("reference"))
    await updated(learner, 2, first=1)
    assert weights_hash(policy.export("reference")) == reference != weights_hash(policy.export("policy"))
    assert learner.reference_version == 1 and learner.policy_version == 3


async def test_a_swap_is_idempotent_and_keeps_the_optimizer() -> None:
    policy = ToyPolicy()
    learner = learner_of(policy)
    await updated(learner, 2)
    before = learner.state()
    assert await learner.update_reference() == await learner.update_reference() == 2
    after = learner.state()
    for part in ("policy", "adam/exp_avg", "adam/exp_avg_sq"):
        assert weights_hash(before.part(part)) == weights_hash(after.part(part))


def test_the_reference_starts_as_a_copy_of_the_policy() -> None:
    policy = ToyPolicy()
    policy.load("policy", {name: t + 1 for name, t in policy.export("policy").items()})
    learner_of(policy)
    assert weights_hash(policy.export("reference")) == weights_hash(policy.export("policy"))


async def test_only_the_policy_is_trained() -> None:
    policy = ToyPolicy()
    before = {which: weights_hash(policy.export(which)) for which in ("reference", "behaviour")}
    await updated(learner_of(policy), 2)
    assert before == {which: weights_hash(policy.export(which)) for which in ("reference", "behaviour")}


async def test_a_replay_of_the_last_batch_is_answered_as_before_and_changes_nothing() -> None:
    policy = ToyPolicy()
    learner = learner_of(policy)
    first = (await updated(learner, 2))[1]
    before = weights_hash(learner.state().tensors)
    assert await learner.update(random_pairs(1), batch_index=1) == first
    assert weights_hash(learner.state().tensors) == before and learner.policy_version == 2


@pytest.mark.parametrize("batch_index", [-1, 0, 3, 7])
async def test_another_batch_index_is_an_error(batch_index: int) -> None:
    learner = learner_of(ToyPolicy())
    await updated(learner, 2)
    with pytest.raises(InputError, match=f"batch {batch_index} does not follow.*version 2"):
        await learner.update(random_pairs(1), batch_index=batch_index)


async def test_an_empty_batch_advances_the_version_and_changes_nothing_else() -> None:
    policy = ToyPolicy()
    learner = learner_of(policy, weight_decay=0.1)
    before = (await updated(learner, 1))[0]
    tensors = weights_hash(learner.state().tensors)
    stats = await learner.update([], batch_index=1)
    assert stats.loss is None and stats.metrics == {"pairs": 0.0}
    assert (stats.policy_version, learner.policy_version) == (1, 2)
    assert stats.weights_hash == before.weights_hash
    assert weights_hash(learner.state().tensors) == tensors
    assert learner.state().values["optimizer_steps"] == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("mode", ["joint", "two_pass"])
async def test_a_non_finite_loss_leaves_weights_and_optimizer_as_they_were(bad: float, mode: str) -> None:
    policy = ToyPolicy()
    learner = learner_of(policy, gradient_mode=mode)
    await updated(learner, 1)
    before, twin = learner.state(), learner_of(ToyPolicy(), gradient_mode=mode)
    await updated(twin, 1)
    broken = random_latents(1)
    broken[0, 0, 0, 0] = bad
    batch = [*random_pairs(2), pair(broken, random_latents(2), group_id="broken")]
    with pytest.raises(NonFiniteError, match=r"update 1: .*\['broken'\].*unchanged"):
        await learner.update(batch, batch_index=1)
    after = learner.state()
    assert after.values == before.values and weights_hash(after.tensors) == weights_hash(before.tensors)
    assert all(weight.grad is None for _, weight in policy.trainable())
    assert await updated(learner, 1, first=1) == await updated(twin, 1, first=1)  # as if nothing had been


async def test_gradients_are_clipped_by_their_norm_over_all_weights() -> None:
    policies = [ToyPolicy(), ToyPolicy()]
    norms = []
    for policy, limit in zip(policies, (1e6, 1e-9), strict=True):
        stats = (await updated(learner_of(policy, max_gradient_norm=limit), 1))[0]
        norms.append(stats.metrics["gradient_norm"])
    assert norms[0] == norms[1] > 1e-3  # reported before clipping
    start = ToyPolicy().export("policy")
    moved = [max((t - start[name]).abs().max().item() for name, t in p.export("policy").items()) for p in policies]
    # Adam divides by the gradient's own size, except where that is as small as its epsilon
    assert moved[0] == pytest.approx(1e-2, rel=1e-3) and moved[1] < 2e-3


async def test_the_learning_rate_warms_up_linearly_over_optimizer_steps() -> None:
    learner = learner_of(ToyPolicy(), warmup_updates=4)
    rates = []
    for u in range(7):
        stats = await learner.update([] if u == 1 else random_pairs(1), batch_index=u)
        rates.append(stats.metrics.get("learning_rate"))
    assert rates == pytest.approx([0.0025, None, 0.005, 0.0075, 0.01, 0.01, 0.01])


async def test_the_reported_hash_is_that_of_the_weights_after_the_update() -> None:
    policy = ToyPolicy()
    start = weights_hash(policy.export("policy"))
    stats = (await updated(learner_of(policy), 1))[0]
    assert stats.weights_hash == weights_hash(policy.export("policy")) != start


@pytest.mark.parametrize("stop", [0, 1, 3])
async def test_a_resumed_learner_equals_an_unbroken_one_bit_for_bit(stop: int, tmp_path: Path) -> None:
    async def go_on(learner: LocalLearner, first: int, last: int) -> list[UpdateStats]:
        done = []
        for u in range(first, last):
            if u and u % 2 == 0 and learner.reference_version != u:
                await learner.update_reference()
            done += [await learner.update([] if u == 1 else random_pairs(2, first=9 * u), batch_index=u)]
        return done

    unbroken = learner_of(ToyPolicy(), warmup_updates=6, weight_decay=0.01)
    expected = await go_on(unbroken, 0, 6)
    killed = learner_of(ToyPolicy(), warmup_updates=6, weight_decay=0.01)
    before = await go_on(killed, 0, stop)
    hashes = killed.save(tmp_path / "checkpoint")
    assert sorted(hashes) == sorted(entry.name for entry in (tmp_path / "checkpoint").iterdir())
    resumed = learner_of(ToyPolicy(), warmup_updates=6, weight_decay=0.01)
    resumed.restore(tmp_path / "checkpoint")
    assert before + await go_on(resumed, stop, 6) == expected
    assert weights_hash(resumed.state().tensors) == weights_hash(unbroken.state().tensors)
    assert resumed.state().values == unbroken.state().values


async def test_a_resumed_learner_still_answers_a_replay(tmp_path: Path) -> None:
    learner = learner_of(ToyPolicy())
    stats = await updated(learner, 2)
    learner.save(tmp_path)
    resumed = learner_of(ToyPolicy())
    resumed.restore(tmp_path)
    assert await resumed.update(random_pairs(2), batch_index=1) == stats[1]


async def test_equal_states_are_equal_files(tmp_path: Path) -> None:
    learner = learner_of(ToyPolicy())
    await updated(learner, 1)
    assert learner.save(tmp_path / "a") == learner.save(tmp_path / "b")


async def test_a_state_is_a_copy(tmp_path: Path) -> None:
    learner = learner_of(ToyPolicy())
    await updated(learner, 1)
    state = learner.state()
    before = weights_hash(state.tensors)
    await updated(learner, 1, first=1)
    assert weights_hash(state.tensors) == before


async def test_restoring_what_is_damaged_or_of_another_policy_is_refused(tmp_path: Path) -> None:
    learner = learner_of(ToyPolicy())
    await updated(learner, 1)
    learner.save(tmp_path)
    state = learner.state()
    changed = dict(state.tensors)
    changed["policy/layer0.lora_A"] = changed["policy/layer0.lora_A"] + 1
    with pytest.raises(WeightsMismatchError, match="damaged"):
        learner_of(ToyPolicy()).load_state(type(state)(tensors=changed, values=state.values))
    without_moments = {name: t for name, t in state.tensors.items() if not name.startswith("adam/exp_avg_sq/")}
    with pytest.raises(WeightsMismatchError, match="moments of Adam"):
        learner_of(ToyPolicy()).load_state(type(state)(tensors=without_moments, values=state.values))
    (tmp_path / "learner.safetensors").write_bytes(b"\x80\x04not safetensors")
    with pytest.raises(WeightsMismatchError, match="no readable learner state"):
        learner_of(ToyPolicy()).restore(tmp_path)
    with pytest.raises(WeightsMismatchError, match="no readable learner state"):
        learner_of(ToyPolicy()).restore(tmp_path / "nothing here")


class Sum:
    """An all-reduce between threads that also counts its calls."""

    def __init__(self, world_size: int) -> None:
        self.barrier = threading.Barrier(world_size, timeout=60)
        self._parts: dict[int, Tensor] = {}
        self.calls = [0] * world_size

    def of(self, rank: int) -> Callable[[Tensor], None]:
        def all_reduce(tensor: Tensor) -> None:
            self.calls[rank] += 1
            self._parts[rank] = tensor.clone()
            self.barrier.wait()
            total = sum(self._parts[r] for r in sorted(self._parts))
            self.barrier.wait()
            tensor.copy_(torch.as_tensor(total))

        return all_reduce


def run_ranks(world_size: int, batches: list[list[Pair]]) -> tuple[list[LocalLearner], list[list[object]], Sum]:
    """Updates of several ranks, each in a thread of its own; an exception counts as a result."""
    total = Sum(world_size)
    learners = [
        learner_of(ToyPolicy(), rank=rank, world_size=world_size, all_reduce=total.of(rank) if world_size > 1 else None)
        for rank in range(world_size)
    ]
    results: list[list[object]] = [[] for _ in range(world_size)]

    def work(rank: int) -> None:
        for u, batch in enumerate(batches):
            try:
                results[rank].append(asyncio.run(learners[rank].update(batch, batch_index=u)))
            except NonFiniteError as error:
                results[rank].append(error)
            except BaseException:
                total.barrier.abort()  # so that no other rank waits
                raise

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return learners, results, total


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_several_ranks_equal_one(world_size: int) -> None:
    batches = [random_pairs(3, shapes=(SHAPE, WIDE_SHAPE), first=9 * u) for u in range(3)]
    batches += [[], random_pairs(1), random_pairs(2)]  # 8 ranks, 3 items: some ranks hold none
    (one,), (expected,), _ = run_ranks(1, batches)
    learners, results, total = run_ranks(world_size, batches)
    assert total.calls == [10] * world_size
    for stats_of_rank in results:
        for stats, single in zip(stats_of_rank, expected, strict=True):
            assert isinstance(stats, UpdateStats) and isinstance(single, UpdateStats)
            assert (stats.loss is None) == (single.loss is None)
            assert (stats.loss or 0.0) == pytest.approx(single.loss or 0.0, rel=1e-5)
            norms = [s.metrics.get("gradient_norm", 0.0) for s in (stats, single)]
            assert norms[0] == pytest.approx(norms[1], rel=1e-5)
            assert set(stats.metrics) == set(single.metrics)
    assert len({weights_hash(learner.state().tensors) for learner in learners}) == 1
    for name, tensor in learners[0].state().part("policy").items():
        torch.testing.assert_close(tensor, one.state().part("policy")[name], rtol=1e-4, atol=1e-6)


def test_a_non_finite_item_on_one_rank_stops_every_rank_before_its_optimizer_acts() -> None:
    broken = pair(random_latents(1) * math.nan, random_latents(2), group_id="broken")
    learners, results, _ = run_ranks(2, [[broken]])
    assert all(isinstance(result[0], NonFiniteError) for result in results)
    assert all(learner.policy_version == 0 for learner in learners)
    start = weights_hash(learner_of(ToyPolicy()).state().tensors)
    assert {weights_hash(learner.state().tensors) for learner in learners} == {start}


def test_several_ranks_need_an_all_reduce() -> None:
    with pytest.raises(ValueError, match="all_reduce"):
        learner_of(ToyPolicy(), world_size=2)


@pytest.mark.slow
def test_two_processes_over_gloo_equal_one(tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen([sys.executable, "-m", "tests.policies.gloo_rank", str(rank), "2", str(tmp_path)])
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in ranks] == [0, 0]
    one = learner_of(ToyPolicy())
    losses = []
    for u in range(4):
        batch = [] if u == 2 else random_pairs(3, shapes=(SHAPE, WIDE_SHAPE), first=9 * u)
        losses.append(asyncio.run(one.update(batch, batch_index=u)).loss or 0.0)
    found = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert found[0] == found[1]
    assert [loss or 0.0 for loss in found[0]] == pytest.approx(losses, rel=1e-5)
    states = [LearnerState.read(tmp_path / f"rank{rank}") for rank in range(2)]
    assert weights_hash(states[0].tensors) == weights_hash(states[1].tensors)
    for name, tensor in states[0].part("policy").items():
        torch.testing.assert_close(tensor, one.state().part("policy")[name], rtol=1e-4, atol=1e-6)
