"""The Dockerfile: linted, held to a few rules, and its install steps run in a clean environment."""

from __future__ import annotations

import http.server
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli import app
from services.serving_config import load_serve_config
from tests.deploy import image
from tests.deploy.files import ROOT

STAGES = image.stages()
BUILD, FINAL = STAGES
TEXT = image.PATH.read_text()
LINTER = Path(sys.executable).with_name("hadolint")


def test_the_linter_finds_nothing() -> None:
    done = subprocess.run([LINTER, image.PATH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    worse = tmp_path / "Dockerfile"
    worse.write_text(TEXT.replace("--no-install-recommends ", "").replace(":3.11.14-slim-bookworm", ":latest"))
    done = subprocess.run([LINTER, worse], capture_output=True, text=True, check=False)
    assert done.returncode != 0


def test_the_base_is_one_exact_version() -> None:
    assert {stage.base for stage in STAGES} == {"python:3.11.14-slim-bookworm"}
    assert "latest" not in TEXT


def test_every_package_has_one_version() -> None:
    installs = [step.text for step in BUILD.all("RUN") if "pip install" in step.text]
    assert len(installs) == 4
    for step in installs:
        (words,) = re.findall(r"pip install (.*?)(?:&&|$)", step)
        named = [word for word in words.split() if not word.startswith("-") and "==" not in word]
        assert "--requirement" in words or named in ([], ["."]), step
    unpinned = [step for step in installs if "requirements.txt" in step and "--constraint constraints.txt" not in step]
    assert unpinned == []


def test_it_runs_as_a_user_without_rights() -> None:
    (user,) = FINAL.all("USER")
    assert user.words == ("1000:1000",)  # a number, or Kubernetes cannot tell that it is not root
    after = FINAL.steps[FINAL.steps.index(user) :]
    assert not [step for step in after if step.cmd in ("RUN", "COPY", "ADD")]


def test_only_what_is_installed_is_copied_and_only_that_is_sent() -> None:
    copied = [source for step in BUILD.all("COPY") for source in step.words[:-1]]
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines and sorted(copied) == sorted(line[1:] for line in lines if line.startswith("!"))
    assert all((ROOT / source).exists() for source in copied)
    assert [step.flags for step in FINAL.all("COPY")] == [("--from=build",)]


def test_it_holds_no_secret_and_names_no_index_but_pytorchs() -> None:
    assert not re.search(r"(?i)token=|password|secret|_key\b", TEXT.replace("RAY_AUTH_MODE=token", ""))
    assert set(re.findall(r"https?://([\w.-]+)", TEXT)) == {"download.pytorch.org", "127.0.0.1"}


def test_ray_asks_for_a_token_wherever_it_is_started() -> None:
    assert FINAL.environment["RAY_AUTH_MODE"] == "token"


def test_a_login_shell_which_ray_uses_finds_the_programs() -> None:
    (step,) = FINAL.all("RUN")
    assert FINAL.steps.index(FINAL.all("ENV")[0]) < FINAL.steps.index(step)  # whose PATH it writes
    assert "> /etc/profile.d/" in step.text
    assert FINAL.environment["PATH"].startswith(FINAL.environment["VIRTUAL_ENV"] + "/bin:")
    assert FINAL.environment["VIRTUAL_ENV"] == BUILD.environment["VIRTUAL_ENV"]


def test_its_command_is_one_that_there_is() -> None:
    (step,) = FINAL.all("CMD")
    assert step.words[0] == "onlinevpo"
    options = dict(zip(step.words[2::2], step.words[3::2], strict=True))
    assert set(options) <= {name for parameter in app.commands[step.words[1]].params for name in parameter.opts}
    config = load_serve_config(None, [options["--set"]], {"host": options["--host"], "port": int(options["--port"])})
    assert FINAL.all("EXPOSE")[0].words == (str(config.port),)
    (folder,) = (step.text for step in FINAL.all("RUN"))
    assert f"--mode=0700 {options['--data-dir']} " in folder  # writable by the user


class Alive(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=[200, 503])
def answering(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    handler = type("Answering", (Alive,), {"status": request.param})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, request.param
        server.shutdown()
        thread.join()


def health_check(port: int) -> int:
    (step,) = FINAL.all("HEALTHCHECK")
    kind, python, *rest = step.words
    assert (kind, python) == ("CMD", "python")
    words = [word.replace(":8000", f":{port}") for word in rest]
    return subprocess.run([sys.executable, *words], capture_output=True, check=False).returncode


def test_the_health_check_is_the_services_liveness(answering: tuple[int, int]) -> None:
    port, status = answering
    assert (health_check(port) == 0) == (status == 200)


def test_the_health_check_fails_where_nothing_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert health_check(taken.getsockname()[1]) != 0


def is_reachable(host: str) -> bool:
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_its_install_steps_make_a_working_environment(tmp_path: Path) -> None:
    """No image is built: the steps of the build stage run as they are, but in a folder. Takes minutes and 2 GB."""
    # the CPU build of torch, where its index is to be had; else what the machine's own package index has
    device = "cpu" if is_reachable("download.pytorch.org") else "gpu"
    environment = image.run(BUILD, tmp_path, {"DEVICE": device})
    program = Path(environment["VIRTUAL_ENV"]) / "bin" / "onlinevpo"
    for words in (["--version"], ["validate", ROOT / "examples" / "shapes.yaml"], ["serve", "--help"]):
        done = subprocess.run(
            [program, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_another_device_than_the_two_is_refused() -> None:
    (step,) = (step.text for step in BUILD.all("RUN") if "DEVICE" in step.text)
    done = subprocess.run(["/bin/sh", "-c", step], env={"DEVICE": "tpu", "TORCH_INDEX_URL": ""}, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 2 and "DEVICE is 'tpu'; it may be gpu or cpu" in done.stderr
