"""What callers sent, keys first of all, is nowhere to be found: not in logs, metrics, descriptions or the store."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import psutil

from tests.evidence.serving.mutated import whole
from tests.evidence.serving.target import Target, data_url, item
from tests.services.serving.running_server import RunningServer

CANARY = "zebrafinch-77-quokka"
_LOG_DIR = re.compile(r"--logs?-dir=(\S+)")


async def run(server: RunningServer) -> dict[str, Any]:
    """Plants them in requests of every kind, then looks wherever something is written or shown."""
    target = Target.of(server)
    target.forbidden += [CANARY, server.key, server.key.rpartition("_")[2]]
    async with target.callers(2) as client:
        for path in ("/v1/score", "/v1/compare", "/v1/files", "/v1/nowhere", f"/v1/{CANARY}", f"/v1/jobs/{CANARY}"):
            for body in _bodies():
                await target.post(client, path, json=body)
            await target.post(client, path, content=CANARY.encode(), headers={"X-Request-Id": f"{CANARY}\x7f"})
        odd = f"{CANARY} \xe9".encode("latin-1")
        for name in ("Authorization", "Idempotency-Key", "Prefer", "Last-Event-ID", "Content-Type", "Cookie"):
            await target.post(client, "/v1/score", json={"items": [item(whole(0))]}, headers={name: odd})
        for path in ("/metrics", "/openapi.json", "/docs", "/readyz", "/v1/models", "/v1/jobs", "/v1/files"):
            shown = await client.get(path, params={CANARY: CANARY, "cursor": server.key})
            if path != "/openapi.json":
                target.look_at(shown.status_code, shown.text)
            assert server.key not in shown.text
    kept = [path for path in server.folder.rglob("*") if path.is_file() and path != server.stdout]
    logs = [path for folder in _ray_logs(server) for path in folder.rglob("*") if path.is_file()]
    return {
        "answers": target.statuses.total(), "leaks": target.leaks, "files_searched": len(kept) + len(logs),
        "files_with_the_key": [path.name for path in kept + logs if server.key.rpartition("_")[2] in _text(path)],
        "logs_with_a_prompt": [path.name for path in [server.stderr, *logs] if CANARY in _text(path)],
    }  # fmt: skip


def _bodies() -> list[Any]:
    return [
        {"items": [item(whole(0), CANARY)]}, {"items": [item(whole(0), CANARY)], CANARY: CANARY}, {CANARY: [CANARY]},
        {"items": [{"prompt": CANARY, "video": {"data": CANARY}}]}, [CANARY], CANARY,
        {"items": [{"prompt": CANARY, "video": {"data": data_url(CANARY.encode())}}]},
        {"items": [{"prompt": CANARY, "video": {"uri": CANARY}}], "model": CANARY},
        {"items": [{"prompt": CANARY, "video": {"uri": f"https://{CANARY}/"}}], "dimensions": [CANARY]},
        {"prompt": CANARY, "videos": [{"data": CANARY}, {"file_id": CANARY}], "tie_margin": CANARY},
    ]  # fmt: skip


def _ray_logs(server: RunningServer) -> set[Path]:
    folders = set()
    for process in server.family():
        with contextlib.suppress(psutil.Error):
            folders |= {Path(found) for found in _LOG_DIR.findall(" ".join(process.cmdline()))}
    return folders


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_bytes().decode("latin-1")
    return ""
