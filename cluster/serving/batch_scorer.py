"""A loaded reward model as batches see it: what goes wrong with an item stays with that item."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from cluster.serving.values import BatchResult, Failure, FailureCode, ModelFacts, Result, ScoreItem, Scores
from policies.errors import InputError
from policies.rewards.model import Prepared, RewardModel, normalised


class BatchScorer:
    """Runs batches through a model in this process and thread."""

    def __init__(self, model: RewardModel, *, name: str, dtype: str) -> None:
        self._model = model
        self.facts = ModelFacts(
            name=name,
            model=model.name,
            revision=model.revision,
            files=dict(model.files),
            dimensions=model.dimensions,
            dtype=dtype,
        )

    def run(self, items: Sequence[ScoreItem]) -> BatchResult:
        """Scores, or the reason for none, in the order of the items."""
        begun = time.perf_counter()
        results: list[Result | None] = [None] * len(items)
        prepared: dict[int, Prepared] = {}
        for index, item in enumerate(items):
            try:
                prepared[index] = self._model.prepare(item.frames_FHWC, item.prompt, item.fps)
            except InputError as error:
                results[index] = _refused(error)
            except Exception:  # a model fails in ways of its own, and that must cost one item, not its neighbours
                results[index] = _FAILED
        for index, result in self._forward(prepared).items():
            results[index] = result
        return BatchResult(
            results=tuple(result or _FAILED for result in results),
            facts=self.facts,
            inference_ms=1000 * (time.perf_counter() - begun),
        )

    def _forward(self, prepared: dict[int, Prepared]) -> dict[int, Result]:
        if not prepared:
            return {}
        try:
            rows = self._model.score(list(prepared.values())).tolist()
        except Exception:
            if len(prepared) == 1:
                return dict.fromkeys(prepared, _FAILED)
            # whoever is to blame, the others can be scored without it
            return {index: result for index in prepared for result in self._forward({index: prepared[index]}).values()}
        return {index: self._scores(row) for index, row in zip(prepared, rows, strict=True)}

    def _scores(self, row: Sequence[float]) -> Result:
        raw = dict(zip(self._model.dimensions, row, strict=True))
        if not all(map(math.isfinite, raw.values())):
            return Failure(code=FailureCode.NON_FINITE, detail="The model gave a score that is not a finite number.")
        scale = normalised(self._model, raw)
        return Scores(raw=raw, normalised=scale, reward=self._model.overall(scale))


_FAILED = Failure(code=FailureCode.MODEL_FAILED, detail="The model failed on this item.")


def _refused(error: InputError) -> Failure:
    """The message of an InputError quotes what it refuses, so only its `public` sentence goes out."""
    sentence = error.public or "The model cannot judge this video with this prompt."
    return Failure(code=FailureCode.INPUT_REFUSED, detail=sentence)
