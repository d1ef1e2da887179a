"""Why a video is refused: one code for programs and one sentence for people, neither holding anything of the video."""

from __future__ import annotations

from enum import StrEnum

from policies.errors import InputError, OnlineVPOError


class Code(StrEnum):
    """What is wrong with a video."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    CONTAINER = "container_not_allowed"
    CODEC = "codec_not_allowed"
    EXTERNAL = "external_reference"
    NO_VIDEO = "no_video"
    NO_FRAMES = "no_frames"
    NO_FRAME_RATE = "no_frame_rate"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    FRAME_TOO_LARGE = "frame_too_large"
    FRAME_SIZE_CHANGES = "frame_size_changes"
    TOO_MANY_FRAMES = "too_many_frames"
    TOO_LONG = "too_long"
    DECODED_TOO_LARGE = "decoded_too_large"
    OUT_OF_MEMORY = "out_of_memory"
    TOO_SLOW = "too_slow"
    DECODER_FAILED = "decoder_failed"


SENTENCES = {
    Code.EMPTY: "The video has no bytes.",
    Code.TOO_LARGE: "The video has more bytes than this server takes.",
    Code.CONTAINER: "The file is neither MP4 nor WebM.",
    Code.CODEC: "The video is encoded as something other than H.264, AV1 or VP9.",
    Code.EXTERNAL: "The video's frames are said to lie in another file.",
    Code.NO_VIDEO: "The file holds no video stream.",
    Code.NO_FRAMES: "The video holds no frames.",
    Code.NO_FRAME_RATE: "The video does not say how many frames make a second, or the number makes no sense.",
    Code.TRUNCATED: "The end of the video is missing.",
    Code.DAMAGED: "The video cannot be decoded: it is damaged, or its frames are not what its header says.",
    Code.FRAME_TOO_LARGE: "The video's frames have more pixels than this server takes.",
    Code.FRAME_SIZE_CHANGES: "The size of the video's frames changes along the way.",
    Code.TOO_MANY_FRAMES: "The video has more frames than this server takes.",
    Code.TOO_LONG: "The video is longer than this server takes.",
    Code.DECODED_TOO_LARGE: "The video's frames together have more pixels than this server takes.",
    Code.OUT_OF_MEMORY: "Decoding the video needs more memory than this server gives it.",
    Code.TOO_SLOW: "Decoding the video takes more time than this server gives it.",
    Code.DECODER_FAILED: "The decoder failed at this video.",
}

DEPENDS_ON_THE_MOMENT = frozenset({Code.OUT_OF_MEMORY, Code.TOO_SLOW, Code.DECODER_FAILED})
"""What the same bytes may not meet again."""


class MediaRefused(InputError):
    """A video is refused. `code` says why; the message is that code's sentence, whatever the video holds."""

    def __init__(self, code: Code) -> None:
        super().__init__(SENTENCES[code])
        self.code = code

    def __reduce__(self) -> tuple[type[MediaRefused], tuple[Code]]:
        return type(self), (self.code,)


class GuardUnavailable(OnlineVPOError, RuntimeError):
    """Videos cannot be decoded here with the protection that strangers' bytes need."""


class GuardBusy(OnlineVPOError, RuntimeError):
    """As many videos wait for a decoder as may wait. Try again later."""
