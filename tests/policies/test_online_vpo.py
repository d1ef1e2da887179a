import asyncio
from collections.abc import Sequence

import pytest

from policies.calibration import Reward
from policies.config import PairsConfig
from policies.online_vpo import LoopPlan, PromptBatch, run_online_vpo
from policies.selection import PairSelector
from policies.types import (
    Candidate,
    Drop,
    Pair,
    Prompt,
    SampleRequest,
    Sampling,
    Scored,
    Selection,
    Update,
    UpdateStats,
    VideoShape,
)
from tests.policies.toy_policy import SHAPE, WIDE_SHAPE

SAMPLING = Sampling(num_inference_steps=2, guidance_scale=3.0, max_sequence_length=4)


class Diary:
    """What happened, in order."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.requests: list[SampleRequest] = []


class FakeGenerator:
    def __init__(self, diary: Diary) -> None:
        self._diary = diary

    async def sample(self, request: SampleRequest) -> list[Candidate]:
        self._diary.requests.append(request)
        self._diary.entries.append(f"sample v{request.policy_version}")
        # groups finish in another order than they were asked for
        for _ in range(5 - int(request.group_id[-1])):
            await asyncio.sleep(0)
        return [
            Candidate(group_id=request.group_id, prompt=request.prompt, shape=request.shape, seed=seed,
                      policy_version=request.policy_version, weights_hash="h", latents=seed, frames=None)
            for seed in request.seeds
        ]  # fmt: skip


class FakeScorer:
    """A candidate's score is its place in the group; prompts may ask for a tie or a failure."""

    def __init__(self, diary: Diary) -> None:
        self._diary = diary

    async def score(self, candidates: Sequence[Candidate]) -> list[Scored]:
        self._diary.entries.append("score")
        text = candidates[0].prompt.text
        if "fail" in text:
            return [Scored(candidate=c, scores={}, failure="broken") for c in candidates]
        return [Scored(candidate=c, scores={"q": 0.0 if "tie" in text else float(i)}) for i, c in enumerate(candidates)]


class FakeLearner:
    def __init__(self, diary: Diary, *, policy_version: int = 0, reference_version: int = 0) -> None:
        self._diary = diary
        self.policy_version, self.reference_version = policy_version, reference_version
        self.batches: list[list[Selection]] = []

    async def update(self, batch: Sequence[Selection], *, batch_index: int) -> UpdateStats:
        assert batch_index == self.policy_version
        self._diary.entries.append(f"update {batch_index}")
        self.batches.append(list(batch))
        self.policy_version += 1
        return UpdateStats(batch_index=batch_index, policy_version=batch_index, metrics={}, weights_hash="h",
                           reference_version=self.reference_version, loss=0.7 if batch else None)  # fmt: skip

    async def update_reference(self) -> int:
        self._diary.entries.append(f"swap {self.policy_version}")
        self.reference_version = self.policy_version
        return self.reference_version


def plan_of(**changes: object) -> LoopPlan:
    settings: dict[str, object] = {
        "run_seed": 1, "candidates_per_prompt": 3, "reference_update_interval": 2, "is_online": True,
        "sampling": SAMPLING, "shape": SHAPE,
    }  # fmt: skip
    return LoopPlan(**(settings | changes))  # type: ignore[arg-type]


def batches_of(*texts: Sequence[str], first: int = 0) -> list[PromptBatch]:
    return [
        PromptBatch(index=index, prompts=tuple(Prompt(id=f"p{i}", text=text) for i, text in enumerate(batch)))
        for index, batch in enumerate(texts, start=first)
    ]


async def run(batches: Sequence[PromptBatch], learner: FakeLearner, diary: Diary, **plan: object) -> list[Update]:
    reward = Reward(combine="weighted_sum", weights={"q": 1.0}, dimensions=("q",))
    made = plan_of(**plan)
    loop = run_online_vpo(
        batches,
        generator=FakeGenerator(diary),
        scorer=FakeScorer(diary),
        selector=PairSelector(reward, PairsConfig(), run_seed=made.run_seed),
        learner=learner,
        plan=made,
    )
    return [update async for update in loop]


async def test_an_update_samples_scores_and_then_learns() -> None:
    diary = Diary()
    await run(batches_of(["a", "b"], ["c", "d"]), FakeLearner(diary), diary)
    assert diary.entries == ["sample v0", "sample v0", "score", "score", "update 0",
                             "sample v1", "sample v1", "score", "score", "update 1"]  # fmt: skip


async def test_best_and_worst_of_each_group_reach_the_learner_in_the_order_of_prompts() -> None:
    diary = Diary()
    learner = FakeLearner(diary)
    (update,) = await run(batches_of(["a", "b", "c"]), learner, diary)
    assert [(p.prompt.text, p.chosen, p.rejected) for p in learner.batches[0]] == [
        ("a", 2, 0),
        ("b", 2, 0),
        ("c", 2, 0),
    ]
    assert list(update.outcomes) == learner.batches[0]
    seeds = diary.requests[0].seeds
    assert learner.batches[0][0].chosen_candidate.latents == seeds[2]


@pytest.mark.parametrize(
    ("interval", "swaps"), [(1, [1, 2, 3, 4, 5, 6]), (2, [2, 4, 6]), (3, [3, 6]), (9, []), (0, [])]
)
async def test_the_reference_is_renewed_exactly_every_k_updates(interval: int, swaps: list[int]) -> None:
    diary = Diary()
    await run(batches_of(*[["a"]] * 7), FakeLearner(diary), diary, reference_update_interval=interval)
    assert [entry for entry in diary.entries if entry.startswith("swap")] == [f"swap {v}" for v in swaps]
    for version in swaps:  # at the start of its update, before anything is sampled
        assert diary.entries[diary.entries.index(f"swap {version}") + 1] == f"sample v{version}"


async def test_resuming_between_a_swap_and_its_update_swaps_once_if_it_was_lost_and_not_if_it_was_kept() -> None:
    for reference_version, swaps in ((2, ["swap 4", "swap 6"]), (4, ["swap 6"])):
        diary = Diary()
        learner = FakeLearner(diary, policy_version=4, reference_version=reference_version)
        await run(batches_of(*[["a"]] * 3, first=4), learner, diary)
        assert [entry for entry in diary.entries if entry.startswith("swap")] == swaps


async def test_online_requests_name_the_current_version_and_offline_ones_the_initial() -> None:
    for is_online, versions in ((True, [0, 1, 2]), (False, [0, 0, 0])):
        diary = Diary()
        await run(batches_of(["a"], ["a"], ["a"]), FakeLearner(diary), diary, is_online=is_online)
        assert [request.policy_version for request in diary.requests] == versions


async def test_dropped_groups_do_not_train_and_are_reported_with_the_reason() -> None:
    diary = Diary()
    learner = FakeLearner(diary)
    (update,) = await run(batches_of(["a", "tie", "fail", "b"]), learner, diary)
    assert [pair.prompt.text for pair in learner.batches[0]] == ["a", "b"]
    assert [o.reason if isinstance(o, Drop) else None for o in update.outcomes] == [
        None, "gap_too_small", "too_few_scores", None,
    ]  # fmt: skip
    assert update.stats.loss == 0.7


async def test_a_batch_without_a_survivor_is_an_update_all_the_same() -> None:
    diary = Diary()
    learner = FakeLearner(diary)
    updates = await run(batches_of(["tie", "fail"], ["a"]), learner, diary)
    assert [u.stats.loss for u in updates] == [None, 0.7]
    assert learner.batches[0] == [] and learner.policy_version == 2
    assert diary.requests[2].policy_version == 1


async def test_seeds_are_distinct_between_candidates_groups_and_updates() -> None:
    diary = Diary()
    await run(batches_of(["a", "a"], ["a", "a"]), FakeLearner(diary), diary, candidates_per_prompt=4)
    seeds = [seed for request in diary.requests for seed in request.seeds]
    assert len(seeds) == 16 == len(set(seeds))


async def test_requests_follow_from_run_seed_and_batch_alone() -> None:
    batch = batches_of(["a", "b"], first=7)[0]
    assert plan_of().requests(batch) == plan_of().requests(batch)
    others = plan_of(run_seed=2).requests(batch)
    assert not {s for r in others for s in r.seeds} & {s for r in plan_of().requests(batch) for s in r.seeds}
    assert [r.group_id for r in others] == ["u000007-p000", "u000007-p001"]
    assert others[0].sampling == SAMPLING


def test_a_prompts_own_shape_wins_over_the_runs() -> None:
    prompts = (Prompt(id="a", text="a"), Prompt(id="b", text="b", shape=WIDE_SHAPE))
    shapes: list[VideoShape] = [r.shape for r in plan_of().requests(PromptBatch(index=0, prompts=prompts))]
    assert shapes == [SHAPE, WIDE_SHAPE]


async def test_whoever_iterates_may_stop_after_any_update() -> None:
    diary = Diary()
    learner = FakeLearner(diary)
    reward = Reward(combine="weighted_sum", weights={"q": 1.0}, dimensions=("q",))
    loop = run_online_vpo(
        batches_of(*[["a"]] * 5),
        generator=FakeGenerator(diary),
        scorer=FakeScorer(diary),
        selector=PairSelector(reward, PairsConfig(), run_seed=0),
        learner=learner,
        plan=plan_of(),
    )
    async for update in loop:
        assert isinstance(update.outcomes[0], Pair)
        if update.batch_index == 1:
            break
    assert learner.policy_version == 2 and len(diary.requests) == 2
