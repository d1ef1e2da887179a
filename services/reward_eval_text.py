"""An evaluation in a few lines, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policies.rewards.evaluation.bootstrap import Interval
from policies.rewards.evaluation.results import PairMetrics, RankingMetrics
from services.reward_eval_result import Evaluation

Table = list[list[str]]
PAIR_HEAD = ["dimension", "without ties", "with ties", "tie if |difference| <=", "pairs", "excluded"]
REFERENCE_HEAD = ["reference's with ties", "reference's without", "its pairs"]


def summary(evaluation: Evaluation) -> str:
    """Tables of the metrics, and what was left out."""
    lines = [f"{_made_with(evaluation)}{evaluation.source}", ""]
    for table in tables(evaluation):
        lines += [*aligned(table), ""]
    lines += [f"note: {note}" for note in evaluation.notes]
    if evaluation.config.bootstrap.draws:
        lines.append("In brackets: 95 % bootstrap intervals over prompts.")
    if evaluation.scored and evaluation.scored.failed:
        lines.append(f"{evaluation.scored.failed} of {evaluation.scored.videos} videos could not be scored; see above.")
    return "\n".join(lines)


def tables(evaluation: Evaluation) -> Iterator[Table]:
    """One table for each kind of metrics, its head first."""
    found = [(name, metrics) for name, several in evaluation.dimensions.items() for metrics in several]
    pairs = [_pair_row(name, each, evaluation) for name, each in found if isinstance(each, PairMetrics)]
    if pairs:
        yield [[*PAIR_HEAD, *(REFERENCE_HEAD if evaluation.config.with_reference else [])], *pairs]
    rankings = [_ranking_row(name, each) for name, each in found if isinstance(each, RankingMetrics)]
    if rankings:
        recalls = [f"recall@{k}" for k in evaluation.config.recall_at]
        yield [["dimension", "MRR", *recalls, "prompts", "excluded"], *rankings]
    ratings = [
        [name, number(each.spearman, each.spearman_ci95), str(each.videos_used), str(each.videos_excluded)]
        for name, each in found
        if not isinstance(each, PairMetrics | RankingMetrics)
    ]
    if ratings:
        yield [["dimension", "Spearman's rho", "videos", "excluded"], *ratings]


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def percent(share: float | None, interval: Interval | None = None) -> str:
    """A share with its interval: `75.0 % [71.2, 79.0]`."""
    if share is None:
        return "undefined"
    return f"{100 * share:.1f} %" + (f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else "")


def number(value: float | None, interval: Interval | None = None) -> str:
    """A number with its interval: `0.416 [0.102, 0.683]`."""
    if value is None:
        return "undefined"
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def _pair_row(name: str, metrics: PairMetrics, evaluation: Evaluation) -> list[str]:
    threshold = metrics.tie_threshold
    row = [
        name,
        percent(metrics.accuracy_without_ties, metrics.accuracy_without_ties_ci95),
        percent(metrics.accuracy_with_ties, metrics.accuracy_with_ties_ci95),
        "never" if threshold is None else f"{threshold:.4g}",
        str(metrics.pairs_used),
        str(metrics.pairs_excluded),
    ]
    if not evaluation.config.with_reference:
        return row
    reference = metrics.reference_procedure
    return [
        *row,
        percent(reference.accuracy_with_ties),
        percent(reference.accuracy_without_ties),
        str(reference.pairs),
    ]


def _ranking_row(name: str, metrics: RankingMetrics) -> list[str]:
    recalls = [percent(share, metrics.recall_at_ci95[k]) for k, share in metrics.recall_at.items()]
    mrr = number(metrics.mrr, metrics.mrr_ci95)
    return [name, mrr, *recalls, str(metrics.prompts_used), str(metrics.prompts_excluded)]


def _made_with(evaluation: Evaluation) -> str:
    if evaluation.scored is None:
        return "Stored scores of "
    return f"{evaluation.scored.model} {evaluation.scored.revision[:12]} on "
