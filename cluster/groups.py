"""Groups as the run records them: drawn once, written down, and read back after a crash."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors.numpy import load_file

from cluster.phases import PhaseClock
from cluster.run_directory import RunDirectory, write_json
from policies.errors import WeightsMismatchError
from policies.online_vpo import Generator, Scorer, Selector
from policies.types import (
    Candidate,
    Drop,
    Group,
    Handle,
    Outcome,
    Pair,
    Prompt,
    SampleRequest,
    Scored,
    VideoShape,
)


class LatentWriter(Protocol):
    """Writes the latents of a pair, wherever they are, as one safetensors file; returns its sha256."""

    def __call__(self, path: Path, chosen: Handle, rejected: Handle) -> Awaitable[str]: ...


class RecordedGroups:
    """Generator, scorer and selector of a run: passes on to the real ones, and makes each group's outcome durable.

    A group whose record lies in the run directory, drawn from the same weights, is not drawn again.

    Args:
        reward_model: what the scorer says that it scores with; its name, revision and files are in every record.
    """

    def __init__(
        self,
        generator: Generator,
        scorer: Scorer,
        selector: Selector,
        *,
        directory: RunDirectory,
        reward_model: Mapping[str, Any],
        write_latents: LatentWriter,
        weights_hash: Callable[[int], str],
        clock: PhaseClock,
    ) -> None:
        self._generator, self._scorer, self._selector = generator, scorer, selector
        self._directory, self._write_latents = directory, write_latents
        self._reward_model = {key: reward_model[key] for key in ("name", "revision", "files")}
        self._weights_hash, self._clock = weights_hash, clock
        self._requests: dict[str, SampleRequest] = {}
        self._outcomes: dict[str, Outcome] = {}

    async def sample(self, request: SampleRequest) -> list[Candidate]:
        self._requests[request.group_id] = request
        record = self._directory.read_group(request.group_id)
        if record is not None and self._is_current(record, request):
            outcome = outcome_of(record)
            self._outcomes[request.group_id] = outcome
            return [member.candidate for member in outcome.group.members]
        with self._clock.phase("generate"):
            candidates = await self._generator.sample(request)
        expected = self._weights_hash(request.policy_version)
        for candidate in candidates:
            if candidate.weights_hash != expected:
                raise WeightsMismatchError(
                    f"candidate {candidate.seed} of group {request.group_id} was drawn from weights "
                    f"{candidate.weights_hash[:12]}, but version {request.policy_version} is {expected[:12]}"
                )
        return candidates

    async def score(self, candidates: Sequence[Candidate]) -> list[Scored]:
        group_id = candidates[0].group_id
        if group_id in self._outcomes:
            return list(self._outcomes[group_id].group.members)
        with self._clock.phase("score"):
            scored = await self._scorer.score(candidates)
            await self._record(self._requests[group_id], scored)
        return scored

    def select(self, request: SampleRequest, scored: Sequence[Scored]) -> Outcome:
        del self._requests[request.group_id]
        return self._outcomes.pop(request.group_id)

    async def _record(self, request: SampleRequest, scored: Sequence[Scored]) -> None:
        outcome = self._outcomes[request.group_id] = self._selector.select(request, scored)
        digest = None
        if isinstance(outcome, Pair):
            digest = await self._write_latents(
                self._directory.latents_file(request.group_id),
                outcome.chosen_candidate.latents,
                outcome.rejected_candidate.latents,
            )
        record = {**record_of(outcome, latents_sha256=digest), "reward_model": self._reward_model}
        write_json(self._directory.group_file(request.group_id), record)

    def _is_current(self, record: Mapping[str, Any], request: SampleRequest) -> bool:
        members = record["members"]
        return (
            [member["seed"] for member in members] == list(request.seeds)
            and record["policy_version"] == request.policy_version
            and all(m["weights_hash"] == self._weights_hash(request.policy_version) for m in members)
        )


def record_of(outcome: Outcome, *, latents_sha256: str | None) -> dict[str, Any]:
    """An outcome as strict JSON."""
    group = outcome.group
    first = group.members[0].candidate
    return {
        "group_id": group.group_id,
        "prompt": {"id": group.prompt.id, "text": group.prompt.text},
        "shape": asdict(first.shape),
        "policy_version": first.policy_version,
        "members": [
            {
                "seed": member.candidate.seed,
                "weights_hash": member.candidate.weights_hash,
                "scores": dict(member.scores) if member.is_valid else None,
                "failure": member.failure if member.failure or member.is_valid else "scores are not finite",
                "reward": reward,
            }
            for member, reward in zip(group.members, group.rewards, strict=True)
        ],
        "chosen": outcome.chosen if isinstance(outcome, Pair) else None,
        "rejected": outcome.rejected if isinstance(outcome, Pair) else None,
        "dropped": outcome.reason if isinstance(outcome, Drop) else None,
        "latents_sha256": latents_sha256,
    }


def outcome_of(record: Mapping[str, Any], latents: Mapping[str, np.ndarray] | None = None) -> Outcome:
    """The outcome that a record describes; its pair carries latents if they are given."""
    shape = VideoShape(**record["shape"])
    prompt = Prompt(id=record["prompt"]["id"], text=record["prompt"]["text"], shape=shape)

    def member(index: int, entry: Mapping[str, Any]) -> Scored:
        name = {record["chosen"]: "chosen", record["rejected"]: "rejected"}.get(index)
        candidate = Candidate(
            group_id=record["group_id"],
            prompt=prompt,
            shape=shape,
            seed=entry["seed"],
            policy_version=record["policy_version"],
            weights_hash=entry["weights_hash"],
            latents=latents[name] if latents and name else None,
            frames=None,
        )
        return Scored(candidate=candidate, scores=entry["scores"] or {}, failure=entry["failure"])

    group = Group(
        group_id=record["group_id"],
        prompt=prompt,
        members=tuple(member(index, entry) for index, entry in enumerate(record["members"])),
        rewards=tuple(entry["reward"] for entry in record["members"]),
    )
    if record["dropped"] is not None:
        return Drop(group=group, reason=record["dropped"])
    return Pair(group=group, chosen=record["chosen"], rejected=record["rejected"])


def read_pair(directory: RunDirectory, group_id: str) -> Pair:
    """A recorded pair with the latents of chosen and rejected as float32 arrays."""
    record = directory.read_group(group_id)
    if record is None or record["dropped"] is not None:
        raise FileNotFoundError(f"group {group_id} has no recorded pair under {directory.groups}")
    outcome = outcome_of(record, load_file(directory.latents_file(group_id)))
    assert isinstance(outcome, Pair)
    return outcome
