"""What holds for the whole tree."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for package in ("policies", "cluster", "services") for path in (ROOT / package).rglob("*.py"))


def test_imports_run_from_services_to_cluster_to_policies_and_never_back() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_torchvision_is_not_installed() -> None:
    """A build of it that does not fit torch makes diffusers fail on import, with a message about something else."""
    assert importlib.util.find_spec("torchvision") is None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_executable_is_loaded_and_no_shell_is_used(path: Path) -> None:
    text = path.read_text()
    for pattern in (
        r"^\s*(import|from) (pickle|joblib|dill|cloudpickle)\b",
        r"trust_remote_code\s*=\s*True",
        r"\byaml\.load\(",
        r"shell\s*=\s*True",
        r"(?<![\w.])eval\(",
        r"(?<![\w.])exec\(",
    ):
        assert not re.search(pattern, text, re.MULTILINE), f"{path} matches {pattern}"
    for call in re.findall(r"torch\.load\([^)]*\)", text):
        assert "weights_only=True" in call


def test_package_files_hold_a_docstring_only() -> None:
    """The client alone is a library to others, and names what they may use."""
    for path in SOURCES:
        if path.name == "__init__.py" and path.parent.name != "client":
            assert re.fullmatch(r'\s*""".*"""\s*', path.read_text(), re.DOTALL), path
