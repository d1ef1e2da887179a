"""What a client needs to know, and where it is said."""

from __future__ import annotations

import os
from typing import Any

TIMEOUT_S = 120.0
_URL_VARIABLE, _KEY_VARIABLE = "ONLINEVPO_URL", "ONLINEVPO_API_KEY"
_DEFAULT_URL = "http://127.0.0.1:8000"


def address(base_url: str | None) -> str:
    """Where the service is: as given, else what the environment says, else this machine."""
    given = os.environ.get(_URL_VARIABLE) or _DEFAULT_URL if base_url is None else base_url
    url = given.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"the service's URL begins with http:// or https://, not {url!r}")
    return url


def authorization(api_key: str | None) -> dict[str, str]:
    """The header that carries the API key: as given, else what the environment says."""
    key = (api_key or os.environ.get(_KEY_VARIABLE) or "").strip()
    if not key:
        raise ValueError(f"an API key is needed: pass api_key, or set {_KEY_VARIABLE}")
    if not (key.isascii() and key.isprintable()):
        raise ValueError("the API key has characters that no key has")
    return {"Authorization": f"Bearer {key}"}


def options(**given: Any) -> dict[str, Any]:
    """Members of a request that were given."""
    return {name: list(value) if name == "dimensions" else value for name, value in given.items() if value is not None}
