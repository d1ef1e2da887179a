from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from services.scoring.fair_queue import FairQueue, Waiting


def waiting(caller: str, *sizes: int, alone: bool = False, deadline: float = 100.0) -> Waiting:
    return Waiting(sizes, caller=caller, deadline=deadline, alone=alone)


def queue_of(*requests: Waiting) -> FairQueue[Waiting]:
    queue: FairQueue[Waiting] = FairQueue()
    for request in requests:
        queue.put(request)
    return queue


def callers(queue: FairQueue[Waiting], *, items: int = 8, pixels: int = 1000) -> str:
    taken = queue.take(items=items, pixels=pixels, now=0.0)
    return "".join(request.caller for request, _ in taken.shares)


def test_callers_take_turns() -> None:
    queue = queue_of(waiting("a", 1, 1, 1), waiting("b", 1), waiting("c", 1, 1))
    assert callers(queue) == "abcaca"


def test_who_comes_late_is_next_and_not_first_for_long() -> None:
    queue = queue_of(waiting("a", *[1] * 100))
    callers(queue, items=50)
    queue.put(waiting("b", *[1] * 100))
    assert Counter(callers(queue, items=20)) == {"a": 10, "b": 10}


def test_turns_are_measured_in_pixels() -> None:
    queue = queue_of(waiting("a", *[10] * 20), waiting("b", *[1] * 200))
    taken = Counter(callers(queue, items=110))
    assert abs(10 * taken["a"] - taken["b"]) <= 10


def test_a_caller_who_comes_back_is_still_behind_for_what_it_took() -> None:
    queue = queue_of(waiting("a", 50), waiting("b", *[1] * 100))
    assert callers(queue, items=1) == "a"
    queue.put(waiting("a", 50))
    assert callers(queue, items=50) == "b" * 50


def test_a_batch_ends_where_the_next_video_would_be_too_much() -> None:
    queue = queue_of(waiting("a", 6, 6))
    assert callers(queue, pixels=10) == "a"
    assert callers(queue, pixels=10) == "a"


def test_a_video_above_the_budget_goes_by_itself() -> None:
    queue = queue_of(waiting("a", 50, 1))
    assert [callers(queue, pixels=10), callers(queue, pixels=10)] == ["a", "a"]


def test_a_request_that_wants_to_be_alone_is_one_batch_whatever_the_budget() -> None:
    queue = queue_of(waiting("a", *[9] * 20, alone=True), waiting("b", 1))
    assert [callers(queue, items=4, pixels=10) for _ in range(3)] == ["a" * 20, "b", ""]


def test_others_fill_up_the_batch_before_a_request_that_wants_to_be_alone() -> None:
    queue = queue_of(waiting("a", 1), waiting("b", 1, 1, alone=True), waiting("c", 1, 1))
    assert [callers(queue) for _ in range(3)] == ["acc", "bb", ""]


def test_what_is_removed_is_never_taken_and_only_counted_once() -> None:
    gone, kept = waiting("a", 1, 1), waiting("a", 1)
    queue = queue_of(gone, kept)
    assert callers(queue, items=1) == "a"
    assert (queue.remove(gone), queue.remove(gone)) == (1, 0)
    assert (queue.items, queue.pixels, queue.items_of("a")) == (1, 1, 1)
    assert [request for request, _ in queue.take(items=8, pixels=8, now=0.0).shares] == [kept]


def test_whose_deadline_has_passed_is_passed_over() -> None:
    late, kept = waiting("a", 1, 1, deadline=1.0), waiting("a", 1, deadline=3.0)
    taken = queue_of(late, kept).take(items=8, pixels=8, now=2.0)
    assert (taken.late, taken.shares) == ([late], [(kept, 0)])


REQUESTS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.lists(st.integers(0, 40), min_size=1, max_size=9), st.booleans()), max_size=30
)


@given(REQUESTS, st.integers(1, 8), st.integers(1, 60), st.randoms(use_true_random=False))
def test_every_item_is_taken_once_in_its_callers_order_and_under_the_caps(
    requests: list[tuple[str, list[int], bool]], items: int, pixels: int, random: Random
) -> None:
    queue: FairQueue[Waiting] = FairQueue()
    coming = [waiting(caller, *sizes, alone=alone) for caller, sizes, alone in requests]
    expected = {
        caller: [(r, i) for r in coming if r.caller == caller for i in range(len(r.sizes))] for caller in "abcd"
    }
    found: dict[str, list[tuple[Waiting, int]]] = {caller: [] for caller in "abcd"}
    position = 0
    while position < len(coming) or queue.items:
        if position < len(coming) and (not queue.items or random.random() < 0.5):
            queue.put(coming[position])
            position += 1
            continue
        shares = queue.take(items=items, pixels=pixels, now=0.0).shares
        assert shares
        if shares[0][0].alone:
            assert shares == [(shares[0][0], index) for index in range(len(shares[0][0].sizes))]
        else:
            assert not any(request.alone for request, _ in shares)
            assert len(shares) <= items
            assert len(shares) == 1 or sum(request.sizes[index] for request, index in shares) <= pixels
        for request, index in shares:
            found[request.caller].append((request, index))
    assert found == expected
    assert (queue.items, queue.pixels) == (0, 0)


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6), st.integers(1, 16))
def test_callers_who_always_wait_get_equal_pixels_but_for_one_video_each(sizes: list[int], items: int) -> None:
    queue = queue_of(*(waiting(str(caller), *[size] * 400) for caller, size in enumerate(sizes)))
    given_to: Counter[str] = Counter()
    for _ in range(5):
        for request, index in queue.take(items=items, pixels=10**6, now=0.0).shares:
            given_to[request.caller] += request.sizes[index]
        assert max(given_to.values()) - min(given_to[str(caller)] for caller in range(len(sizes))) <= 2 * max(sizes)


def test_callers_who_are_gone_are_forgotten() -> None:
    queue = queue_of(waiting("always", *[1] * 10_000))
    for number in range(1000):
        queue.put(waiting(f"once-{number}", 1))
        callers(queue, items=2)
    assert len(queue._lines) < 100
