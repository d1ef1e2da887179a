"""Ray for one run or service: a private cluster that ends with it, or a connection to one that was there before.

A private cluster has a folder of its own under the system's temporary one (short: Ray puts Unix sockets there), random
ports, a random access token, no dashboard, and a reaper that ends it should this process die. It joins no other
cluster, whatever the environment says, and writes nothing to the home directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import ray
from ray._private import auto_init_hook, ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from cluster.config import DeadlinesConfig, PlacementConfig
from cluster.reaper import TEMPORARY_PREFIX, TOKEN_VARIABLE, Reaper, sweep
from cluster.serving.deployment import Deployment
from cluster.serving.loopback import LOOPBACK_VARIABLE
from policies.errors import ClusterError, InputError

LONGEST_TEMPORARY = 40  # characters; a socket path ends after 107, and Ray adds up to 66
LOG_LINES = 20
START_ATTEMPTS = 3  # Ray gives its processes 30 s each to report, which a busy machine can exceed
_VITAL = {ray_constants.PROCESS_TYPE_GCS_SERVER, ray_constants.PROCESS_TYPE_RAYLET}
SPARE_CPUS = 64  # of a service, for models that are added while it runs
CONNECT_LIMIT_S = 30.0  # a wrong address should not take `deadlines.start_s` to be noticed


@dataclass(frozen=True, slots=True, kw_only=True)
class RayNeeds:
    """What a run or service wants of Ray.

    Args:
        address: `local` for a private cluster; otherwise host:port or auto.
        cpus: what its parts reserve in all.
        gpus: what its parts reserve in all.
        start_s: how long starting may take.
        reserved_by: where the configuration says so, for error messages.
        lower: the settings to lower where there is not enough.
        niceness: of the workers of a private cluster; Ray's own choice leaves the machine to whoever sits at it.
        spare_cpus: for what may be asked for later. In a private cluster CPUs are a number and take nothing.
    """

    address: str
    cpus: float
    gpus: float
    start_s: float
    reserved_by: str
    lower: str
    niceness: int = 15
    spare_cpus: int = 0

    @classmethod
    def of_run(cls, placement: PlacementConfig, deadlines: DeadlinesConfig) -> RayNeeds:
        """What the parts of a run reserve."""
        rewards = 0 if placement.reward_app else placement.reward_replicas
        return cls(
            address=placement.address,
            cpus=placement.generators * placement.cpus_per_generator + rewards + placement.learner_ranks,
            gpus=placement.generators * placement.gpus_per_generator
            + rewards * placement.gpus_per_reward_replica
            + placement.learner_ranks * placement.gpus_per_learner_rank,
            start_s=deadlines.start_s,
            reserved_by="placement",
            lower="gpus_per_generator, gpus_per_reward_replica or gpus_per_learner_rank",
        )

    @classmethod
    def of_service(cls, address: str, deployments: Iterable[Deployment], *, start_s: float) -> RayNeeds:
        """What the replicas of a service reserve, were there as many as there may be."""
        deployments = list(deployments)
        return cls(
            address=address,
            cpus=sum(one.most_replicas * one.cpus_per_replica for one in deployments),
            gpus=sum(one.most_replicas * one.gpus_per_replica for one in deployments),
            start_s=start_s,
            reserved_by="models",
            lower="gpus_per_replica or the number of replicas",
            niceness=0,  # a replica that runs behind its gateway keeps all callers waiting
            spare_cpus=SPARE_CPUS,
        )


class RaySession:
    """A connection to Ray. Only one at a time per process: that is how Ray is made.

    Ray is started and stopped by one thread that lives as long as the session. Ray asks the kernel to end its processes
    with the *thread* that started them; and in a thread it leaves the process's signal handlers alone.
    """

    def __init__(self, needs: RayNeeds) -> None:
        self.is_private = needs.address == "local"
        self._needs = needs
        self._is_open = False
        self._temporary: Path | None = None
        self._reaper: Reaper | None = None
        self._environment: dict[str, str | None] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ray-session")

    async def open(self) -> None:
        """Starts or joins Ray. Raises ClusterError."""
        await asyncio.wrap_future(self._thread.submit(self._open))

    async def close(self) -> None:
        """Leaves Ray. A private cluster has ended when this returns, and its folder is gone."""
        await asyncio.wrap_future(self._thread.submit(self._close))

    def _open(self) -> None:
        if ray.is_initialized():
            raise ClusterError("this process is connected to a Ray cluster already; start this one in another process")
        auto_init_hook.enable_auto_connect = False  # a call after the end must fail, not start a cluster of its own
        self._is_open = True
        self._set_environment(_common_settings(self._needs.start_s))
        if self.is_private:
            self._start()
        else:
            self._connect(self._needs.address)

    def _close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        with contextlib.suppress(Exception):  # whatever Ray says, the reaper ends it
            ray.shutdown()
        if self._reaper is not None:
            self._reaper.dismiss()
            self._reaper = None
        self._restore_environment()

    @property
    def ended_parts(self) -> list[str]:
        """Processes of a private cluster that ended by themselves, and without which it cannot go on."""
        node = ray._private.worker._global_node if self.is_private and self._is_open else None
        return [] if node is None else sorted({kind for kind, _ in node.dead_processes()} & _VITAL)

    @property
    def folder(self) -> Path | None:
        """Where a private cluster keeps what it writes; gone when it has ended."""
        return self._temporary

    def scratch(self, run_dir: Path) -> Path:
        """Where Ray keeps its own notes about a run: not worth keeping, but every node must see them."""
        return self._temporary / "train" if self._temporary is not None else run_dir / ".ray"

    def log_tail(self, pid: int) -> str:
        """The end of what a process of a private cluster wrote to stderr, as the end of a message; or nothing."""
        if self._temporary is None:
            return ""
        for file in self._temporary.glob(f"ray/session_latest/logs/worker-*-{pid}.err"):
            if tail := file.read_text(errors="replace").splitlines()[-LOG_LINES:]:
                return "\nits log ends:\n" + "\n".join(tail)
        return ""

    def _start(self) -> None:
        self._temporary = _temporary_folder()
        token = secrets.token_hex(16)
        self._reaper = Reaper(token=token, temporary=self._temporary)
        self._set_environment(_private_settings(token, self._needs.niceness))
        AuthenticationTokenLoader.instance().reset_cache()
        Config.initialize("")  # Ray read its settings when it was imported; let it see ours
        for attempt in range(START_ATTEMPTS):
            try:
                self._init_private()
                break
            except Exception as error:
                with contextlib.suppress(Exception):
                    ray.shutdown()
                sweep(token)
                if attempt == START_ATTEMPTS - 1:
                    raise ClusterError(f"a private Ray cluster could not be started: {error}") from error
        self._check_gpus()

    def _init_private(self) -> None:
        assert self._temporary is not None
        with _quiet(), _on_loopback_only():
            ray.init(
                address="local",
                _temp_dir=str(self._temporary / "ray"),
                num_cpus=self._logical_cpus(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )

    def _logical_cpus(self) -> int:
        """Twice what is needed, whatever the machine has: a part may start again before its last life has ended."""
        return max(2 * math.ceil(self._needs.cpus), os.cpu_count() or 1) + self._needs.spare_cpus

    def _check_gpus(self) -> None:
        needs, there = self._needs, ray.cluster_resources().get("GPU", 0.0)
        if needs.gpus > there:
            raise InputError(
                f"{needs.reserved_by} reserve {needs.gpus:g} GPUs in all and this machine has {there:g}; lower "
                f"{needs.lower}, or name a cluster"
            )

    def _connect(self, address: str) -> None:
        limit_s = min(self._needs.start_s, CONNECT_LIMIT_S)
        _wait_for_port(address, limit_s)
        failures: list[BaseException] = []

        def init() -> None:
            try:
                with _quiet():
                    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=init, name="ray-init", daemon=True)  # it may hang; do not wait for it at exit
        thread.start()
        thread.join(limit_s)
        if thread.is_alive():
            raise ClusterError(f"the Ray cluster at {address!r} did not let us in within {limit_s:g} s")
        if failures:
            raise ClusterError(f"the Ray cluster at {address!r} cannot be reached: {failures[0]}") from failures[0]

    def _set_environment(self, settings: dict[str, str | None]) -> None:
        for name, value in settings.items():
            self._environment.setdefault(name, os.environ.get(name))
            _set(name, value)

    def _restore_environment(self) -> None:
        for name, value in self._environment.items():
            _set(name, value)
        self._environment.clear()


def _common_settings(start_s: float) -> dict[str, str | None]:
    """What Ray reads from the environment of this process; Ray Train passes its own on to its controller."""
    return {
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",  # how fast a dead rank is noticed; polling faster costs 1 % of a core
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": f"{start_s:g}",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in a configuration stay what they are
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or Ray warns that this will change
    }


def _private_settings(token: str, niceness: int) -> dict[str, str | None]:
    return {
        TOKEN_VARIABLE: token,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_AUTH_TOKEN_PATH": None,
        "RAY_ADDRESS": None,
        "RAY_NAMESPACE": None,
        "RAY_TMPDIR": None,
        "RAY_worker_niceness": str(niceness),
        "RAY_prestart_worker_first_driver": "0",  # as many workers as there are CPUs, of which most would idle
        LOOPBACK_VARIABLE: "0",  # for the processes that Ray starts; see _on_loopback_only
        # Nobody looks into a private cluster, so it need not report: idle, it takes 10 % of a core rather than 17 %.
        "RAY_TRAIN_METRICS_ENABLED": "0",
        "RAY_enable_metrics_collection": "0",
        "RAY_task_events_report_interval_ms": "0",
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.2",  # 0.1 s is Ray's own
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",  # a replica's model has its own; saves 0.2 ms a call
        "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",  # one that hangs does not leave in order either
        "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",  # 10 s is Ray's own, too late for short peaks
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # this machine is not taken away by a cloud
        "SPT_NOENV": "1",  # Ray renames its processes, which would overwrite the environment that the reaper reads
    }


def _temporary_folder() -> Path:
    """A private folder whose path is short enough for Unix sockets."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if len(parent) + len(TEMPORARY_PREFIX) + 12 <= LONGEST_TEMPORARY and os.access(parent, os.W_OK):
            return Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=parent))
    raise ClusterError(
        f"no temporary folder has a path short enough for Ray's sockets; set TMPDIR (now "
        f"{tempfile.gettempdir()}) to one of at most 20 characters"
    )


def _wait_for_port(address: str, limit_s: float) -> None:
    """Waits until something listens at host:port; `auto` and the like are Ray's to resolve."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    deadline = time.monotonic() + limit_s
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=2.0).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"no Ray cluster answers at {address!r} ({error}); is it up? placement.address: local starts one"
                ) from error
        time.sleep(0.5)


@contextlib.contextmanager
def _on_loopback_only() -> Iterator[None]:
    """Ray listens on 127.0.0.1 alone, as it does of itself where it knows that there is no second node.

    It reads the variable when it is imported, which has happened.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray's greetings and warnings stay off the terminal."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
