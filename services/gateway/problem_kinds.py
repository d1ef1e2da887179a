"""Every way in which a request can fail, as callers are told of it. Each has a page at /problems/{code}."""

from __future__ import annotations

from dataclasses import dataclass

from services.gateway.uris import UriCode
from services.media.refusal import DEPENDS_ON_THE_MOMENT, SENTENCES, Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`detail` is said when nothing more exact is known; `remedy` stands on the kind's page."""

    code: str
    status: int
    title: str
    detail: str
    remedy: str
    retryable: bool = False


KINDS: dict[str, Kind] = {}


def kind(code: str, status: int, title: str, detail: str, remedy: str, *, retryable: bool = False) -> Kind:
    """Enters a kind into the catalogue."""
    assert code not in KINDS, code
    KINDS[code] = Kind(code=code, status=status, title=title, detail=detail, remedy=remedy, retryable=retryable)
    return KINDS[code]


# The request as such.
BAD_REQUEST = kind(
    "bad_request", 400, "Bad request", "The request is not one that this server understands.",
    "Compare the request with the examples of the API's description.",
)  # fmt: skip
HOST_NOT_ALLOWED = kind(
    "host_not_allowed", 400, "Host not allowed", "The Host header names no host that this server answers for.",
    "Use the address that the server printed when it started, or add the name to allowed_hosts of its configuration.",
)  # fmt: skip
MALFORMED_JSON = kind(
    "malformed_json", 400, "Malformed JSON", "The body is not JSON.",
    "Send RFC 8259 JSON in UTF-8: no NaN or Infinity, no name twice in one object, no deep nesting.",
)  # fmt: skip
UNAUTHENTICATED = kind(
    "unauthenticated", 401, "API key needed", "The request has no valid API key.",
    "Send the header Authorization: Bearer KEY. Keys are made with: onlinevpo keys create",
)  # fmt: skip
FORBIDDEN = kind(
    "forbidden", 403, "Scope missing", "The API key lacks the scope that this operation needs.",
    "Use a key with that scope; the scopes are score, run and admin.",
)  # fmt: skip
NOT_FOUND = kind(
    "not_found", 404, "Not found", "There is nothing at this address.", "The API's description lists all addresses.",
)  # fmt: skip
METHOD_NOT_ALLOWED = kind(
    "method_not_allowed", 405, "Method not allowed", "This address does not know the request's method.",
    "The Allow header lists the methods that it knows.",
)  # fmt: skip
REQUEST_TIMEOUT = kind(
    "request_timeout", 408, "Body too slow", "The body of the request came too slowly.",
    "Send it again over a faster connection; upload large videos once with POST /v1/files.", retryable=True,
)  # fmt: skip
CONTENT_TOO_LARGE = kind(
    "content_too_large", 413, "Body too large", "The body of the request has more bytes than this server takes.",
    "Upload videos with POST /v1/files and refer to them by file_id, or send fewer at once.",
)  # fmt: skip
TOO_MANY_ITEMS = kind(
    "too_many_items", 413, "Too many items", "The request has more items than this server takes.",
    "Split the request.",
)  # fmt: skip
UNSUPPORTED_MEDIA_TYPE = kind(
    "unsupported_media_type", 415, "Wrong content type", "The body's content type is not one that this address takes.",
    "Send JSON with the header Content-Type: application/json.",
)  # fmt: skip
INVALID = kind(
    "invalid_request", 422, "Invalid request", "The request has parts that are not valid; `errors` says where.",
    "Each entry of errors has the JSON pointer of a part of the body, or the name of a parameter.",
)  # fmt: skip
NOT_OFFERED = kind(
    "not_offered", 422, "Not offered yet", "This is not offered by this version; it comes later.",
    "Videos behind https URLs, webhooks and batch files come later. Upload videos with POST /v1/files.",
)  # fmt: skip
INTERNAL = kind(
    "internal_error", 500, "Internal error", "The server failed at this request.",
    "Tell whoever runs the server the request_id: its log has more.",
)  # fmt: skip

# Limits of the moment.
CALLER_QUEUE_FULL = kind(
    "caller_queue_full", 429, "Too many of your items wait", "As many items of this API key wait as may wait.",
    "Send the request again after the time that Retry-After says.", retryable=True,
)  # fmt: skip
QUEUE_FULL = kind(
    "queue_full", 503, "Queue full", "The server has as much to do as it takes on.",
    "Send the request again after the time that Retry-After says.", retryable=True,
)  # fmt: skip
STORE_UNAVAILABLE = kind(
    "store_unavailable", 503, "Store unavailable", "The server's store does not answer.",
    "Send the request again later.", retryable=True,
)  # fmt: skip
MODEL_UNAVAILABLE = kind(
    "model_unavailable", 503, "Model unavailable", "No replica of the model could score this in time.",
    "Send the request again later.", retryable=True,
)  # fmt: skip
DECODER_UNAVAILABLE = kind(
    "decoder_unavailable", 503, "Decoder unavailable", "The server cannot decode videos now.",
    "Send the request again later.", retryable=True,
)  # fmt: skip
NOT_READY = kind(
    "not_ready", 503, "Not ready", "Parts of the server are not ready; `failing` lists them.",
    "Wait, and look at the server's log.", retryable=True,
)  # fmt: skip
DEADLINE_PASSED = kind(
    "deadline_passed", 504, "Deadline passed", "The deadline passed before this was done.",
    "Send it again with a larger timeout_s, or with the header Prefer: respond-async.", retryable=True,
)  # fmt: skip

# What requests refer to.
MODEL_NOT_FOUND = kind(
    "model_not_found", 404, "No such model", "There is no model of this name.", "GET /v1/models lists the models.",
)  # fmt: skip
RESTART_IN_PROGRESS = kind(
    "restart_in_progress", 409, "Restart in progress", "The model is being restarted already.",
    "GET /v1/models/{name} says when that is over.", retryable=True,
)  # fmt: skip
FILE_NOT_FOUND = kind(
    "file_not_found", 404, "No such file", "This API key has no file of this id.",
    "Upload the video with POST /v1/files.",
)  # fmt: skip

# What became of an item.
INPUT_REFUSED = kind(
    "input_refused", 422, "Not for this model", "The model cannot judge this video with this prompt.",
    "The detail says what the model needs.",
)  # fmt: skip
INVALID_DATA_URL = kind(
    "invalid_data_url", 422, "Not a data URL", "This is not a base64 data URL of an MP4 or WebM video.",
    "Send data:video/mp4;base64,... or data:video/webm;base64,...",
)  # fmt: skip
NON_FINITE_SCORE = kind(
    "non_finite_score", 500, "Not a finite score", "The model gave a score that is not a finite number.",
    "Tell whoever runs the server the request_id.",
)  # fmt: skip
MODEL_FAILED = kind(
    "model_failed", 500, "Model failed", "The model failed on this item.",
    "Tell whoever runs the server the request_id.",
)  # fmt: skip
NO_ITEM_SCORED = kind(
    "no_item_scored", 422, "Nothing scored", "No item could be scored, for different reasons.",
    "Entries of data say what is wrong with each.",
)  # fmt: skip
COMPARISON_TOO_LARGE = kind(
    "comparison_too_large", 413, "Comparison too large", "The videos together have more pixels than can be compared.",
    "Compare fewer videos at once, or smaller ones.",
)  # fmt: skip
TOO_FEW_CANDIDATES = kind(
    "too_few_candidates", 422, "Too few candidates", "Fewer than two of the videos could be scored.",
    "Entries of data say what is wrong with each of the others.",
)  # fmt: skip


def _of_refusal(code: Code) -> Kind:
    """A refusal of the media guard."""
    return kind(
        f"video_{code}", 413 if code is Code.TOO_LARGE else 422, "Video refused", SENTENCES[code],
        "Send MP4 or WebM with H.264, AV1 or VP9, within the server's limits on bytes, pixels, frames and seconds.",
        retryable=code in DEPENDS_ON_THE_MOMENT,
    )  # fmt: skip


URI = {
    UriCode.NOT_ALLOWED: kind(
        "uri_not_allowed", 403, "URI not allowed",
        "The URI is not a plain path below one of the roots that this server knows.",
        "Use NAME/path/clip.mp4, where NAME is one of the uri_roots of the server's configuration.",
    ),
    UriCode.NOT_FOUND: kind(
        "uri_not_found", 404, "No such video", "There is no video under this URI, or this server may not read it.",
        "Check the path below the root, and the server's rights there.",
    ),
    UriCode.UNAVAILABLE: kind(
        "uri_unavailable", 503, "Object store unavailable", "The object store did not give the video in time.",
        "Send the request again later.", retryable=True,
    ),
}  # fmt: skip
VIDEO = {code: _of_refusal(code) for code in Code}
