import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policies.shapes.clips import CLIPS, clip_path
from services import remote_scores
from services.cli import main
from tests.services.client.service_thread import ServiceThread, service_thread

PROMPT = CLIPS["circle"].prompt


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceThread]:
    with service_thread(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: ServiceThread) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONLINEVPO_API_KEY", service.key)
    Path("clip.mp4").write_bytes(clip_path("shapes:circle").read_bytes())


def lines_of(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    assert main(["score", *arguments, "--json"]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_service_says_what_this_process_would(service: ServiceThread, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("clip.mp4", "shapes:square", "--prompt", PROMPT, "--prompt", CLIPS["square"].prompt)
    here, there = lines_of(capsys, *arguments), lines_of(capsys, *arguments, "--server", service.url)
    for one, other in zip(here, there, strict=True):
        assert one.keys() == other.keys() and one["model"] == other["model"]
        assert (one["clip"], one["prompt"]) == (other["clip"], other["prompt"])
        assert one["raw"] == pytest.approx(other["raw"], abs=1e-5) and one["reward"] == pytest.approx(other["reward"])


def test_people_get_the_same_table(service: ServiceThread, capsys: pytest.CaptureFixture[str]) -> None:
    tables = []
    for more in ([], ["--server", service.url]):
        assert main(["score", "clip.mp4", "--prompt", PROMPT, *more]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] and tables[0].startswith("shapes ")


def test_clips_that_fail_are_told_and_the_others_scored(
    service: ServiceThread, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text.mp4").write_text("no video")
    arguments = ["text.mp4", "clip.mp4", "none.mp4", "shapes:dog", "--prompt", PROMPT, "--server", service.url]
    assert main(["score", *arguments, "--json"]) == 2
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["clip"] for line in lines] == arguments[:4]
    assert ["error" in line for line in lines] == [True, False, True, True]
    errors = [line for line in said.err.splitlines() if line.startswith("Error: ")]
    assert "text.mp4: The file is neither MP4 nor WebM." in errors[0]
    assert errors[1] == "Error: none.mp4 cannot be read as a video: No such file or directory"
    assert errors[2].startswith("Error: there is no bundled clip shapes:dog; there are shapes:circle")


@pytest.mark.parametrize(
    ("more", "key", "code", "said"),
    [
        (["--model", "other"], None, 2, "There is no model of this name."),
        (["--reward", "shapes"], None, 2, "--reward: a service has settings of its own"),
        (["--max-frames", "3", "--stages"], None, 2, "--stages, --max-frames: a service has settings of its own"),
        ([], "nonsense", 2, "The request has no valid API key."),
        ([], "", 2, "an API key is needed: pass api_key, or set ONLINEVPO_API_KEY"),
        (["--server", "ftp://x"], None, 2, "begins with http:// or https://"),
        (["--server", "http://127.0.0.1:9"], None, 3, "no answer from http://127.0.0.1:9"),
    ],
    ids=["model", "reward", "options", "wrong key", "no key", "no url", "nobody there"],
)
def test_what_is_wrong_with_the_whole_is_one_clear_line(
    more: list[str], key: str | None, code: int, said: str, service: ServiceThread,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(remote_scores, "_FIRST_ANSWER_S", 0.5)
    if key is not None:
        monkeypatch.setenv("ONLINEVPO_API_KEY", key)
    assert main(["score", "clip.mp4", "--prompt", PROMPT, "--server", service.url, *more]) == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("Error: ") and said in line


def test_a_model_of_a_service_needs_a_service(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "clip.mp4", "--prompt", PROMPT, "--model", "shapes"]) == 2
    assert "--model names a model of a service; give --server, too" in capsys.readouterr().err
