"""Requests that a stranger can send as they are, to a server with the bundled model, and answers to them."""

from __future__ import annotations

from typing import Any

PROMPT = "a red circle moving left slowly"

CLIP = (
    "data:video/webm;base64,"
    "GkXfo59ChoEBQveBAULygQRC84EIQoKEd2VibUKHgQJChYECGFOAZwEAAAAAAAKjEU2bdLpNu4tTq4QVSalmU6yBoU27i1OrhBZU"
    "rmtTrIHGTbuMU6uEElTDZ1OsggEJTbuMU6uEHFO7a1OsggKN7AEAAAAAAABZAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAVSalmoCrXsYMPQkBNgIRM"
    "YXZmV0GETGF2ZkSJiECRlAAAAAAAFlSua76uAQAAAAAAADXXgQFzxYgAAAAAAAAAAZyBACK1nIN1bmSIgQCGhVZfVlA5g4EBI+OD"
    "hAdzWUDghrCBILqBIBJUw2e1c3OyY8CLY8WIAAAAAAAAAAFnyKFFo4hEVVJBVElPTkSHkzAwOjAwOjAxLjEyNTAwMDAwMAAfQ7Z1"
    "QUTngQCjQIuBAACAgkmDQgAB8AH2CjgkHBiMAAAwcAAAWov//5EQCC//cza3t0TzCWt76rZj//70w8Sz2iIcgNBGDOgsmlrRgrwz"
    "LHXpM3QV1HGVoz7aevZqrZXXiXSyzArSTKMWhdNaGt/u8PqnvUTRrEJDTaVgmkUwbml/m5XvTQiqT5NUUmNh+CIkirVwD6GAo5WB"
    "AH0AhgBAkpwUVAAAAyAAAEwqwACjk4EA+gCGAECSnBRS4AADIAAAQ0CjlYEBdwCGAECSnBRUAAADIAAAUr9oAKOUgQH0AIYAQJKc"
    "FFGAAAMgAABMkCijlYECcQCGAECSnBRUAAADIAAAUsRmAKOVgQLuAIYAQJKcFFLgAAMgAABSuIQAo5SBA2sAhgBAkpwUVAAAAyAA"
    "AFK1EKOUgQPoAIYAQJKcFE8gAAMgAABSt4AcU7trkbuPs4EAt4r3gQHxggFD8IED"
)
OTHER_CLIP = (
    "data:video/webm;base64,"
    "GkXfo59ChoEBQveBAULygQRC84EIQoKEd2VibUKHgQJChYECGFOAZwEAAAAAAAP8EU2bdLpNu4tTq4QVSalmU6yBoU27i1OrhBZU"
    "rmtTrIHGTbuMU6uEElTDZ1OsggEJTbuMU6uEHFO7a1OsggPm7AEAAAAAAABZAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAVSalmoCrXsYMPQkBNgIRM"
    "YXZmV0GETGF2ZkSJiECRlAAAAAAAFlSua76uAQAAAAAAADXXgQFzxYgAAAAAAAAAAZyBACK1nIN1bmSIgQCGhVZfVlA5g4EBI+OD"
    "hAdzWUDghrCBILqBIBJUw2e1c3OyY8CLY8WIAAAAAAAAAAFnyKFFo4hEVVJBVElPTkSHkzAwOjAwOjAxLjEyNTAwMDAwMAAfQ7Z1"
    "Qp3ngQCjQKCBAACAgkmDQgAB8AH2EDgkHBiMAAAwcAAAdUjv//99VgAKI4ZTz/3wukK9WuorEpSaylGu6pqNPm4FVj4P590v4OhA"
    "Zrz5y45tiBLBx7yhiZpfZp1+c3u6OwyvdnfVyiElTPvXK6KBxHaIp0tdaxbfchzgyODne8i6cXPUOQCYB9NrG9+E5GKawYQWotvf"
    "YcmbGGsD0tFZ74fwNfMZ/qmAo6qBAH0AhgBAkvEBUAAADHAAAHY2uQAJH0dYXS4zFpDjQgrHTj0CU1aqKACjzIEA+gCGAECSjIBS"
    "4AADIAAAfqrKCsEAgDnci4wj9jxE81uJugsOlmqky4ZBj+55ppj5uYEoqS8LuWz4XqtEDowM6tWzu25ggjkyzwCjs4EBdwCGAECS"
    "jHBUAAADIAAAeiIy03zS+71Fr3/D/FAR79fyoHci1D3Lv/1hVsFtlZ3kaKO1gQH0AIYAQJKcYFGAAANwAAB+qCVXbgE9HH2yW3pO"
    "dUE8PXEe5DKEFnRnWbYEGL0mgd1I94Cj1oECcQCGAECSnJBUAAADIAAAfqrKCNdmoUNTzUBvEQQQO5L+WBWCUoZ5vIv7ifDEUvYz"
    "qnaBNYyL1r4ejihNLNnkExQYgcEYcCIbfoZvz7kqagXeXsIAo7yBAu4AhgBAkpxoUuAAAyAAAH6oqAaMk//ZnjAR//2wDUw4kFjD"
    "VGgHkH/nG6n/8Xil44C/0v40FTAFUACjnoEDawCGAECSnIBUAAADIAAAdqUmyVuwhFgpr3CdgKPZgQPoAIYAQJKcfE8gAAMgAAB+"
    "qsoX7Gex2ZV5gH3n/XlMeEf/0vELmJa5buUE1adUwKGrKeKfDaBaVV3ZvF7fDEZSmzpbGZ+6CdDSl52p9cW2ISNlngkMA3AcU7tr"
    "kbuPs4EAt4r3gQHxggFD8IED"
)

_HASH = "42d8f579243d8e1174f6d907218d6ae7ad8a5438bd8e41b782fbde010c20cc74"
_MODEL = {"name": "shapes", "revision": _HASH, "files": {"model.safetensors": _HASH}}
_NAMED = {**_MODEL, "model": "shapes", "dtype": "float32"}
_REQUEST_ID = "15031394d0b613dd273f5c6372a9618b"

PROBLEM = {
    "type": "/problems/video_damaged",
    "title": "Video refused",
    "status": 422,
    "detail": "The video cannot be decoded: it is damaged, or its frames are not what its header says.",
    "code": "video_damaged",
    "request_id": _REQUEST_ID,
    "retryable": False,
    "errors": [{"pointer": "/items/1/video", "detail": "The video cannot be decoded."}],
}


def _score(index: int, *scores: float, reward: float) -> dict[str, Any]:
    return {
        "index": index,
        "id": None,
        "object": "score",
        "scores": {
            name: {"raw": score, "normalised": score} for name, score in zip(("VQ", "MQ", "TA"), scores, strict=True)
        },
        "reward": reward,
        "model": _MODEL,
        "usage": {"frames": 9, "decode_ms": 7.214, "queue_ms": 0.391, "inference_ms": 5.127},
    }


_FIRST = _score(0, 3.386, 3.39, 2.966, reward=3.247)
_SECOND = _score(1, 3.128, -9.321, 2.536, reward=-1.219)

SCORED = {
    "id": "score_0fc2ad754e670f39c039e2d25c014519",
    "object": "list",
    "model": _NAMED,
    "partial": True,
    "data": [_FIRST, {"index": 1, "id": "second", "object": "score", "error": PROBLEM}],
    "usage": {"items": 2, "scored": 1, "frames": 9, "decode_ms": 7.214},
}

COMPARED = {
    "id": "comparison_5f1c1213924145db2a278aa5efc251bc",
    "object": "comparison",
    "model": _NAMED,
    "partial": False,
    "tie": False,
    "tie_margin": 0.1,
    "ranking": [
        {"rank": 1, "index": 0, "reward": 3.247, "margin_to_best": 0.0, "margin_to_next": 4.466, "tie": False},
        {"rank": 2, "index": 1, "reward": -1.219, "margin_to_best": 4.466, "tie": False},
    ],
    "data": [_FIRST, _SECOND],
    "usage": {"items": 2, "scored": 2, "frames": 18, "decode_ms": 14.428},
}

MODEL = {
    **_NAMED, "object": "model", "dimensions": ["VQ", "MQ", "TA"], "ready": True, "queued": 0, "restarting": False,
    "default": True,
}  # fmt: skip
MODELS = {"object": "list", "data": [MODEL], "has_more": False, "next_cursor": None}
