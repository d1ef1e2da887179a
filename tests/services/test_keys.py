import json
import re
from pathlib import Path
from typing import Any

import pytest

from cluster.store.open import open_store
from services.cli import main

TOKEN = re.compile(r"ovpo_[0-9a-f]{16}_[0-9a-f]{64}")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["keys", *arguments, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


async def scopes_of(token: str, store: Path) -> set[str] | None:
    opened = await open_store(store)
    key = await opened.keys.authenticate(token)
    await opened.close()
    return None if key is None else set(key.scopes)


async def test_a_new_key_opens_what_its_scopes_say(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import asyncio

    made = await asyncio.to_thread(told, capsys, "create", "--name", "ci", "--scope", "score", "--scope", "run")
    assert TOKEN.fullmatch(made["key"]) and made["scopes"] == ["run", "score"] and made["name"] == "ci"
    assert await scopes_of(made["key"], tmp_path / "onlinevpo-data" / "store.sqlite") == {"score", "run"}


def test_a_key_may_score_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "create")["scopes"] == ["score"]


def test_the_secret_is_shown_once_and_lies_nowhere(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made = told(capsys, "create", "--name", "x")
    secret = made["key"].rsplit("_", 1)[1]
    assert [key["id"] for key in told(capsys, "list")["keys"]] == [made["id"]]
    assert main(["keys", "list"]) == 0
    assert secret not in capsys.readouterr().out
    assert not any(secret.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


async def test_a_revoked_key_opens_nothing_and_stays_in_the_list(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import asyncio

    made = await asyncio.to_thread(told, capsys, "create", "--store", "s.db")
    await asyncio.to_thread(told, capsys, "revoke", made["id"], "--store", "s.db")
    assert await scopes_of(made["key"], tmp_path / "s.db") is None
    (listed,) = (await asyncio.to_thread(told, capsys, "list", "--store", "s.db"))["keys"]
    assert listed["revoked_at"] is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["revoke", "nope"], "there is no key with this id; `onlinevpo keys list` shows them"),
        (["create", "--scope", "god"], "'god' is not one of 'score', 'run', 'admin'"),
        (["create", "--name", "a\nb"], "--name: at most 100 characters"),
        (["list", "--store", "http://x"], "a store is a path or a URL with redis://"),
        (["list", "--data-dir", "file"], "/file is a file; give a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_one_clear_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").touch()
    assert main(["keys", *arguments]) == 2
    assert said in capsys.readouterr().err
