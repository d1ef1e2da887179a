"""Records as JSON, checked when they are read back."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from cluster.errors import StoreUnavailableError

T = TypeVar("T")

BYTES_AS_BASE64 = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", extra="forbid")


class Codec(Generic[T]):
    """One kind of record, a dataclass."""

    def __init__(self, kind: type[T]) -> None:
        self._adapter: TypeAdapter[T] = TypeAdapter(kind)

    def dump(self, value: T) -> bytes:
        return self._adapter.dump_json(value)

    def load(self, key: str, data: bytes) -> T:
        """Raises StoreUnavailableError: this is not such a record. The message has none of its contents."""
        try:
            return self._adapter.validate_json(data)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise StoreUnavailableError(
                f"the store's record {key!r} cannot be read ({problem}): it was damaged or written by another version"
            ) from None
