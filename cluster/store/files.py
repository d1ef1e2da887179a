"""The index of uploaded files, by what they contain. Their bytes lie on a disk that is not the store's business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import JsonValue

from cluster.store.codec import Codec
from cluster.store.pages import Page, page_of
from cluster.store.records import STAMP_DIGITS, Change, Entry, Records, stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """`facts` is what was found out about it (container, codec, frames); `owners` says since when each has it."""

    sha256: str
    size: int
    media_type: str
    facts: Mapping[str, JsonValue]
    created_at: float
    owners: Mapping[str, str]


class Files:
    """Each file once, however many have uploaded it."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._codec = Codec(File)

    async def put(
        self, *, owner: str, sha256: str, size: int, media_type: str, facts: Mapping[str, JsonValue]
    ) -> tuple[File, bool]:
        """Enters a file for an owner; the flag says whether anyone had it before.

        What is known of a file already stays, and what is new is added. Its bytes must be there before; look again
        afterwards, because the last of its former owners may have deleted it in between.
        """

        def decide(values: Sequence[bytes | None], now: float) -> Change[tuple[File, bool]]:
            since = stamp(now)
            if values[0] is None:
                file = File(
                    sha256=sha256, size=size, media_type=media_type, facts=facts, created_at=now, owners={owner: since}
                )
            else:
                known = self._codec.load(_record(sha256), values[0])
                file = replace(
                    known, facts={**facts, **known.facts}, owners={owner: since, **known.owners}
                )  # fmt: skip
                if file == known:
                    return Change(answer=(known, True))
                if owner in known.owners:
                    return Change(answer=(file, True), put=[(_record(sha256), self._codec.dump(file))])
            return Change(
                answer=(file, values[0] is not None),
                put=[(_record(sha256), self._codec.dump(file))],
                enter=[Entry(_of(owner), since + sha256)],
            )

        return await self._records.change([_record(sha256)], decide)

    async def get(self, sha256: str) -> File | None:
        """Whoever asks must be among its owners: a hash is no secret. That is the caller's to check."""
        (value,) = await self._records.read([_record(sha256)])
        return None if value is None else self._codec.load(_record(sha256), value)

    async def page(self, owner: str, *, cursor: str | None = None, limit: int = 50) -> Page[File]:
        """An owner's files, newest first."""
        return await page_of(
            self._records, _of(owner), self._codec.load, lambda member: _record(member[STAMP_DIGITS:]), cursor=cursor,
            limit=limit,
        )  # fmt: skip

    async def delete(self, *, owner: str, sha256: str) -> bool:
        """Takes a file from an owner. True: nobody has it any more, so its bytes may go."""

        def decide(values: Sequence[bytes | None], now: float) -> Change[bool]:
            known = None if values[0] is None else self._codec.load(_record(sha256), values[0])
            if known is None or owner not in known.owners:
                return Change(answer=False)
            left = {name: since for name, since in known.owners.items() if name != owner}
            return Change(
                answer=not left,
                put=[(_record(sha256), self._codec.dump(replace(known, owners=left)))] if left else [],
                drop=[] if left else [_record(sha256)],
                leave=[Entry(_of(owner), known.owners[owner] + sha256)],
            )

        return await self._records.change([_record(sha256)], decide)


def _record(sha256: str) -> str:
    return f"files/{sha256}"


def _of(owner: str) -> str:
    return f"files/of/{owner}"
