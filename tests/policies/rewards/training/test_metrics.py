"""Held-out numbers while training."""

import numpy as np
import pytest
import torch

from policies.rewards.training.metrics import auc, pair_agreement, rating_agreement

NAN = float("nan")


def test_auc_is_the_share_of_couples_in_order_with_half_for_equal_ones() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 9, 40) + 1.0, rng.integers(0, 9, 30) + 0.0
    above = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2
    assert auc(positive, negative) == pytest.approx(above)
    assert auc(np.array([]), negative) is None


def test_agreement_is_told_by_dimension_without_ties_and_without_unusable_labels() -> None:
    first = torch.tensor([[1.0, 0.0], [0.1, 0.0], [-3.0, 0.0], [9.0, 0.0]])
    labels = torch.tensor([[1.0, NAN], [0.0, NAN], [1.0, 0.0], [NAN, NAN]])
    found = pair_agreement(first, torch.zeros(4, 2), labels, ("VQ", "MQ"))
    assert found["VQ"].accuracy == 0.5
    assert found["VQ"].tie_auc == 1.0
    assert (found["VQ"].clear, found["VQ"].tied) == (2, 1)
    assert found["MQ"].accuracy is None
    assert found["MQ"].tie_auc is None
    assert (found["MQ"].clear, found["MQ"].tied) == (0, 1)


def test_agreement_with_ratings_is_error_and_rank_correlation_of_rated_videos() -> None:
    scores, ratings = torch.tensor([[1.0], [2.0], [5.0], [7.0]]), torch.tensor([[1.0], [3.0], [4.0], [NAN]])
    found = rating_agreement(scores, ratings, ("VQ",))["VQ"]
    assert found.squared_error == pytest.approx(2 / 3)
    assert found.spearman == pytest.approx(1.0)
    assert found.rated == 3
