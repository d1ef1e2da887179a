"""What attackers send. Each attack is refused with its code; the guard goes on."""

import lzma
import os
import re
from pathlib import Path

import psutil
import pytest

from services.media.guard import MediaGuard
from services.media.limits import MediaLimits
from services.media.refusal import SENTENCES, Code, MediaRefused
from tests.services.media import clips
from tests.services.media.conftest import SMALL

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOMBS = Path(__file__).parent / "bombs"
MUTATIONS = 300
PLAYLISTS = {
    "ffconcat": b"ffconcat version 1.0\nfile %s\n",
    "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://%s\n#EXT-X-ENDLIST\n",
    "subfile": b"subfile,,start,0,end,0,,:%s",
    "concat": b"concat:%s|%s" % (b"%s", b"/etc/hosts"),
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=%s\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "dash": b'<?xml version="1.0"?><MPD><Period><BaseURL>file://%s</BaseURL></Period></MPD>',
}


async def refusal(guard: MediaGuard, data: bytes) -> Code:
    with pytest.raises(MediaRefused) as refused:
        await guard.decode(data, deadline_s=30)
    assert str(refused.value) == SENTENCES[refused.value.code]
    return refused.value.code


def bomb(container: str) -> bytes:
    data = lzma.decompress((BOMBS / f"bomb.{container}.xz").read_bytes())
    assert len(data) < 50_000
    return data


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("wrapped", [False, True])
async def test_cve_2026_107697_playlists_and_protocols_are_refused(
    guard: MediaGuard, kind: str, wrapped: bool, tmp_path: Path
) -> None:
    target = tmp_path / "clip.mp4"
    target.write_bytes(clips.clip())
    playlist = PLAYLISTS[kind].replace(b"%s", os.fsencode(target))
    data = clips.clip()[:32] + playlist if wrapped else playlist
    assert await refusal(guard, data) in ({Code.DAMAGED, Code.NO_VIDEO} if wrapped else {Code.CONTAINER})


async def test_cve_2026_107695_a_playlist_that_names_itself_is_refused(guard: MediaGuard) -> None:
    assert await refusal(guard, b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nself.m3u8\n") == Code.CONTAINER


@pytest.mark.parametrize("head", [b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"\x00\x10\x00\x00\x11\xaf"])
async def test_cve_2026_22778_and_125241_decoders_of_stills_and_animations_are_never_reached(
    guard: MediaGuard, head: bytes
) -> None:
    assert await refusal(guard, head + bytes(4096)) == Code.CONTAINER


async def test_cve_2026_22778_error_text_has_no_addresses() -> None:
    for code, sentence in SENTENCES.items():
        error = MediaRefused(code)
        for text in (sentence, str(error), code.value):
            assert not re.search(r"0x[0-9a-f]{4,}|/|\bobject at\b|%s|\{", text)


@pytest.mark.parametrize(
    ("claim", "limits"),
    [
        (claim, limits)
        for claim in ("honest", "size", "frames", "size and frames", "webm")
        for limits in (MediaLimits(), MediaLimits(max_frame_pixels=2**24))
        # eight frames that the limits allow are no bomb, whatever the bytes behind them
        if limits.max_frame_pixels < 2**24 or "frames" not in claim
    ],
)
async def test_cve_2026_34755_a_bomb_is_refused_before_it_is_decoded(claim: str, limits: MediaLimits) -> None:
    data = bomb("webm" if claim == "webm" else "mp4")
    if "size" in claim:
        data = clips.with_size(data, 64, 64)
    if "frames" in claim:
        data = clips.with_frames(data, 8)
    async with MediaGuard(limits, slots=1) as guard:
        processes = [psutil.Process(), psutil.Process(guard.pids[0])]
        before = [process.memory_info().rss for process in processes]
        code = await refusal(guard, data)
        growth = [process.memory_info().rss - was for process, was in zip(processes, before, strict=True)]
    assert code in {Code.FRAME_TOO_LARGE, Code.DECODED_TOO_LARGE, Code.DAMAGED}
    assert max(growth) < 64 * 2**20


async def test_cve_2026_100650_bytes_are_counted_before_anything_looks_at_them(guard: MediaGuard) -> None:
    assert await refusal(guard, bytes(SMALL.max_bytes + 1)) == Code.TOO_LARGE


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (lambda: clips.clip(frames=65, height=64, width=64), Code.TOO_MANY_FRAMES),
        (lambda: clips.clip("webm", "vp9", frames=65, height=64, width=64), Code.TOO_MANY_FRAMES),
        (lambda: clips.clip(frames=12, rate=1), Code.TOO_LONG),
        (lambda: clips.clip("webm", "vp9", frames=12, rate=1), Code.TOO_LONG),
        (lambda: clips.clip(height=320, width=320), Code.FRAME_TOO_LARGE),
        (lambda: clips.clip("webm", "av1", height=320, width=320), Code.FRAME_TOO_LARGE),
        (lambda: clips.clip(frames=40, height=192, width=192), Code.DECODED_TOO_LARGE),
        (lambda: clips.clip("webm", "vp9", frames=40, height=192, width=192), Code.DECODED_TOO_LARGE),
    ],
)
async def test_cve_2026_105758_limits_are_the_servers(guard: MediaGuard, data, code: Code) -> None:
    assert await refusal(guard, data()) == code


async def test_frames_that_another_file_holds_are_refused(guard: MediaGuard) -> None:
    assert await refusal(guard, clips.with_external_reference(clips.clip())) == Code.EXTERNAL


@pytest.mark.parametrize(
    ("data", "codes"),
    [
        (lambda: b"", {Code.EMPTY}),
        (lambda: b"\x00", {Code.CONTAINER}),
        (lambda: bytes(range(256)) * 64, {Code.CONTAINER}),
        (lambda: b"\x1a\x45\xdf\xa3", {Code.CONTAINER}),
        (lambda: clips.tone("mp4"), {Code.NO_VIDEO}),
        (lambda: clips.tone("webm"), {Code.NO_VIDEO}),
        (lambda: clips.clip("mp4", "hevc"), {Code.CODEC}),
        (lambda: clips.clip("mp4", "mpeg4"), {Code.CODEC}),
        (lambda: clips.clip("mp4", "mjpeg", pix_fmt="yuvj420p"), {Code.CODEC}),
        (lambda: clips.clip("webm", "vp8"), {Code.CODEC}),
        (lambda: clips.clip("matroska", "h264"), {Code.CONTAINER}),
        (lambda: clips.clip("mov", "h264"), {Code.CONTAINER}),
        (lambda: clips.clip("gif", "gif", pix_fmt="rgb8"), {Code.CONTAINER}),
        (lambda: clips.clip("avi", "mjpeg", pix_fmt="yuvj420p"), {Code.CONTAINER}),
        (lambda: clips.patched(clips.clip(), b"stsz", 8, ">I", 0), {Code.NO_FRAMES, Code.NO_FRAME_RATE}),
        (lambda: clips.clip("webm", "vp9")[:-100], {Code.TRUNCATED}),
        (lambda: clips.clip("webm", "vp9")[:600], {Code.TRUNCATED}),
        (lambda: clips.clip("mp4", "h264")[:-100], {Code.TRUNCATED}),
        (lambda: clips.clip("mp4", "h264")[:40], {Code.DAMAGED, Code.NO_VIDEO}),
    ],
)
async def test_what_is_no_allowed_video_is_refused(guard: MediaGuard, data, codes: set[Code]) -> None:
    assert await refusal(guard, data()) in codes


async def test_an_mp4_with_its_index_in_front_and_its_end_missing_is_refused(guard: MediaGuard) -> None:
    data = clips.clip("mp4", "h264", frames=9)
    moov, mdat = data.index(b"moov") - 4, data.index(b"mdat") - 4
    assert moov > mdat
    front = data[:mdat] + data[moov:] + data[mdat:moov]
    added = len(data) - moov
    for at in clips.boxes(front, b"stco"):
        count = int.from_bytes(front[at + 4 : at + 8], "big")
        for entry in range(at + 8, at + 8 + 4 * count, 4):
            moved = int.from_bytes(front[entry : entry + 4], "big") + added
            front = front[:entry] + moved.to_bytes(4, "big") + front[entry + 4 :]
    assert (await guard.decode(front, deadline_s=30)).facts.frames == 9
    assert await refusal(guard, front[:-50]) == Code.TRUNCATED


async def test_mutated_clips_give_frames_or_a_refusal_and_the_guard_goes_on(guard: MediaGuard) -> None:
    sources = [clips.clip(container, codec) for container, codec in clips.ALLOWED]
    outcomes: dict[str, int] = {}
    for seed in range(MUTATIONS):
        try:
            outcome = (await guard.decode(clips.mutated(sources[seed % len(sources)], seed), deadline_s=60)).facts.codec
        except MediaRefused as refused:
            outcome = refused.code
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert Code.DECODER_FAILED not in outcomes
    assert len(outcomes) >= 4
    assert (await guard.decode(sources[0], deadline_s=30)).facts.frames == 8
