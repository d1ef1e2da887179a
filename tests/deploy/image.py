"""The Dockerfile as its stages, and its steps run without a container."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import dockerfile

from tests.deploy.files import ROOT

PATH = ROOT / "Dockerfile"
Step = dockerfile.Command


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
        pairs = [pair for step in self.all("ENV") for pair in zip(step.value[::2], step.value[1::2], strict=True)]
        return dict(pairs)

    @property
    def arguments(self) -> dict[str, str]:
        """Its ARGs and their defaults."""
        return {name: value.strip('"') for name, _, value in (step.value[0].partition("=") for step in self.all("ARG"))}


def stages(path: Path = PATH) -> list[Stage]:
    """Its stages in order; the base image's argument has its default."""
    found: list[Stage] = []
    before: dict[str, str] = {}
    for step in dockerfile.parse_file(str(path)):
        if step.cmd == "FROM":
            base, *rest = step.value
            found.append(Stage(Template(base).safe_substitute(before), rest[1] if rest else ""))
        elif found:
            found[-1].steps.append(step)
        else:
            assert step.cmd == "ARG", step
            name, _, value = step.value[0].partition("=")
            before[name] = value
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
            name = step.value[0].partition("=")[0]
            environment[name] = arguments.get(name, stage.arguments[name])
        elif step.cmd == "ENV":
            for name, value in zip(step.value[::2], step.value[1::2], strict=True):
                environment[name] = Template(value.replace("/opt/", f"{folder}/opt/")).substitute(environment)
        elif step.cmd == "WORKDIR":
            here = folder / step.value[0].lstrip("/")
            here.mkdir(parents=True)
        elif step.cmd == "COPY":
            _copy(step.value[:-1], here, into=step.value[-1])
        elif step.cmd == "RUN":
            command = ["/bin/sh", "-c", step.value[0]]
            done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{step.value[0]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return environment


def _copy(sources: tuple[str, ...], here: Path, into: str) -> None:
    for name in sources:
        source, target = ROOT / name, here / into
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(source, target)
