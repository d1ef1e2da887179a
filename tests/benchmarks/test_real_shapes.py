import math

import pytest

from tests.benchmarks.real_shapes import measure, parse


def test_the_benchmark_runs_at_tiny_size_and_every_mode_starts_at_ln_2() -> None:
    found = measure(
        parse(
            [
                "--device",
                "cpu",
                "--size",
                "tiny",
                "--frames",
                "5",
                "--height",
                "16",
                "--width",
                "16",
                "--rank",
                "2",
                "--inference-steps",
                "2",
            ]
        )
    )
    losses = [update["loss"] for update in found["update_1_pair_1_draw"].values()]
    assert len(losses) == 4
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
