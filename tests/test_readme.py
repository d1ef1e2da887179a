"""The README's commands and code, run as they stand there but shorter."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.serving.running_server import RunningServer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHORT = {  # what makes a command of the README quick enough for a test, by its first words
    "onlinevpo demo": " --updates 2 --set reward.calibration_samples=8 --set evaluation.samples_per_prompt=1",
    "onlinevpo train": " --set updates=2 --set placement.mode=in_process --set reward.calibration_samples=8"
    " --set evaluation.samples_per_prompt=1 --set evaluation.validation_interval_updates=1",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    runs = (block for block in blocks("bash") if "onlinevpo serve" not in block)
    lines = (line.split("#")[0].strip() for block in runs for line in block.splitlines())
    return [line for line in lines if line.startswith("onlinevpo ")]


@pytest.mark.ray
@pytest.mark.slow
def test_the_two_commands_of_the_service(tmp_path: Path) -> None:
    (block,) = (block for block in blocks("bash") if "onlinevpo serve" in block)
    serve, score = (line.split("#")[0].strip() for line in block.splitlines())
    assert serve == "onlinevpo serve"
    server = RunningServer(tmp_path)
    try:
        ready = server.start()
        asked = score.replace("ovpo_...", server.key).replace("http://127.0.0.1:8000", ready["url"])
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", asked], cwd=tmp_path, env={**os.environ, "PATH": path},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0 and "shapes:circle" in done.stdout, done.stderr
    finally:
        server.close()


@pytest.mark.slow
def test_every_command_and_the_code_of_the_readme_run(tmp_path: Path) -> None:
    for name in ("examples", "policies"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    assert len(commands()) >= 5
    for command in commands():
        words = " ".join(command.split()[:2])
        done = subprocess.run(
            ["sh", "-c", command + SHORT.get(words, "")], cwd=tmp_path, env={**os.environ, "PATH": path},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
    (code,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?:`|^)make (\w+)", README, re.MULTILINE))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_file_in_the_tree_of_the_readme_exists_and_every_module_or_its_folder_is_in_it() -> None:
    tree = re.search(r"## The tree\n+```text\n(.*?)```", README, re.DOTALL)
    assert tree is not None
    named = set()
    folders: list[str] = []
    for line in tree.group(1).splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folders = [*folders[:depth], name.rstrip("/")]
        assert (ROOT / "/".join(folders)).exists(), "/".join(folders)
        named.add("/".join(folders))
    modules = {
        str(path.relative_to(ROOT))
        for package in ("policies", "cluster", "services")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    unfolded = {str(Path(name).parent) for name in named}
    folded = {name for name in named if (ROOT / name).is_dir() and name not in unfolded}
    assert {module for module in modules - named if str(Path(module).parent) not in folded} == set()
