"""The quick starts of docs/serving.md and the example configuration, used as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.errors import InputError
from policies.shapes.clips import CLIPS, clip_path
from services.serving_config import load_serve_config
from tests.services.client.service_thread import ServiceThread, service_thread

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "serve.yaml"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceThread]:
    with service_thread(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, clip in (("clip.mp4", "circle"), ("other.mp4", "square")):
        shutil.copy(clip_path(f"shapes:{clip}"), tmp_path / name)
    return tmp_path


def run(program: list[str], service: ServiceThread, folder: Path) -> str:
    settings = {"ONLINEVPO_URL": service.url, "ONLINEVPO_API_KEY": service.key, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        program, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_the_curl_quick_start(service: ServiceThread, folder: Path) -> None:
    (commands,) = blocks("bash")
    said = run(["sh", "-ec", commands], service, folder)
    assert '"dimensions":["VQ","MQ","TA"]' in said and '"reward":' in said and '"partial":false' in said


def test_the_python_quick_starts(service: ServiceThread, folder: Path) -> None:
    one_by_one, with_asyncio = blocks("python")
    said = run([sys.executable, "-c", one_by_one], service, folder).splitlines()
    assert "neither MP4 nor WebM" in said[2] and said[3].startswith("0 False") and said[-1] == "succeeded"
    assert len(run([sys.executable, "-c", with_asyncio], service, folder).strip("[]\n").split(",")) == 8


def test_the_bundled_clips_are_named() -> None:
    assert all(f"`shapes:{name}`" in PAGE for name in CLIPS)


def test_the_example_is_valid_and_so_are_the_keys_that_it_has_commented_out(tmp_path: Path) -> None:
    assert list(load_serve_config(EXAMPLE).models) == ["shapes"]
    text = re.sub(r"^(\s*)# (?=[ \w-]+:|\{|  )", r"\1", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = text.replace("A scoring service: onlinevpo serve examples/serve.yaml\n", "")
    written = tmp_path / "serve.yaml"
    written.write_text(re.sub(r"^(Every key|Relative).*\n", "", text, flags=re.MULTILINE), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_serve_config(written)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2 and all("no such folder" in line for line in lines), "only what is not on this machine"


def test_every_bundled_metric_of_the_page_is_one_of_the_service(service: ServiceThread) -> None:
    import httpx2

    answer = httpx2.get(f"{service.url}/metrics", headers={"Authorization": f"Bearer {service.key}"})
    known = set(re.findall(r"^# TYPE (\w+) ", answer.text, re.MULTILINE))
    assert set(re.findall(r"`(onlinevpo_\w+)`", PAGE)) <= known
