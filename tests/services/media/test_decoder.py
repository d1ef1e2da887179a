"""A decoder process that is taken over may say anything: its guard believes none of it unchecked."""

import json
import os
import socket
import struct
import threading
import time

import pytest

from services.media import wire
from services.media.decoder import Decoder, _checked_facts
from services.media.refusal import Code, MediaRefused
from tests.services.media.clips import clip
from tests.services.media.conftest import SMALL

FACTS = {"container": "mp4", "codec": "h264", "frames": 8, "height": 64, "width": 96, "fps": 8.0}


def test_a_process_that_dies_while_decoding_is_a_refusal() -> None:
    decoder = Decoder(SMALL.model_copy(update={"max_frames": 64}), unsafe=False)
    try:
        threading.Timer(0.003, decoder.kill).start()
        data = clip(frames=64, height=128, width=128)
        with pytest.raises(MediaRefused) as refused:
            for _ in range(50):
                decoder.decode(data, "mp4", deadline=time.monotonic() + 30)
        assert refused.value.code == Code.DECODER_FAILED
    finally:
        decoder.close()
    assert not decoder.is_alive


def test_honest_facts_pass() -> None:
    assert _checked_facts(FACTS, SMALL).seconds == 1.0


@pytest.mark.parametrize(
    "lie",
    [
        {"frames": 65}, {"frames": 0}, {"height": -64}, {"width": 2**40}, {"height": 1024, "width": 1024},
        {"frames": True}, {"frames": 8.0},
        {"fps": float("nan")}, {"fps": float("inf")}, {"fps": 0.0}, {"codec": "<script>"},
        {"container": "/etc/passwd"}, {"more": 1},
    ],
)  # fmt: skip
def test_facts_beyond_the_limits_are_not_believed(lie: dict[str, object]) -> None:
    with pytest.raises(wire.BrokenWire):
        _checked_facts({**FACTS, **lie}, SMALL)


@pytest.mark.parametrize("body", [b"[]", b"not json", b"\xff", b"[" * 4000])
def test_what_is_no_message_is_noticed(body: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(struct.pack("=I", len(body)) + body)
        with pytest.raises(wire.BrokenWire):
            wire.receive(ours.fileno(), time.monotonic() + 5)


def test_a_message_that_is_too_long_is_not_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(struct.pack("=I", 2**31))
        with pytest.raises(wire.BrokenWire):
            wire.receive(ours.fileno(), time.monotonic() + 5)


def test_half_a_message_is_waited_for_no_longer_than_none() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(struct.pack("=I", 10) + b"{")
        with pytest.raises(TimeoutError):
            wire.receive(ours.fileno(), time.monotonic() + 0.02)


def test_messages_arrive_as_they_were_sent() -> None:
    read, write = os.pipe()
    wire.send(write, {"facts": FACTS})
    assert wire.receive(read) == json.loads(json.dumps({"facts": FACTS}))
    os.close(write)
    with pytest.raises(wire.BrokenWire):
        wire.receive(read)
    os.close(read)
