"""`onlinevpo serve` with a real Ray, asked over real connections."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from policies.shapes.clips import CLIPS, clip_path
from services.client import Client, NotFound, Score, Unauthenticated, VideoRefused
from tests.services.model_folders import write_safetensors
from tests.services.serving.running_server import RunningServer

pytestmark = [pytest.mark.ray, pytest.mark.slow]
CIRCLE, PROMPT = clip_path("shapes:circle"), CLIPS["circle"].prompt


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("serve")
    (folder / "serve.yaml").write_text("models:\n  shapes:\n", encoding="utf-8")
    running = RunningServer(folder, "serve.yaml")
    running.start()
    try:
        yield running
        assert running.end(signal.SIGINT) == 128 + signal.SIGINT, "Ctrl-C ends it in order"
        assert running.stderr.read_text().endswith("stopped\n")
    finally:
        running.close()


def command(server: RunningServer, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments], cwd=server.folder, capture_output=True, text=True,
        env={**os.environ, **environment}, timeout=120, check=False,
    )  # fmt: skip


def test_the_ready_line_says_what_a_client_needs_and_nothing_else_is_on_stdout(server: RunningServer) -> None:
    assert set(server.ready) == {"url", "pid", "models", "version", "key"}
    assert server.ready["pid"] == server.process.pid and server.ready["models"] == ["shapes"]
    assert len(server.stdout.read_text().splitlines()) == 1


def test_a_video_is_scored_as_in_process(server: RunningServer) -> None:
    arguments = ("score", "shapes:circle", "--prompt", PROMPT, "--json")
    here = json.loads(command(server, *arguments).stdout)
    with server.client() as client:
        score = client.score(video=CIRCLE, prompt=PROMPT)
    assert dict(score.raw) == pytest.approx(here["raw"], abs=1e-5)
    assert score.reward == pytest.approx(here["reward"], abs=1e-5)
    assert score.model.revision == here["model"]["revision"] and score.usage.frames == 9


def test_only_the_address_that_was_asked_for_is_listened_on(server: RunningServer) -> None:
    listening = {
        (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
        for process in server.family()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert ("127.0.0.1", server.port) in listening
    assert {address for address, _ in listening} == {"127.0.0.1"}


def test_cve_2023_48022_no_port_of_ray_takes_a_job_from_a_stranger(server: RunningServer) -> None:
    ports = {
        connection.laddr.port
        for process in server.family()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    for port in ports - {server.port}:
        with contextlib.suppress(httpx2.TransportError):  # most of them speak no HTTP/1.1
            url = f"http://127.0.0.1:{port}/api/jobs/"
            answer = httpx2.post(url, json={"entrypoint": "true"}, timeout=5)
            assert answer.status_code in (401, 403, 404, 405), port  # 405: Ray's metrics, which can only be read


def test_without_a_key_only_liveness_answers(server: RunningServer) -> None:
    assert httpx2.get(f"{server.ready['url']}/livez").status_code == 200
    assert httpx2.get(f"{server.ready['url']}/readyz").status_code == 401
    stranger = Client(server.ready["url"], api_key="ovpo_" + "0" * 16 + "_" + "0" * 64)
    with stranger, pytest.raises(Unauthenticated):
        stranger.models()


def test_keys_are_made_and_revoked_while_it_runs(server: RunningServer) -> None:
    data = ("--data-dir", str(server.folder / "data"), "--json")
    made = json.loads(command(server, "keys", "create", "--name", "ci", *data).stdout)
    with Client(server.ready["url"], api_key=made["key"]) as client:
        assert client.score(video=CIRCLE, prompt=PROMPT).reward
        assert command(server, "keys", "revoke", made["id"], *data).returncode == 0
        with pytest.raises(Unauthenticated):
            while True:  # a good key is remembered for two seconds
                client.models()


def test_a_bad_video_costs_its_neighbours_nothing(server: RunningServer) -> None:
    with server.client() as client:
        good, bad, other = client.score_many([(CIRCLE, PROMPT), (b"no video", PROMPT), (CIRCLE, PROMPT)])
    assert isinstance(good, Score) and isinstance(other, Score) and good.reward == other.reward
    assert isinstance(bad, VideoRefused)


def test_the_command_line_asks_it(server: RunningServer) -> None:
    arguments = ("score", "shapes:circle", "--prompt", PROMPT, "--server", server.ready["url"], "--json")
    done = command(server, *arguments, ONLINEVPO_API_KEY=server.key)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert {"clip", "prompt", "raw", "normalised", "reward", "model"} <= set(line)
    assert line["model"]["name"] == "shapes" and line["model"]["dtype"] == "float32"


def test_a_second_one_is_told_that_the_port_is_taken(server: RunningServer, tmp_path: Path) -> None:
    done = command(server, "serve", "--port", str(server.port), "--data-dir", str(tmp_path))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"Error: 127.0.0.1:{server.port} is taken by another process")


def replicas(server: RunningServer) -> set[int]:
    return {process.pid for process in server.family() if "ServeReplica" in process.name()}


def after_sighup(server: RunningServer, text: str) -> str:
    """What the service says of a new configuration."""
    said = len(server.stderr.read_text())
    (server.folder / "serve.yaml").write_text(text, encoding="utf-8")
    server.send(signal.SIGHUP)
    deadline = time.monotonic() + 60
    while "SIGHUP" not in (news := server.stderr.read_text()[said:]):
        assert time.monotonic() < deadline and server.process.poll() is None
        time.sleep(0.05)
    return news


def test_sighup_adds_and_removes_models_while_the_others_keep_their_processes(server: RunningServer) -> None:
    before = replicas(server)
    assert "added twin" in after_sighup(server, "models:\n  shapes:\n  twin: {batch_items: 4}\n")
    with server.client() as client:
        assert {model.name for model in client.models()} == {"shapes", "twin"}
        assert client.score(video=CIRCLE, prompt=PROMPT, model="twin").model.name == "twin"
        assert len(before) == 1 and before < replicas(server)
        assert "changed twin" in after_sighup(server, "models:\n  shapes:\n  twin: {batch_items: 5}\n")
        assert client.score(video=CIRCLE, prompt=PROMPT, model="twin").model.name == "twin"
        assert "removed twin" in after_sighup(server, "models:\n  shapes:\ndecoders: 3\n")
        assert "decoders changed, too; that takes a restart" in server.stderr.read_text()
        with pytest.raises(NotFound):
            client.score(video=CIRCLE, prompt=PROMPT, model="twin")
    assert replicas(server) == before


def test_sighup_with_a_wrong_configuration_changes_nothing(server: RunningServer) -> None:
    assert "serve.yaml:2: models.shapes.replica: unknown key" in after_sighup(
        server, "models:\n  shapes: {replica: 2}\n"
    )
    broken = "models:\n  shapes:\n  broken: {reward: {path: empty}}\n"
    folder = server.folder / "empty"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    write_safetensors(folder / "model.safetensors", {})
    assert "SIGHUP" in after_sighup(server, broken)
    with server.client() as client:
        assert [model.name for model in client.models()] == ["shapes"]
        assert client.score(video=CIRCLE, prompt=PROMPT).reward
