"""Videos of a run for people to look at: fixed prompts and noise over policy versions."""

from __future__ import annotations

from cluster.store.codec import Codec
from cluster.store.pages import Page, page_of
from cluster.store.records import Entry, Records
from cluster.store.run_items import Sample
from cluster.store.run_record import Run

_CODEC = Codec(Sample)


class Samples:
    """A name and a policy version are one sample: a run that is resumed writes it again."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def page(self, run_id: str, *, cursor: str | None = None, limit: int = 50) -> Page[Sample]:
        """Those of the newest policy version first."""
        return await page_of(
            self._records, samples_index(run_id), _CODEC.load, lambda member: sample_key(run_id, member),
            cursor=cursor, limit=limit,
        )  # fmt: skip


def sample_writes(run: Run, sample: Sample) -> tuple[tuple[str, bytes], Entry]:
    """The record and the entry of a sample."""
    member = f"{sample.policy_version:010d}/{sample.name}"
    return (sample_key(run.id, member), _CODEC.dump(sample)), Entry(samples_index(run.id), member)


def samples_index(run_id: str) -> str:
    return f"runs/{run_id}/samples"


def sample_key(run_id: str, member: str) -> str:
    return f"runs/{run_id}/samples/{member}"
