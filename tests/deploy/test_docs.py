"""docs/deploy.md: what can run here is run, the rest is held against the programs and files it names."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from services.cli import app
from services.serving_config import load_serve_config
from tests.deploy.files import DEPLOY, ROOT, documents

PAGE = (ROOT / "docs" / "deploy.md").read_text()
SHORT = {  # what makes a command quick enough for a test, by its first words
    "onlinevpo demo": " --mode in_process --updates 2 --set reward.calibration_samples=8"
    " --set evaluation.samples_per_prompt=1",
    "onlinevpo train": " --set reward.calibration_samples=8 --set evaluation.samples_per_prompt=1"
    " --set evaluation.validation_interval_updates=0",
}  # fmt: skip


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def shortened(block: str) -> str:
    return "\n".join(line + SHORT.get(" ".join(line.split()[:2]), "") for line in block.splitlines())


def run(block: str, folder: Path) -> None:
    for name in ("examples", "policies", "deploy"):
        (folder / name).symlink_to(ROOT / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-ec", block], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


TRAINING = [block for block in blocks("bash") if "onlinevpo demo" in block or "onlinevpo train" in block]
QUICK = [block for block in blocks("bash") if block not in TRAINING]


@pytest.mark.slow
@pytest.mark.parametrize("block", TRAINING, ids=lambda block: block.split("\n")[0])
def test_commands_that_train(block: str, tmp_path: Path) -> None:
    run(shortened(block), tmp_path)


@pytest.mark.parametrize("block", QUICK, ids=lambda block: block.split("\n")[0])
def test_commands(block: str, tmp_path: Path) -> None:
    run(block, tmp_path)


def test_the_users_file_that_the_page_makes_has_a_hash_and_no_password(tmp_path: Path) -> None:
    (block,) = (one for one in QUICK if "users.acl" in one)
    run(block, tmp_path)
    password = (tmp_path / "store_password").read_text().strip()
    users = (tmp_path / "users.acl").read_text()
    assert re.search(r"user onlinevpo on #[0-9a-f]{64} ~", users) and password not in users
    assert (tmp_path / "store_password").stat().st_mode & 0o077 == 0


def lines_of(program: str) -> list[str]:
    """Every command line of the page that begins with a program, nested ones too."""
    found = []
    for block in (*blocks("text"), *blocks("bash")):
        for line in block.replace("\\\n", " ").splitlines():
            bare = line.split("  #")[0]
            for part in re.split(r"; |&& | -- |-gpu ", bare):
                if part.strip().startswith(f"{program} "):
                    found.append(part.strip())
    return found


def check(line: str, group: click.Group) -> None:
    """Every subcommand and option of a command line exists."""
    command: click.Command = group
    words = iter(shlex.split(line)[1:])
    for word in words:
        if isinstance(command, click.Group):
            assert word in command.commands, f"{line}: no {word}"
            command = command.commands[word]
        elif word.startswith("-"):
            _check_option(word, command, words, line)


def _check_option(word: str, command: click.Command, words: Iterator[str], line: str) -> None:
    name, has_value, _ = word.partition("=")
    known = {option: one for one in command.params if isinstance(one, click.Option) for option in one.opts}
    assert name in known, f"{line}: no option {name}"
    if not has_value and not known[name].is_flag:
        next(words)


@pytest.mark.parametrize("line", lines_of("onlinevpo"))
def test_a_command_of_onlinevpo_exists(line: str) -> None:
    check(line, app)


@pytest.mark.parametrize("line", lines_of("ray"))
def test_a_command_of_ray_exists(line: str) -> None:
    from ray.scripts.scripts import cli

    check(line, cli)


def test_the_page_has_commands_for_all_of_it() -> None:
    words = {" ".join(line.split()[:2]) for line in lines_of("onlinevpo")}
    assert {f"onlinevpo {name}" for name in ("demo", "validate", "train", "resume", "serve", "keys")} <= words
    assert {" ".join(line.split()[:2]) for line in lines_of("ray")} >= {"ray up", "ray down", "ray job", "ray start"}


def service_yaml() -> str:
    (block,) = (block for block in blocks("yaml") if "models:" in block)
    return block


def test_the_service_on_a_cluster_is_a_valid_configuration_with_the_options_of_its_pod(tmp_path: Path) -> None:
    path = tmp_path / "service.yaml"
    path.write_text(service_yaml())
    manifest = (DEPLOY / "kubernetes" / "rayservice.yaml").read_text()
    (options,) = re.findall(r"onlinevpo serve \S+ (.*?)\n\s+env:", manifest, re.DOTALL)
    words = shlex.split(options.replace("\\\n", " "))
    check(f"onlinevpo serve {path} {options}", app)
    overrides = [value for name, value in zip(words[::2], words[1::2], strict=True) if name == "--set"]
    config = load_serve_config(path, [one for one in overrides if not one.startswith("data_dir=")])
    assert config.address == "auto" and "localhost" in config.allowed_hosts  # localhost: the pod's probes


def test_what_prometheus_scrapes_is_the_job_that_the_alerts_are_about() -> None:
    (block,) = (yaml.safe_load(block) for block in blocks("yaml") if "scrape_configs" in block)
    (job,) = block["scrape_configs"]
    rules = documents(DEPLOY / "monitoring" / "alerts.yaml")[0]["groups"][0]["rules"]
    assert all(f'job="{job["job_name"]}"' in rule["expr"] for rule in rules)
    (target,) = job["static_configs"][0]["targets"]
    assert target.partition(":")[0] in yaml.safe_load(service_yaml())["allowed_hosts"]


def test_every_file_that_the_page_names_is_there() -> None:
    links = re.findall(r"\]\(([\w.-]+\.md)\)", PAGE)
    assert links and all((ROOT / "docs" / link).is_file() for link in links)
    named = re.findall(r"(?:`|-f |\s)((?:deploy|examples|docs)/[\w./-]+\.\w+|ray_cluster\.yaml|constraints\.txt)", PAGE)
    assert len(set(named)) >= 8
    assert [name for name in set(named) if not (ROOT / name).exists()] == []


def test_every_file_of_deploy_is_on_the_page_and_so_is_every_argument_of_the_image() -> None:
    for path in DEPLOY.rglob("*.*"):
        assert str(path.relative_to(ROOT)) in PAGE
    for name in re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        assert f"`{name}`" in PAGE


def test_names_of_kubernetes_objects_are_those_of_the_manifests() -> None:
    manifests = "".join(path.read_text() for path in (DEPLOY / "kubernetes").iterdir())
    made = re.findall(r"kubectl create (?:secret generic|configmap) ([\w-]+)", PAGE)
    assert {"onlinevpo-ray", "onlinevpo-run", "onlinevpo-service"} == set(made)
    assert all(re.search(rf"(secretName|name): {name}\b", manifests) for name in made)
