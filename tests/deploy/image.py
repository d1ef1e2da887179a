"""The Dockerfile as its stages, and its steps run without a container."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from dockerfile_parse import DockerfileParser

from tests.deploy.files import ROOT

PATH = ROOT / "Dockerfile"


@dataclass(frozen=True)
class Step:
    """One instruction: what follows its name, as text and in words, and its --flags."""

    cmd: str
    text: str
    words: tuple[str, ...]
    flags: tuple[str, ...]

    @classmethod
    def of(cls, cmd: str, text: str) -> Step:
        flags: list[str] = []
        while text.startswith("--"):
            flag, _, text = text.partition(" ")
            flags.append(flag)
            text = text.strip()
        before, bracket, after = text.partition("[")
        if cmd in ("CMD", "HEALTHCHECK") and bracket:
            words = [*before.split(), *json.loads(bracket + after)]
        else:
            words = [] if cmd == "RUN" else shlex.split(text)
        return cls(cmd, text, tuple(words), tuple(flags))

    @property
    def pairs(self) -> dict[str, str]:
        """Of ENV and ARG: values by name, unexpanded."""
        return {name: value for name, _, value in (word.partition("=") for word in self.words)}


@dataclass
class Stage:
    base: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def all(self, kind: str) -> list[Step]:
        return [step for step in self.steps if step.cmd == kind]

    @property
    def environment(self) -> dict[str, str]:
        """Its ENV, unexpanded."""
        return {name: value for step in self.all("ENV") for name, value in step.pairs.items()}


def stages(path: Path = PATH) -> list[Stage]:
    """Its stages in order; the base image's argument has its default."""
    with path.open("rb") as file:
        written = [one for one in DockerfileParser(fileobj=file).structure if one["instruction"] != "COMMENT"]
    found: list[Stage] = []
    before: dict[str, str] = {}
    for one in written:
        step = Step.of(one["instruction"], one["value"])
        if step.cmd == "FROM":
            base, *rest = step.words
            found.append(Stage(Template(base).safe_substitute(before), rest[1] if rest else ""))
        elif found:
            found[-1].steps.append(step)
        else:
            assert step.cmd == "ARG", step
            before |= step.pairs
    return found


def run(stage: Stage, folder: Path, arguments: Mapping[str, str]) -> dict[str, str]:
    """Runs a stage's COPY and RUN steps in order, its folders below `folder`; the environment that it leaves.

    Nothing of this process's environment is passed on but pip's own settings, which say where packages come from.
    """
    bin_dir = folder / "usr" / "bin"
    bin_dir.mkdir(parents=True)
    (bin_dir / "python").symlink_to(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
    environment = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    environment |= {"HOME": str(folder), "PATH": f"{bin_dir}:/usr/bin:/bin", "PIP_NO_COMPILE": "1"}  # half the time
    here = folder
    for step in stage.steps:
        if step.cmd == "ARG":
            environment |= {name: arguments.get(name, default) for name, default in step.pairs.items()}
        elif step.cmd == "ENV":
            for name, value in step.pairs.items():
                environment[name] = Template(value.replace("/opt/", f"{folder}/opt/")).substitute(environment)
        elif step.cmd == "WORKDIR":
            here = folder / step.text.lstrip("/")
            here.mkdir(parents=True)
        elif step.cmd == "COPY":
            _copy(step.words[:-1], here, into=step.words[-1])
        elif step.cmd == "RUN":
            command = ["/bin/sh", "-c", step.text]
            done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{step.text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return environment


def _copy(sources: tuple[str, ...], here: Path, into: str) -> None:
    for name in sources:
        source, target = ROOT / name, here / into
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(source, target)
