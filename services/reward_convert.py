"""`onlinevpo rewards convert`: published pickles to safetensors."""

from __future__ import annotations

from pathlib import Path

import click

from services.options import json_option
from services.outcome import Outcome


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST", type=click.Path(path_type=Path))
@click.option("--revision", metavar="NAME", help="Hub revision, when SRC is a hub id.")
@json_option
def convert(source: str, destination: Path, revision: str | None, as_json: bool) -> Outcome:
    """Write the pickled weights of SRC as safetensors to DST, once.

    SRC is a folder or hub id in VideoReward's layout, or a .pth of plain tensors. Nothing in it is run. DST is loaded
    as SRC is and gives the same scores.
    """
    from policies.rewards.convert import convert as convert_weights
    from policies.rewards.published import sha256_of

    converted = convert_weights(source, destination, revision=revision)
    sums = sha256_of({str(file): file for file in converted.files})
    return Outcome(
        json={"path": str(converted.path), "tensors": converted.tensors, "sha256": sums},
        text="\n".join(
            [f"{converted.tensors} tensors written:", *(f"  {name}  {sum_}" for name, sum_ in sums.items())]
        ),
    )
