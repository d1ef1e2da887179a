"""What the gateway can do without."""

import subprocess
import sys

HEAVY = ("torch", "ray", "av", "transformers", "diffusers", "redis")


def test_the_gateway_imports_nothing_heavy() -> None:
    code = f"import services.gateway.app, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
