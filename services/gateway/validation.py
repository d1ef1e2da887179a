"""What is wrong with a request, by place, in our words: the ones of libraries quote what was sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_SENTENCES = {
    "missing": "This field is required.",
    "extra_forbidden": "Here is a field that is not known.",
    "string_type": "This must be a string.",
    "string_unicode": "This must be a string of Unicode characters.",
    "string_pattern_mismatch": "This string has not the form that is asked for.",
    "string_too_short": "This string needs at least {min_length} characters.",
    "string_too_long": "This string may have {max_length} characters at most.",
    "too_short": "This list needs at least {min_length} entries.",
    "too_long": "This list may have {max_length} entries at most.",
    "list_type": "This must be a list.",
    "dict_type": "This must be an object.",
    "model_type": "This must be an object.",
    "model_attributes_type": "This must be an object.",
    "bool_type": "This must be true or false.",
    "int_type": "This must be a whole number.",
    "int_parsing": "This must be a whole number.",
    "int_parsing_size": "This number is too large.",
    "int_from_float": "This must be a whole number.",
    "float_type": "This must be a number.",
    "float_parsing": "This must be a number.",
    "finite_number": "This must be a finite number.",
    "greater_than": "This must be greater than {gt}.",
    "greater_than_equal": "This must be at least {ge}.",
    "less_than": "This must be less than {lt}.",
    "less_than_equal": "This must be at most {le}.",
    "literal_error": "This must be {expected}.",
    "enum": "This must be {expected}.",
    "one_video": "This must have exactly one of file_id, data and uri.",
    "not_offered": "This is not offered yet: videos behind URLs, webhooks and batch files come later.",
}
_OTHERWISE = "This is not valid here."
_OURS = ("min_length", "max_length", "gt", "ge", "lt", "le", "expected")
_PARAMETERS = ("query", "path", "header", "cookie")


def errors_of(found: Iterable[Mapping[str, Any]], *, whole: str = "body") -> list[dict[str, str]]:
    """Entries for a problem's `errors`. Pointers name only what the API's description names: of an unknown field, the
    object that it is in."""
    entries = [_entry(error["type"], tuple(error["loc"]), error.get("ctx", {}), whole) for error in found]
    return [dict(entry) for entry in dict.fromkeys(tuple(entry.items()) for entry in entries)]


def pointer(*path: str | int) -> str:
    """RFC 6901."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _entry(kind: str, loc: tuple[str | int, ...], context: Mapping[str, Any], whole: str) -> dict[str, str]:
    limits = {name: context[name] for name in _OURS if name in context}
    try:
        detail = _SENTENCES.get(kind, _OTHERWISE).format(**limits)
    except KeyError:
        detail = _OTHERWISE
    if whole == "request" and loc and loc[0] in _PARAMETERS:
        return {"parameter": str(loc[1]) if len(loc) > 1 else "", "detail": detail}
    if whole == "request":
        loc = loc[1:]
    return {"pointer": pointer(*(loc[:-1] if kind == "extra_forbidden" else loc)), "detail": detail}
