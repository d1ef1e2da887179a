from prometheus_client import CollectorRegistry, Histogram, generate_latest

from services.gateway.tallies import CounterTally, HistogramTally


def test_things_are_counted_by_their_labels() -> None:
    registry = CollectorRegistry()
    tally = CounterTally("things", "Things.", ("kind", "colour"), registry=registry)
    for colour in ("red", "red", "blue"):
        tally.inc("box", colour)
    assert registry.get_sample_value("things_total", {"kind": "box", "colour": "red"}) == 2
    assert registry.get_sample_value("things_total", {"kind": "box", "colour": "blue"}) == 1


def test_a_histogram_is_written_as_the_librarys_own() -> None:
    bounds = (0.001, 0.25, 1, 10)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = HistogramTally("seconds", "Time.", ("route",), bounds=bounds, registry=ours)
    known = Histogram("seconds", "Time.", ("route",), buckets=bounds, registry=theirs)
    for value in (0.0, 0.001, 0.2, 0.25, 0.3, 1.0, 99.0):
        tally.observe(value, "/a")
        known.labels("/a").observe(value)
    expected = [line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line]
    assert generate_latest(ours).decode().splitlines() == expected
