"""KubeRay's schemas, as strict as `kubectl --validate=strict` is: an unknown field is an error."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parent / "schemas"


@functools.cache
def schema(plural: str) -> dict[str, Any]:
    """The schema of a resource's version v1."""
    strict: dict[str, Any] = _strict(json.loads(gzip.decompress(_file(plural).read_bytes())))
    strict["properties"]["metadata"] = {"type": "object"}  # the API server's own business
    return strict


def errors(plural: str, resource: dict[str, Any]) -> list[str]:
    """What is wrong with a resource, by its path."""
    found = Draft202012Validator(schema(plural)).iter_errors(resource)
    return [f"{error.json_path}: {error.message[:300]}" for error in found]


def part(plural: str, *path: str) -> dict[str, Any]:
    """The schema of a part of a resource."""
    here = schema(plural)
    for name in path:
        here = here["items"] if name == "[]" else here["properties"][name]
    return here


def sha256(plural: str) -> str:
    """Of a vendored file."""
    return hashlib.sha256(_file(plural).read_bytes()).hexdigest()


def _file(plural: str) -> Path:
    return SCHEMAS / f"{plural}.v1.json.gz"


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(one) for one in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _strict(value) for key, value in node.items()}
    has_fields = isinstance(node.get("properties"), dict) and node.get("type") == "object"
    if has_fields and not node.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in node:
        closed["additionalProperties"] = False
    return closed
