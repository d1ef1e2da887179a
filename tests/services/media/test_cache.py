import numpy as np

from services.media.cache import Media, MediaCache
from services.media.refusal import Code
from services.media.wire import Facts


def media(name: str, size: int = 3000) -> Media:
    facts = Facts(container="mp4", codec="h264", frames=1, height=1, width=size // 3, fps=8.0)
    return Media(frames_FHWC=np.zeros((1, 1, size // 3, 3), np.uint8), facts=facts, sha256=name)


def test_the_least_recently_asked_for_goes_first() -> None:
    cache = MediaCache(10_000)
    first, second, third = (media(name) for name in "abc")
    cache.put("a", first)
    cache.put("b", second)
    assert cache.get("a") is first
    cache.put("c", third)
    assert cache.get("b") is None
    assert (cache.get("a"), cache.get("c")) == (first, third)


def test_what_alone_is_too_large_displaces_nothing() -> None:
    cache = MediaCache(10_000)
    cache.put("a", media("a"))
    cache.put("b", media("b", 12_000))
    assert cache.get("a") is not None
    assert cache.get("b") is None


def test_refusals_are_remembered_and_count_too() -> None:
    cache = MediaCache(2 * 1024)
    for name in "abc":
        cache.put(name, Code.CODEC)
    assert [cache.get(name) for name in "abc"] == [None, Code.CODEC, Code.CODEC]


def test_the_same_video_again_takes_no_more_room() -> None:
    cache = MediaCache(9_000)
    cache.put("b", media("b"))
    for _ in range(5):
        cache.put("a", media("a"))
    assert cache.get("b") is not None


def test_nothing_is_kept_where_nothing_may_be() -> None:
    cache = MediaCache(0)
    cache.put("a", Code.CODEC)
    assert cache.get("a") is None
