"""The run on a real local Ray, over toy parts with real state. One cluster for the module; what a run on it does must
equal what the same parts do in this process, whatever dies on the way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytest_asyncio

from cluster.errors import PartError
from cluster.generators import GeneratorPool
from cluster.learner import RayLearner
from cluster.local_ray import RayNeeds, RaySession
from cluster.reaper import TEMPORARY_PREFIX, TOKEN_VARIABLE, members
from cluster.split import SplitPlacement
from policies.errors import ClusterError, InputError
from policies.types import Prompt, SampleRequest
from tests.cluster.toy_parts import FACTORIES
from tests.cluster.toy_run import SAMPLING, SHAPE, InThisProcess, toy_config, toy_run

UPDATES = 14
ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.ray,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def placement(run_dir: Path) -> AsyncIterator[SplitPlacement]:
    started = await SplitPlacement.start(toy_config(), run_dir, factories=FACTORIES)
    yield started
    await started.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def unbroken(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The same run without Ray and without deaths."""
    folder = tmp_path_factory.mktemp("unbroken")
    return await toy_run(InThisProcess(toy_config(), folder), folder, updates=UPDATES)


async def test_a_run_that_loses_every_part_once_equals_an_unbroken_one(
    placement: SplitPlacement, run_dir: Path, unbroken: list[dict[str, Any]]
):
    before = placement.pids()
    victims = {1: ["generators"], 3: ["mailbox"], 5: ["learner"], 7: ["scorer"], 10: ["mailbox", "learner"]}

    async def kill(update: int) -> None:
        for role in victims.get(update, []):
            os.kill(np.atleast_1d(placement.pids()[role])[0], signal.SIGKILL)

    assert await toy_run(placement, run_dir, updates=UPDATES, after=kill) == unbroken
    after = placement.pids()
    assert all(before[role] != after[role] for role in ("generators", "mailbox", "learner", "scorer"))
    assert all(psutil.pid_exists(pid) for role in after.values() for pid in np.atleast_1d(role)), after


async def test_two_ranks_equal_one_and_survive_the_death_of_either(
    placement: SplitPlacement, tmp_path: Path, unbroken: list[dict[str, Any]]
):
    config = toy_config(placement={"learner_ranks": 2, "cpus_per_generator": 0})
    learner = RayLearner(config, tmp_path, FACTORIES, train_dir=tmp_path / "train", name="two", log_tail=lambda pid: "")
    pool = GeneratorPool(config, tmp_path, FACTORIES.generator, log_tail=lambda pid: "")
    try:
        await asyncio.gather(learner.start(), pool.start())
        assert len(set(learner.pids)) == 2

        class TwoRanks:
            generator, scorer, write_latents = pool, placement.scorer, pool.write_latents
            reward_model = placement.reward_model

        TwoRanks.learner = learner

        async def kill(update: int) -> None:
            if update == 5:
                os.kill(learner.pids[1], signal.SIGKILL)

        lines = await toy_run(TwoRanks, tmp_path, updates=8, after=kill)
    finally:
        await pool.close()
        await learner.stop()
    for line, expected in zip(lines, unbroken, strict=False):
        assert line["pairs"] == expected["pairs"]
        assert float.fromhex(line["loss_hex"]) == pytest.approx(float.fromhex(expected["loss_hex"]), rel=1e-5)


def request(text: str) -> SampleRequest:
    return SampleRequest(
        group_id="u000000-p000", prompt=Prompt(id="p", text=text), shape=SHAPE, seeds=(1, 2), policy_version=0,
        sampling=SAMPLING,
    )  # fmt: skip


async def test_a_bug_in_a_generator_fails_the_run_with_its_own_message(placement: SplitPlacement):
    with pytest.raises(PartError, match="raised KeyError: 'no such token'"):
        await placement.generator.sample(request("bug"))


async def test_arrays_stay_where_they_are_until_they_are_fetched(placement: SplitPlacement):
    candidates = await placement.generator.sample(request("plain"))
    assert [candidate.seed for candidate in candidates] == [1, 2]
    frames = await placement.fetch(candidates[0].frames)
    assert frames.shape == (9, 32, 32, 3) and frames.dtype == "uint8"
    scored = await placement.scorer.score(candidates)
    assert all(one.is_valid and one.candidate.frames is None for one in scored)


@pytest.mark.parametrize("part", ["generator", "scorer", "learner"])
async def test_bad_input_that_a_part_finds_ends_the_start_with_its_own_error(
    placement: SplitPlacement, tmp_path: Path, part: str
):
    config = toy_config(f"broken-{part}", placement={"cpus_per_generator": 0})
    if part == "generator":
        starting = GeneratorPool(config, tmp_path, FACTORIES.generator, log_tail=lambda pid: "").start()
    elif part == "learner":
        starting = RayLearner(
            config, tmp_path, FACTORIES, train_dir=tmp_path / "train", name="broken", log_tail=lambda pid: ""
        ).start()
    else:
        other = SplitPlacement(config, tmp_path, FACTORIES)
        starting = other._start_scorer()
    with pytest.raises(InputError, match="name"):
        await starting


async def test_a_generator_that_hangs_is_replaced_until_its_budget_is_spent(placement: SplitPlacement, tmp_path: Path):
    config = toy_config(placement={"generators": 1, "max_restarts": 0}, deadlines={"sample_s": 0.5})
    pool = GeneratorPool(config, placement._run_dir, FACTORIES.generator, log_tail=lambda pid: "\nits log ends:\nhm")
    await pool.start()
    with pytest.raises(PartError, match=r"died 1 times, and placement\.max_restarts is 0; (?s:.*)its log ends"):
        await pool.sample(request("hang"))
    await pool.close()


async def test_a_group_without_scores_carries_the_reason_and_a_server_that_is_gone_ends_the_run(
    placement: SplitPlacement, tmp_path: Path
):
    config = toy_config(deadlines={"score_s": 1.0})
    other = SplitPlacement(config, tmp_path, FACTORIES)  # its reward server alone, beside the other one
    await other._start_scorer()
    dark, slow = [await placement.generator.sample(request(text)) for text in ("unscorable", "slow")]
    assert [one.failure for one in await other.scorer.score(dark)] == ["ValueError: frames are too dark"] * 2
    assert [one.failure for one in await other.scorer.score(slow)] == ["not scored within 1 s: no replica answered"] * 2
    from ray import serve  # warns when it is imported, which only a test may

    await asyncio.to_thread(serve.delete, other._name)
    with pytest.raises(PartError, match=r"the reward server onlinevpo-[0-9a-f]+ is gone"):
        await other.scorer.score(dark)


async def test_a_process_has_one_ray_at_a_time(placement: SplitPlacement, tmp_path: Path):
    with pytest.raises(ClusterError, match="already"):
        await SplitPlacement.start(toy_config(), tmp_path, factories=FACTORIES)


def start_driver(folder: Path, updates: int) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.toy_run", str(folder), str(updates)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def family(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """Every process of a driver's run, the reaper included."""
    children = psutil.Process(driver.pid).children(recursive=True)
    tokens = {token for child in children if (token := child.environ().get(TOKEN_VARIABLE))}
    return children + [process for token in tokens for process in members(token) if process not in children]


async def test_a_killed_driver_leaves_nothing_and_its_run_resumes_to_the_same_end(
    placement: SplitPlacement, tmp_path: Path, unbroken: list[dict[str, Any]]
):
    neighbours = [psutil.Process(pid) for role in placement.pids().values() for pid in np.atleast_1d(role)]
    driver = start_driver(tmp_path, UPDATES)
    pids = json.loads(await asyncio.to_thread(driver.stdout.readline))
    while int(await asyncio.to_thread(driver.stdout.readline)) < 6:
        pass
    processes = family(driver)
    assert set(pids["generators"] + pids["learner"] + pids["scorer"]) <= {process.pid for process in processes}
    assert not {process.pid for process in processes} & {process.pid for process in neighbours}
    driver.kill()
    driver.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 10)
    assert [process for process in alive if process.status() != "zombie"] == []
    assert all(process.is_running() for process in neighbours)
    assert len(await placement.generator.sample(request("plain"))) == 2

    resumed = start_driver(tmp_path, UPDATES)
    output, _ = await asyncio.to_thread(resumed.communicate)
    lines = json.loads(output.splitlines()[-1])
    assert resumed.returncode == 0
    assert lines[0]["update"] == 4  # the newest commit was made after four updates
    assert lines == unbroken[4:]


async def test_after_close_no_process_and_no_folder_is_left(placement: SplitPlacement):
    processes, folder = members(os.environ[TOKEN_VARIABLE]), placement._session._temporary
    assert len(processes) > 8 and folder is not None and folder.name.startswith(TEMPORARY_PREFIX)
    await placement.close()
    assert [process for process in processes if process.is_running() and process.status() != "zombie"] == []
    assert not folder.exists()
    assert TOKEN_VARIABLE not in os.environ


async def test_a_cluster_that_does_not_answer_is_a_cluster_error():
    config = toy_config(placement={"address": "127.0.0.1:9"}, deadlines={"start_s": 1})
    session = RaySession(RayNeeds.of_run(config.placement, config.deadlines))
    with pytest.raises(ClusterError, match=r"no Ray cluster answers at '127\.0\.0\.1:9'"):
        await session.open()
    await session.close()
