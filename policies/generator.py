"""Draws candidates from the policy, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from policies.policy import VideoPolicy
from policies.types import Candidate, SampleRequest
from policies.weights import WeightSource

BEHAVIOUR = "behaviour"  # the weight set that candidates are drawn from


class LocalGenerator:
    """The `Generator` of one process: loads the version a request names, samples each slice as one batch, decodes.

    A candidate's numbers follow from its request and its slice: noise is drawn on CPU from its seed alone, and nothing
    of what was sampled before stays.
    """

    def __init__(self, policy: VideoPolicy, weights: WeightSource, *, candidates_per_slice: int | None = None) -> None:
        """`policy` needs weight set `behaviour`; `candidates_per_slice` None samples a whole request as one batch."""
        if BEHAVIOUR not in policy.weight_sets:
            raise ValueError(f"the policy of a generator needs weight set '{BEHAVIOUR}', it has {policy.weight_sets}")
        self._policy = policy
        self._weights = weights
        self._candidates_per_slice = candidates_per_slice
        self._loaded: tuple[int, str] | None = None

    async def sample(self, request: SampleRequest) -> list[Candidate]:
        """One candidate per seed, in the order of the seeds; latents float32 on CPU, frames uint8.

        Raises:
            InputError: the family cannot take this shape or text length.
            WeightsMismatchError: the request's version cannot be had.
        """
        weights_hash = self._load(request.policy_version)
        size = self._candidates_per_slice or len(request.seeds)
        return [candidate for part in request.slices(size) for candidate in self._sample_slice(part, weights_hash)]

    def forget_weights(self) -> None:
        """Reads the weights again at the next request: after a version was published anew, or the policy changed."""
        self._loaded = None

    def _load(self, version: int) -> str:
        if self._loaded is None or self._loaded[0] != version:
            tensors, name = self._weights.read(version)
            self._loaded = None  # until it is all there
            self._policy.load(BEHAVIOUR, tensors)
            self._loaded = (version, name)
        return self._loaded[1]

    def _sample_slice(self, request: SampleRequest, weights_hash: str) -> Sequence[Candidate]:
        policy, sampling = self._policy, request.sampling
        embedding, negative = self._embed(request)
        with policy.use(BEHAVIOUR):
            latents_B = policy.sample(embedding, negative, request.seeds, shape=request.shape, sampling=sampling)
        frames_B = policy.decode(latents_B)
        return [
            Candidate(
                group_id=request.group_id,
                prompt=request.prompt,
                shape=request.shape,
                seed=seed,
                policy_version=request.policy_version,
                weights_hash=weights_hash,
                latents=latents.clone(),  # a view would keep the whole batch alive, and be pickled with it
                frames=frames.copy(),
            )
            for seed, latents, frames in zip(request.seeds, latents_B.cpu(), frames_B, strict=True)
        ]

    def _embed(self, request: SampleRequest) -> tuple[Tensor, Tensor | None]:
        sampling = request.sampling
        texts = [request.prompt.text] + ([sampling.negative_prompt] if sampling.guidance_scale > 1 else [])
        embeddings = self._policy.embed(texts, max_sequence_length=sampling.max_sequence_length)
        return embeddings[0], embeddings[1] if len(embeddings) > 1 else None
