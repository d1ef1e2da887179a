"""`--help` and `validate` must answer at once, so nothing on their way may import torch or ray."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "ray", "diffusers", "transformers", "peft", "numpy", "av", "fastapi", "uvicorn", "httpx2", "rich"}
PROGRAM = """
import sys
from services.cli import main
code = main(sys.argv[1:])
assert code == 0, code
print("HEAVY", sorted({name.split(".")[0] for name in sys.modules} & set(%r)))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"], ["demo", "--help"], ["train", "--help"], ["resume", "--help"], ["validate", "--help"],
        ["report", "--help"], ["rewards", "eval", "--help"], ["score", "--help"], ["shapes", "build", "--help"],
        ["serve", "--help"], ["keys", "--help"], ["keys", "create", "--help"], ["config", "docs", "--serving"],
        ["config", "docs"], ["--version"],
        ["validate", "run.yaml"], ["validate", "run.yaml", "--json"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_nothing_heavy_is_imported(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "policy: {path: shapes}\nprompts: {train: 'shapes:train'}\nsampling: {num_frames: 9, height: 32, width: 32}\n"
    )
    heavy = HEAVY | {"pydantic", "yaml"} if "--help" in arguments else HEAVY
    source = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM % sorted(heavy), *arguments],
        cwd=tmp_path, env={"PYTHONPATH": source, "PATH": ""}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"
