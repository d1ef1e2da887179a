from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cluster.groups import RecordedGroups, outcome_of, read_pair, record_of
from cluster.latents import write_latents
from cluster.phases import PhaseClock
from cluster.run_directory import RunDirectory
from policies.errors import WeightsMismatchError
from policies.types import Candidate, Drop, Outcome, Pair, Prompt, SampleRequest, Sampling, Scored
from tests.cluster.outcomes import SHAPE, drop, group, pair


class Fakes:
    """Generator, scorer and selector that count how often they are asked."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome, self.calls = outcome, 0

    async def sample(self, request: SampleRequest) -> list[Candidate]:
        self.calls += 1
        return [member.candidate for member in self.outcome.group.members]

    async def score(self, candidates: Sequence[Candidate]) -> list[Scored]:
        return list(self.outcome.group.members)

    def select(self, request: SampleRequest, scored: Sequence[Scored]) -> Outcome:
        return self.outcome


REWARD_MODEL = {"name": "brightness", "revision": "abc", "files": {"model.safetensors": "def"}}


async def write(path: Path, chosen: np.ndarray, rejected: np.ndarray) -> str:
    return write_latents(path, chosen, rejected)


def request(outcome: Outcome) -> SampleRequest:
    members = outcome.group.members
    return SampleRequest(
        group_id=outcome.group_id,
        prompt=Prompt(id="p7", text=outcome.group.prompt.text),
        shape=SHAPE,
        seeds=tuple(member.candidate.seed for member in members),
        policy_version=3,
        sampling=Sampling(num_inference_steps=1, guidance_scale=1.0, max_sequence_length=8),
    )


async def draw(fakes: Fakes, directory: RunDirectory, *, weights_hash: str = "hash-3") -> Outcome:
    groups = RecordedGroups(
        fakes,
        fakes,
        fakes,
        directory=directory,
        reward_model=REWARD_MODEL | {"dimensions": ["VQ"], "own_scale": None},
        write_latents=write,
        weights_hash=lambda version: weights_hash,
        clock=PhaseClock(),
    )
    asked = request(fakes.outcome)
    return groups.select(asked, await groups.score(await groups.sample(asked)))


def same(one: Outcome, other: Outcome) -> bool:
    return record_of(one, latents_sha256=None) == record_of(other, latents_sha256=None)


async def test_a_record_says_which_reward_model_gave_its_scores(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    drawn = await draw(Fakes(pair()), directory)
    record = directory.read_group(drawn.group_id)
    assert record is not None and record["reward_model"] == REWARD_MODEL


@pytest.mark.parametrize("outcome", [pair(), drop()], ids=["pair", "drop"])
async def test_a_recorded_group_is_not_drawn_again(tmp_path: Path, outcome: Outcome) -> None:
    fakes, directory = Fakes(outcome), RunDirectory(tmp_path)
    first = await draw(fakes, directory)
    second = await draw(fakes, directory)
    assert fakes.calls == 1
    assert type(first) is type(second) and same(first, second)


async def test_a_group_from_other_weights_is_drawn_again(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    await draw(Fakes(pair()), directory)
    fakes = Fakes(pair())
    with pytest.raises(WeightsMismatchError, match="version 3 is other"):
        await draw(fakes, directory, weights_hash="other")
    assert fakes.calls == 1


async def test_a_group_with_torn_latents_is_drawn_again(tmp_path: Path) -> None:
    fakes, directory = Fakes(pair()), RunDirectory(tmp_path)
    await draw(fakes, directory)
    directory.latents_file("u000003-p001").write_bytes(b"torn")
    await draw(fakes, directory)
    assert fakes.calls == 2
    assert sorted(load_file(directory.latents_file("u000003-p001"))) == ["chosen", "rejected"]


async def test_a_pair_reads_back_with_its_latents(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    await draw(Fakes(pair()), directory)
    found = read_pair(directory, "u000003-p001")
    assert same(found, pair())
    assert found.chosen_candidate.latents[0, 0] == 2 and found.rejected_candidate.latents[0, 0] == 1
    assert found.prompt.shape == SHAPE


async def test_a_dropped_group_has_no_pair_to_read(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    outcome = await draw(Fakes(drop()), directory)
    assert isinstance(outcome, Drop)
    with pytest.raises(FileNotFoundError, match="u000003-p002"):
        read_pair(directory, outcome.group_id)


def test_scores_that_are_not_finite_are_recorded_as_failures() -> None:
    broken = group(rewards=(0.5, 1.0))
    members = (broken.members[0], Scored(candidate=broken.members[1].candidate, scores={"VQ": float("nan")}))
    outcome = Drop(
        group=type(broken)(group_id=broken.group_id, prompt=broken.prompt, members=members, rewards=(0.5, None)),
        reason="too_few_scores",
    )
    record = record_of(outcome, latents_sha256=None)
    assert record["members"][1]["scores"] is None
    assert record["members"][1]["failure"] == "scores are not finite"
    assert not outcome_of(record).group.members[1].is_valid


def test_an_outcome_survives_its_record() -> None:
    for outcome in (pair(), drop()):
        record = record_of(outcome, latents_sha256=None)
        assert record_of(outcome_of(record), latents_sha256=None) == record
    assert isinstance(outcome_of(record_of(pair(), latents_sha256=None)), Pair)
