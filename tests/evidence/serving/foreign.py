"""Playlists, protocols and other formats: refused, with nothing opened because of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.evidence.serving.target import PROMPT, Target, data_url, item, outcomes
from tests.services.media import clips

_PLAYLISTS = {
    "ffconcat": b"ffconcat version 1.0\nfile %s\n",
    "ffconcat, unsafe": b"ffconcat version 1.0\nfile 'file:%s'\noption safe 0\n",
    "HLS": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://%s\n#EXT-X-ENDLIST\n",
    "HLS, concat of header and file": b"#EXTM3U\n#EXTINF:9,\nconcat:%s|file://%s\n#EXT-X-ENDLIST\n",
    "subfile": b"subfile,,start,0,end,64,,:%s",
    "concat:": b"concat:%s|/etc/hosts",
    "SDP": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=%s\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "DASH": b'<?xml version="1.0"?><MPD><Period><BaseURL>file://%s</BaseURL></Period></MPD>',
    "SMIL": b'<smil><body><video src="file://%s"/></body></smil>',
    "image sequence": b"image2:%s",
    "tee, as a name": b"[f=mp4]%s|[f=mp4]/etc/hosts",
}
_FORMATS = (("mov", "h264"), ("gif", "gif"), ("avi", "mjpeg"), ("matroska", "h264"), ("mp4", "hevc"), ("mp4", "mpeg4"))
_PIXELS = {"gif": "rgb8", "mjpeg": "yuvj420p"}
_URIS = (
    "file://%s", "%s", "subfile,,start,0,end,64,,:%s", "concat:%s|/etc/hosts", "../../..%s", "http://127.0.0.1:1/a.mp4",
    "https://169.254.169.254/latest", "ftp://127.0.0.1/a", "data:video/mp4;base64,AAAA", "pipe:0", "root/..%%2f..%s",
)  # fmt: skip


def payloads(canary: Path) -> Iterator[tuple[str, bytes]]:
    """(what it is, bytes); those that name a file name the canary."""
    path = os.fsencode(canary)
    for name, playlist in _PLAYLISTS.items():
        text = playlist.replace(b"%s", path)
        yield name, text
        yield f"{name}, behind the head of an MP4", clips.clip()[:32] + text
        yield f"{name}, as the frames of an MP4", clips.clip().replace(b"mdat", b"mdat" + text, 1)
    for container, codec in _FORMATS:
        yield f"{codec} in {container}", clips.clip(container, codec, pix_fmt=_PIXELS.get(codec, "yuv420p"))
    yield "external reference", clips.with_external_reference(clips.clip(), b"file://" + path)
    yield "sound alone", clips.tone()


async def run(target: Target) -> dict[str, Any]:
    """What became of each, by the ways in which it can be sent."""
    taken: list[str] = []
    codes: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "clip.mp4"
        canary.write_bytes(clips.clip(seed=77))
        target.forbidden += [folder, data_url(canary.read_bytes())[40:120]]
        async with target.callers(2) as client:
            for name, data in payloads(canary):
                sent = {
                    "MP4": target.post(client, "/v1/score", json={"items": [item(data)]}),
                    "WebM": target.post(
                        client, "/v1/score",
                        json={"items": [{"prompt": PROMPT, "video": {"data": data_url(data, "video/webm")}}]},
                    ),
                    "upload": target.post(client, "/v1/files", content=data, headers={"Content-Type": "video/mp4"}),
                    "form": target.post(client, "/v1/files", files={"file": (f"{canary}", data, "video/mp4")}),
                }  # fmt: skip
                for way, coming in sent.items():
                    response = await coming
                    if response is None or response.is_success or response.status_code >= 500:
                        taken.append(f"{name} ({way})")
                    else:
                        codes.setdefault(name, []).extend(outcomes(response))
            for uri in _URIS:
                named = uri.replace("%s", str(canary))
                response = await target.post(
                    client, "/v1/score", json={"items": [{"prompt": PROMPT, "video": {"uri": named}}]}
                )
                if response is None or response.is_success or response.status_code >= 500:
                    taken.append(f"the URI {uri}")
                else:
                    codes.setdefault("URIs", []).extend(outcomes(response))
    return {
        "payloads": sum(map(len, codes.values())) + len(taken), "taken": taken, "leaks": target.leaks,
        "codes": {name: sorted(set(found)) for name, found in codes.items()},
    }  # fmt: skip
