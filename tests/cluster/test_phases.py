import time

from cluster.phases import PhaseClock


def test_phases_sum_to_wall_time_and_overlap_counts_once() -> None:
    clock = PhaseClock()
    begun = time.perf_counter()
    clock.lap()
    with clock.phase("score"):
        time.sleep(0.02)
        with clock.phase("generate"):  # another group is still being sampled
            time.sleep(0.03)
    with clock.phase("update"):
        time.sleep(0.01)
    time.sleep(0.01)
    seconds = clock.lap()
    assert abs(sum(seconds.values()) - (time.perf_counter() - begun)) < 0.005
    assert seconds["generate"] >= 0.03 and seconds["score"] >= 0.02 and seconds["update"] >= 0.01
    assert seconds["wait"] >= 0.01


def test_a_lap_starts_from_zero() -> None:
    clock = PhaseClock()
    with clock.phase("update"):
        time.sleep(0.005)
    clock.lap()
    assert clock.lap()["update"] == 0.0
