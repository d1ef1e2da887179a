"""From raw scores to the one reward that ranks a group.

Raw scores of different dimensions have different scales, and a Bradley-Terry model's scale is arbitrary. `mean_z` makes
them comparable with a mean and a deviation per dimension, taken once on samples of the initial policy and frozen for
the run; otherwise a reward curve would mean nothing. `own_scale` takes the mean and deviation that a reward model was
published with instead.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from policies.config import RewardModelConfig
from policies.errors import InputError

# A dimension whose deviation is below this part of its mean varies by rounding only.
_RELATIVE_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Mean and (sample) standard deviation of each dimension's raw scores on samples of the initial policy.

    With samples = 0 the constants that a reward model was published with.
    """

    mean: Mapping[str, float]
    std: Mapping[str, float]
    samples: int = 0

    @classmethod
    def fit(cls, scores: Sequence[Mapping[str, float]]) -> Calibration:
        """Takes the statistics of raw scores, one mapping per valid sample.

        Raises:
            InputError: fewer than two samples, differing dimensions, or a score that is not finite.
        """
        if len(scores) < 2:
            raise InputError(f"calibration needs at least 2 scored samples and has {len(scores)}; did scoring fail?")
        dimensions = list(scores[0])
        for index, sample in enumerate(scores):
            if set(sample) != set(dimensions) or not all(map(math.isfinite, sample.values())):
                raise InputError(
                    f"calibration sample {index} has scores {dict(sample)}; each needs a finite {', '.join(dimensions)}"
                )
        # exact arithmetic, so that equal scores have a deviation of exactly 0
        columns = {name: [float(sample[name]) for sample in scores] for name in dimensions}
        return cls(
            mean={name: statistics.mean(column) for name, column in columns.items()},
            std={name: statistics.stdev(column) for name, column in columns.items()},
            samples=len(scores),
        )

    def normalise(self, scores: Mapping[str, float]) -> dict[str, float]:
        """(score - mean) / std of every dimension."""
        return {name: (score - self.mean[name]) / self.std[name] for name, score in scores.items()}

    def to_json(self) -> str:
        """JSON text; `from_json` gives an equal calibration."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Reads `to_json`'s text. Raises InputError when it is something else."""
        try:
            value = json.loads(text)
            mean = {str(name): float(number) for name, number in value["mean"].items()}
            std = {str(name): float(number) for name, number in value["std"].items()}
            samples = int(value["samples"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"this is no calibration ({type(error).__name__}: {error}): {text[:80]!r}") from error
        if mean.keys() != std.keys() or not all(map(math.isfinite, (*mean.values(), *std.values()))):
            raise InputError(f"this is no calibration, mean and std do not name the same dimensions: {text[:80]!r}")
        return cls(mean=mean, std=std, samples=samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """Combines a candidate's raw scores into one number.

        weighted_sum   sum_d w_d s_d
        mean_z         sum_d w_d (s_d - mean_d) / std_d  /  sum_d |w_d|
        own_scale      the same with the mean and deviation that the model was published with

    Args:
        weights: by dimension; a dimension left out, or of weight 0, does not count.
        dimensions: those of the reward model.
        calibration: needed for mean_z and own_scale.
    Raises:
        InputError: a weight for a dimension that the model does not have, no weight other than 0, no calibration where
            one is needed, or one in which a dimension that counts does not vary.
    """

    combine: Literal["mean_z", "weighted_sum", "own_scale"]
    weights: Mapping[str, float]
    dimensions: tuple[str, ...]
    calibration: Calibration | None = None
    _counted: Mapping[str, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        counted = {name: float(w) for name in self.dimensions if (w := self.weights.get(name, 0.0)) != 0}
        _check(self.weights, self.dimensions)
        object.__setattr__(self, "_counted", counted)
        if self.combine != "weighted_sum":
            self._check_calibration()

    @classmethod
    def of(
        cls, config: RewardModelConfig, *, dimensions: Sequence[str], calibration: Calibration | None = None
    ) -> Reward:
        """The reward that a config asks for, on a model of these dimensions; no weights: 1 for each dimension.

        Over several models the dimensions are named `model.dimension`, and each section weighs its own.
        """
        weights = _weights(config, dimensions)
        return cls(combine=config.combine, weights=weights, dimensions=tuple(dimensions), calibration=calibration)

    def __call__(self, scores: Mapping[str, float]) -> float:
        """The reward of raw scores, which hold every dimension that counts. NaN or infinite if a score is."""
        missing = [name for name in self._counted if name not in scores]
        if missing:
            raise InputError(f"scores {dict(scores)} lack {', '.join(missing)}, which the reward weighs")
        if self.combine == "weighted_sum":
            return sum(w * scores[name] for name, w in self._counted.items())
        assert self.calibration is not None
        mean, std = self.calibration.mean, self.calibration.std
        total = sum(w * (scores[name] - mean[name]) / std[name] for name, w in self._counted.items())
        return total / sum(map(abs, self._counted.values()))

    def _check_calibration(self) -> None:
        if self.calibration is None:
            raise InputError(
                f"reward.combine {self.combine} needs a calibration: for mean_z one fitted on samples of the initial "
                "policy, for own_scale the model's own"
            )
        mean, std = self.calibration.mean, self.calibration.std
        missing = sorted(set(self._counted) - set(std))
        if missing:
            raise InputError(f"the calibration lacks {', '.join(missing)}; it was fitted for {', '.join(std)}")
        constant = [name for name in self._counted if std[name] <= _RELATIVE_ROUNDING * abs(mean[name])]
        if constant:
            raise InputError(
                f"{', '.join(constant)} did not vary over {self.calibration.samples} samples of the initial policy "
                f"(std {[std[name] for name in constant]}), so mean_z cannot scale it; leave it out of reward.weights "
                "or use combine: weighted_sum"
            )


def check_weights(config: RewardModelConfig, dimensions: Sequence[str]) -> None:
    """Raises InputError when a config weighs what a model of these dimensions does not have, or nothing at all."""
    _check(_weights(config, dimensions), dimensions)


def _weights(config: RewardModelConfig, dimensions: Sequence[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for label, section in config.sections().items():
        prefix = f"{label}." if config.also else ""
        own = [name.removeprefix(prefix) for name in dimensions if name.startswith(prefix)]
        given = dict.fromkeys(own, 1.0) if section.weights is None else section.weights
        weights |= {prefix + name: weight for name, weight in given.items()}
    return weights


def _check(weights: Mapping[str, float], dimensions: Sequence[str]) -> None:
    known = ", ".join(dimensions)
    unknown = sorted(set(weights) - set(dimensions))
    if unknown:
        raise InputError(f"reward.weights names {', '.join(unknown)}, but the model's dimensions are {known}")
    if not any(weights.values()) or not all(map(math.isfinite, weights.values())):
        raise InputError(f"reward.weights {dict(weights)} rank nothing; weigh at least one of {known}")
