"""The report of an evaluation: complete, self-contained, and nothing in it that a user wrote runs."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from policies.rewards.evaluation.bootstrap import Bootstrap
from policies.rewards.evaluation.judgements import JudgedPair
from policies.rewards.evaluation.results import evaluate_pairs
from services.reward_eval_report import render, write_evaluation
from services.reward_eval_result import Evaluation, EvaluationConfig, ScoredWith
from tests.services.test_report import ATTACK
from tests.services.test_report_browser import BROWSER, open_in_browser


def evaluation(name: str = "VQ", labels: tuple[int, ...] = (1, -1, 0, 1)) -> Evaluation:
    config = EvaluationConfig(bootstrap=Bootstrap(draws=100), recall_at=(1,), with_reference=True)
    pairs = [
        JudgedPair(prompt_id=str(i), label=labels[i % len(labels)], score_A=float(i % 7), score_B=3.0)
        for i in range(60)
    ]
    return Evaluation(
        source=f"{name}.csv",
        config=config,
        dimensions={name: (evaluate_pairs(pairs, config.bootstrap),)},
        scored=ScoredWith(
            model="shapes", revision="abc", files={}, settings={"dtype": name}, videos=3, reused=0,
            failures={f"{name}.mp4": f"{name} is no video"}, failed=1,
        ),
        pairs={name: pairs},
        notes=(f"note {name}",),
    )  # fmt: skip


def test_the_page_asks_for_nothing_and_runs_nothing() -> None:
    page = render(evaluation())
    assert "<script" not in page and "style=" not in page and "url(" not in page and "@import" not in page
    assert not re.search(r"(src|href)\s*=", page)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy is not None and policy[1].startswith(f"default-src 'none'; style-src 'sha256-{digest}'")


def test_every_number_of_the_table_is_on_the_page_and_every_bin_is_a_point() -> None:
    found = evaluation()
    page = render(found)
    (metrics,) = found.dimensions["VQ"]
    assert page.count('class="point"') == len(metrics.reliability.bins)  # type: ignore[union-attr]
    assert f"{metrics.tie_threshold:.4g}" in page  # type: ignore[union-attr]
    assert "Videos without scores" in page and "VQ is no video" in page and "2 of 3 scored" in page


def test_what_a_user_wrote_is_text() -> None:
    page = render(evaluation(ATTACK))
    assert "<script" not in page and "<img" not in page
    assert page.count("&lt;img src=x onerror=") >= 6


def test_a_dimension_without_preferences_has_no_plot() -> None:
    page = render(evaluation(labels=(0,)))
    assert "No pair with a preference." in page and "<svg" not in page


def test_pairs_are_written_as_stored_scores_under_a_name_that_stays_in_the_folder(tmp_path: Path) -> None:
    report = write_evaluation(evaluation("../text-to-video alignment"), tmp_path / "out")
    assert report == tmp_path / "out" / "report.html"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "pairs-text-to-video-alignment.csv", "report.html", "result.json",
    ]  # fmt: skip
    assert (tmp_path / "out" / "pairs-text-to-video-alignment.csv").read_text().splitlines()[:2] == [
        "prompt_id,score_A,score_B,label", "0,0.0,3.0,A",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine")
def test_a_browser_shows_it_without_an_error(tmp_path: Path) -> None:
    page, console = open_in_browser(write_evaluation(evaluation(ATTACK), tmp_path), tmp_path / "profile")
    assert console == [] and "<img" not in page and page.count("<circle") == 4
