import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from policies.errors import InputError
from services import report
from services.report import write_report
from tests.services.fake_run import fake_line, fake_run_dir

ATTACK = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">{{script}}"


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    value: dict[str, Any] = json.loads(found[1])
    return value


def test_the_page_holds_everything_of_a_finished_run(tmp_path: Path) -> None:
    page = write_report(fake_run_dir(tmp_path)).read_text()
    data = data_of(page)
    assert data["status"] == "60 of 60 updates, completed"
    assert data["swaps"] == [20, 40] and data["dimensions"] == ["VQ", "MQ", "TA"]
    assert data["test"]["ground_truth_gain_ci95"] == [0.152, 0.201]
    assert len(data["samples"]) == 4 and len(data["validation"]) == 6
    assert all(sample[when]["video"].startswith("data:video/mp4;base64,") for sample in data["samples"]
               for when in ("before", "after"))  # fmt: skip
    assert data["pairs"][-1]["pairs"][0]["chosen_seed"] == "7129387129387129387"  # exact, though above 2^53
    assert data["reward_model"]["revision"] == "54ab"
    assert "learning_rate: 0.001" in data["config"] and data["versions"]["torch"]


def test_dimensions_of_several_reward_models_have_a_curve_each(tmp_path: Path) -> None:
    run_dir = fake_run_dir(tmp_path, updates=0)
    names = ["videoreward.VQ", "videoscore.dynamic degree", "shapes-2.VQ"]
    lines = [json.dumps(fake_line(update, dimensions=names)) + "\n" for update in range(3)]
    (run_dir / "metrics.jsonl").write_text("".join(lines))
    data = data_of(write_report(run_dir).read_text())
    assert data["dimensions"] == names
    for name in names:
        assert len(data["curves"][f"scores.{name}.mean"]) == 3


def test_the_page_asks_for_nothing_from_outside(tmp_path: Path) -> None:
    page = write_report(fake_run_dir(tmp_path)).read_text()
    outside = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!#)", outside)
    assert "@import" not in page and "url(" not in page
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy[1] and "http" not in policy[1]
    for name, block in (("style", r"<style>(.*?)</style>"), ("script", r"<script>(.*?)</script>")):
        (text,) = re.findall(block, page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy[1]


def test_what_a_user_wrote_cannot_leave_its_place(tmp_path: Path) -> None:
    page = write_report(fake_run_dir(tmp_path, updates=3, prompt=ATTACK)).read_text()
    assert page.count("<script") == 2 and "<img" not in page
    assert data_of(page)["pairs"][0]["pairs"][0]["prompt"] == ATTACK


@pytest.mark.parametrize("updates", [0, 1, 2])
def test_a_run_that_has_barely_begun_has_a_report(tmp_path: Path, updates: int) -> None:
    run_dir = fake_run_dir(tmp_path, updates=updates, finished=False)
    data = data_of(write_report(run_dir).read_text())
    assert data["status"] == f"{updates} of 60 updates, not finished"
    assert data["test"] is None and data["samples"] == [] and len(data["curves"]["update"]) == updates


def test_a_video_outside_samples_is_not_read(tmp_path: Path) -> None:
    run_dir = fake_run_dir(tmp_path, updates=1)
    (run_dir / "secret-before.mp4").write_bytes(b"secret")
    (run_dir / "samples" / "link-before.mp4").symlink_to(run_dir / "secret-before.mp4")
    for name in ("../secret", str(run_dir / "secret"), "link"):
        (run_dir / "samples" / "index.json").write_text(json.dumps([{"name": name, "prompt": "p", "seed": 1}]))
        data = data_of(write_report(run_dir).read_text())
        assert data["samples"][0]["before"]["video"] is None and data["notes"]


def test_too_many_videos_are_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = fake_run_dir(tmp_path, updates=1)
    monkeypatch.setattr(report, "MAX_VIDEO_BYTES", (run_dir / "samples" / "test-000-123456-before.mp4").stat().st_size)
    data = data_of(write_report(run_dir).read_text())
    assert sum(sample[when]["video"] is not None for sample in data["samples"] for when in ("before", "after")) == 1
    assert len(data["notes"]) == 7


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        write_report(tmp_path)
