"""What a decoder process can and cannot do once it is closed off, asked of the kernel."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from services.media.guard import MediaGuard
from services.media.refusal import GuardUnavailable
from tests.services.media.clips import ALLOWED, clip
from tests.services.media.conftest import SMALL

ROOT = Path(__file__).parents[3]
PROBE = """
import ctypes, json, mmap, os, signal, socket, subprocess, sys, threading
from services.media import sandbox
libc = ctypes.CDLL(None, use_errno=True)
listener = socket.create_server(("127.0.0.1", 0))
unconnected = socket.socket()
layers = sandbox.enter()

def attempt(action):
    try:
        action()
        return "done"
    except OSError as error:
        return type(error).__name__

def call(number, *arguments):
    if libc.syscall(ctypes.c_long(number), *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")

ran = []
thread = threading.Thread(target=lambda: ran.append("ran"))
thread.start()
thread.join()
print(json.dumps({
    "layers": layers, "thread": ran,
    "read a file": attempt(lambda: open("/etc/hostname")),
    "write a file": attempt(lambda: open("/tmp/onlinevpo-probe", "w")),
    "list a folder": attempt(lambda: os.listdir("/")),
    "remove a file": attempt(lambda: os.unlink("/tmp/onlinevpo-probe")),
    "make a socket": attempt(lambda: socket.socket()),
    "connect a socket": attempt(lambda: unconnected.connect(listener.getsockname())),
    "send to an address": attempt(lambda: unconnected.sendto(b"x", listener.getsockname())),
    "fork": attempt(lambda: os.fork()),
    "start a program": attempt(lambda: os.execv("/bin/true", ["true"])),
    "start a child program": attempt(lambda: subprocess.Popen(["/bin/true"])),
    "signal the parent": attempt(lambda: os.kill(os.getppid(), 0)),
    "map code": attempt(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)),
    "raise a limit": attempt(lambda: call(160 if sys.maxsize and os.uname().machine == "x86_64" else 164, 0, None)),
    "io_uring": attempt(lambda: call(425, 1, None)),
    "openat2": attempt(lambda: call(437, -100, b"/etc/hostname", None, 0)),
    "a name of the 32-bit kind": attempt(lambda: call(0x40000002, b"/etc/hostname", 0)),
}))
"""


def test_a_closed_off_process_cannot_open_connect_fork_or_signal_but_threads_work() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "seccomp" in found.pop("layers")
    assert found.pop("thread") == ["ran"]
    assert set(found.values()) == {"PermissionError"}, found
    assert not Path("/tmp/onlinevpo-probe").exists()


async def test_the_decoder_processes_are_closed_off_by_the_kernels_own_account() -> None:
    async with MediaGuard(SMALL, slots=1) as guard:
        (pid,) = guard.pids
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert status["Seccomp"].strip() == "2"
        assert status["NoNewPrivs"].strip() == "1"
        assert "seccomp" in guard.layers
        limits = Path(f"/proc/{pid}/limits").read_text()
        for name in ("Max file size", "Max core file size"):
            assert f"{name:<26}0                    0 " in limits
        assert "Max address space         unlimited" not in limits
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"HOME=" not in environment
        assert len(os.listdir(f"/proc/{pid}/fd")) == 6  # three to nowhere, two memories, one wire
        assert len(psutil.Process(pid).threads()) == 1


@pytest.mark.parametrize(("container", "codec"), ALLOWED)
async def test_decoders_with_several_threads_work_closed_off(container: str, codec: str) -> None:
    async with MediaGuard(SMALL.model_copy(update={"decode_threads": 3}), slots=1) as guard:
        assert (await guard.decode(clip(container, codec), deadline_s=30)).facts.frames == 8


async def test_a_video_that_needs_more_memory_than_allowed_is_refused_and_the_guard_goes_on() -> None:
    async with MediaGuard(SMALL.model_copy(update={"decode_memory_bytes": 2**20}), slots=1) as guard:
        with pytest.raises(Exception) as refused:
            await guard.decode(clip(frames=16, height=256, width=256), deadline_s=30)
        assert getattr(refused.value, "code", None) in {"out_of_memory", "decoder_failed", "damaged"}
        assert len(guard.pids) <= 1


@pytest.mark.parametrize("unsafe", [False, True])
async def test_where_nothing_closes_a_process_off_videos_are_refused_unless_that_is_wanted(
    unsafe: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # a child that is told it runs on a machine no filter is known for
    (tmp_path / "sitecustomize.py").write_text("import platform\nplatform.machine = lambda: 'riscv64'\n")
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    monkeypatch.setattr("services.media.decoder._ONE_THREAD", {"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    guard = MediaGuard(SMALL, slots=2, unsafe_decode=unsafe)
    if unsafe:
        async with guard:
            assert guard.layers == ()
            assert (await guard.decode(clip(), deadline_s=30)).facts.frames == 8
    else:
        with pytest.raises(GuardUnavailable, match="seccomp"):
            await guard.__aenter__()


@pytest.mark.slow
def test_decoder_processes_end_with_their_guards_process(tmp_path: Path) -> None:
    program = """
import asyncio, os, sys
from services.media.guard import MediaGuard
async def main():
    async with MediaGuard(slots=2) as guard:
        print(*guard.pids, flush=True)
        os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=5)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
