"""The load that the scoring benchmark puts on a server, on a server that answers as it is told."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from tests.benchmarks.scoring_load import Request, closed_loop, open_loop, post

GOOD = Request(post("/", b"{}", host="here", headers={}), b"yes")


def answer(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d Any\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@contextlib.asynccontextmanager
async def server(next_answer: Callable[[], bytes | None]) -> AsyncIterator[tuple[str, int]]:
    """Sends the answers in pieces; None: it hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                if (whole := next_answer()) is None:
                    break
                writer.write(whole[:20])
                await writer.drain()
                writer.write(whole[20:])
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[:2]


async def test_a_closed_loop_counts_good_answers() -> None:
    async with server(lambda: answer(b"yes")) as address:
        load = await closed_loop(address, [GOOD], clients=3, seconds=0.05)
    assert load.latencies_s and not load.failures


async def test_an_open_loop_asks_as_often_as_it_was_told_to_and_does_what_was_planned() -> None:
    done = []

    async def event() -> None:
        done.append(True)

    async with server(lambda: answer(b"yes")) as address:
        load = await open_loop(address, [GOOD], per_s=1000, count=40, events={10: event})
    assert (len(load.latencies_s), done) == (40, [True])


async def test_whatever_is_no_good_answer_counts_as_failed_and_the_load_goes_on() -> None:
    answers = iter([answer(b"no"), answer(b"yes", 503), None, answer(b"yes")])
    async with server(lambda: next(answers)) as address:
        load = await open_loop(address, [GOOD], per_s=20, count=4)
    assert dict(load.failures) == {"wrong answer": 1, "status 503": 1, "connection lost": 1}
    assert len(load.latencies_s) == 1


async def test_what_a_server_that_stalls_keeps_from_being_asked_counts_as_waiting() -> None:
    stalls = iter([0.2])

    def late() -> bytes:
        time.sleep(next(stalls, 0))  # the loop itself stands still, clients included
        return answer(b"yes")

    async with server(late) as address:
        load = await open_loop(address, [GOOD], per_s=100, count=20)
    assert load.quantile_s(0.5) > 0.02
