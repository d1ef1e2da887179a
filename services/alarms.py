"""Signs in a run's curves and test that deserve a look, in words. Thresholds: facts of the papers' follow-up issues
(likelihood displacement, dead gradients) and of this project's own over-optimised runs (LOG.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

RECENT = 10  # updates that a sign must hold on average, so that one noisy batch is no alarm


def alarms(lines: Sequence[Mapping[str, Any]], test: Mapping[str, Any] | None) -> list[str]:
    """Everything that looks wrong; empty for a healthy run."""
    return [*_curve_alarms(lines), *_test_alarms(test or {})]


def _curve_alarms(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    chosen, rejected = _recent(lines, "chosen_error_delta"), _recent(lines, "rejected_error_delta")
    if chosen is not None and rejected is not None and chosen > 0.1 and rejected > 0.1:
        found.append(
            f"Errors of chosen ({chosen:+.2f}) and rejected ({rejected:+.2f}) both rose: the policy moves away from "
            "both (likelihood displacement). Lower the learning rate, raise beta or renew the reference."
        )
    gate = _recent(lines, "gate_openness")
    if gate is not None and gate < 0.1:
        found.append(f"The gate is {gate:.2f} open: pairs are already told apart and barely teach. Lower beta.")
    dropped = _recent(lines, "drop_rate")
    if dropped is not None and dropped > 0.5:
        found.append(f"{dropped:.0%} of the newest groups were dropped: rewards are missing or equal within groups.")
    skipped = sum(line.get("loss") is None for line in lines)
    if skipped:
        found.append(f"{skipped} of {len(lines)} updates were skipped: none of their groups had a usable pair.")
    first, last = _mean(lines[:RECENT], "diversity"), _recent(lines, "diversity")
    if first and last is not None and len(lines) >= 2 * RECENT and last < 0.5 * first:
        found.append(
            f"Candidates of one prompt differ {last / first:.0%} as much as at the start: diversity collapses."
        )
    return found


def _test_alarms(test: Mapping[str, Any]) -> list[str]:
    found = []
    gain = _difference(test, "ground_truth")
    reward_gain = _difference(test, "reward")
    if gain is not None and reward_gain is not None and reward_gain > 0 > gain:
        found.append(f"The reward rose by {reward_gain:.3f} while ground truth fell by {-gain:.3f}: reward hacking.")
    before, matched = test.get("ground_truth_before"), test.get("ground_truth_after_energy_matched")
    if gain is not None and gain > 0.02 and before is not None and matched is not None and matched - before < gain / 2:
        found.append(
            f"Of the gain of {gain:+.3f}, {matched - before:+.3f} is left once clips have the energy of the base "
            "clips: most of it is brightness."
        )
    old, new = test.get("diversity_before"), test.get("diversity_after")
    if old and new is not None and new < 0.5 * old:
        found.append(f"Test samples of one prompt differ {new / old:.0%} as much as before: diversity collapsed.")
    return found


def _difference(test: Mapping[str, Any], name: str) -> float | None:
    before, after = test.get(f"{name}_before"), test.get(f"{name}_after")
    return after - before if isinstance(before, int | float) and isinstance(after, int | float) else None


def _recent(lines: Sequence[Mapping[str, Any]], key: str) -> float | None:
    return _mean(lines[-RECENT:], key)


def _mean(lines: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [line[key] for line in lines if isinstance(line.get(key), int | float)]
    return sum(values) / len(values) if values else None
