import pytest

from tests.benchmarks.rewards import machine, main, measure, parse, table

pytestmark = pytest.mark.slow

QUICK = ["--device", "cpu", "--rounds", "1", "--seconds", "0", "--videos", "2", "--frames", "4"]


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("shapes", []),
        ("videoreward", []),
        ("videoscore", []),
        ("videoreward", ["--real-shapes", "--tiny"]),
        ("videoscore", ["--real-shapes", "--tiny"]),
    ],
)
def test_every_way_of_feeding_a_model_is_measured_and_gives_the_same_scores(model: str, options: list[str]) -> None:
    found = measure(model, parse([*QUICK, *options]))
    assert found["over_fixed_batch"] > 0 and found["over_one_by_one"] > 0
    assert found["largest_difference_to_one_by_one"] < 1e-4
    assert set(found["peak_mib"]) == set(found["videos_per_s"]) >= {"together", "one_by_one", "fixed_batch"}
    assert all(rate > 0 for rate in found["videos_per_s"].values())


def test_the_result_says_where_it_was_measured_and_has_a_line_per_model() -> None:
    result = main(["--model", "shapes", *QUICK])
    assert result.keys() == {"models", *machine("cpu")}
    assert table(result).splitlines()[1].startswith("shapes")


def test_all_models_are_measured_each_in_a_process_of_its_own() -> None:
    assert list(main(QUICK)["models"]) == ["shapes", "videoreward", "videoscore"]
