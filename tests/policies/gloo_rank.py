"""One rank of a two-process learner over gloo: `python -m tests.policies.gloo_rank RANK WORLD_SIZE FOLDER`."""

import asyncio
import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from tests.policies.pairs import random_pairs
from tests.policies.test_learner import learner_of
from tests.policies.toy_policy import SHAPE, WIDE_SHAPE, ToyPolicy


def main(rank: int, world_size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world_size)
    learner = learner_of(ToyPolicy(), rank=rank, world_size=world_size, all_reduce=dist.all_reduce)
    losses = []
    for u in range(4):
        batch = [] if u == 2 else random_pairs(3, shapes=(SHAPE, WIDE_SHAPE), first=9 * u)
        losses.append(asyncio.run(learner.update(batch, batch_index=u)).loss)
    learner.save(folder / f"rank{rank}")
    (folder / f"rank{rank}.json").write_text(json.dumps(losses))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
