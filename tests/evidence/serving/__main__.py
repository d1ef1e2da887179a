"""`python -m tests.evidence.serving [--only PART ...]`: what attackers and accidents do to `onlinevpo serve`, as JSON.

A quarter of an hour on two cores. The test suite runs a sample (tests/services/serving/test_hostile.py).
"""

from __future__ import annotations

import argparse
import json

from tests.evidence.serving import proofs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", choices=proofs.PARTS, default=proofs.PARTS)
    print(json.dumps(proofs.measure(parser.parse_args().only), indent=1))


if __name__ == "__main__":
    main()
