import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from policies.seeds import candidate_seeds, seed_for

PARTS = st.lists(st.one_of(st.integers(), st.text()), max_size=4)


def test_seeds_are_the_same_in_another_process() -> None:
    code = "from policies.seeds import seed_for; print(seed_for('noise', 3, 'u000001-p000', 'ü'))"
    for hash_seed in ("0", "1"):
        found = subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": hash_seed}, capture_output=True)
        assert int(found.stdout) == seed_for("noise", 3, "u000001-p000", "ü")


@given(PARTS, PARTS)
def test_other_names_have_other_seeds(one: list[int | str], other: list[int | str]) -> None:
    assert (seed_for(*one) == seed_for(*other)) == (one == other)
    assert 0 <= seed_for(*one) < 2**53


def test_a_number_and_its_text_are_different_names() -> None:
    assert seed_for(1, "2") != seed_for("1", 2) != seed_for("12") != seed_for(12)


def test_the_candidates_of_a_run_have_distinct_seeds() -> None:
    seeds = [s for run in range(3) for group in range(20) for s in candidate_seeds(run, f"g{group}", "p", count=8)]
    assert len(set(seeds)) == 3 * 20 * 8


def test_a_larger_group_begins_with_the_candidates_of_a_smaller_one() -> None:
    assert candidate_seeds(0, "g", "p", count=6)[:4] == candidate_seeds(0, "g", "p", count=4)
