import gc
from collections.abc import Iterator

import pytest

from cluster.serving.memory import settle


@pytest.fixture
def collector() -> Iterator[None]:
    """As it was, afterwards."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("collector")
def test_what_is_there_is_not_looked_through_again_and_what_comes_later_is() -> None:
    settle()
    assert gc.get_freeze_count() > 10_000
    later: list[object] = []
    later.append(later)
    assert any(one is later for one in gc.get_objects())
