"""Files of published models: what is read, and what is not."""

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from policies.errors import InputError
from policies.rewards.published import (
    PublishedFolder,
    check_finite,
    listed,
    open_published,
    read_pickled_tensors,
    read_safetensors,
    safetensors_files,
    sha256_of,
)
from tests.policies.rewards import goldens

MODEL_PTH = goldens.FOLDER / "videoreward" / "VideoReward" / "checkpoint-11352" / "model.pth"


class Canary:
    """Makes a file when it is unpickled by something that runs what a pickle says."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


class BuiltinCanary(Canary):
    def __reduce__(self) -> Any:
        return eval, (f"__import__('os').mkdir({str(self.path)!r})",)


def folder_of(path: Path) -> PublishedFolder:
    return PublishedFolder(path=path, setting="reward.path", repository="Some/Model", revision=None)


def test_a_published_pickle_gives_its_tensors() -> None:
    tensors = read_pickled_tensors(MODEL_PTH)
    assert len(tensors) == 87 and all(tensor.dtype == torch.bfloat16 for tensor in tensors.values())


@pytest.mark.parametrize("kind", [Canary, BuiltinCanary])
@pytest.mark.parametrize("is_legacy", [False, True])
def test_a_checkpoint_that_runs_code_is_refused_and_nothing_ran(
    tmp_path: Path, kind: type[Canary], is_legacy: bool
) -> None:
    file, canary = tmp_path / "model.pth", tmp_path / "ran"
    content = {"weight": torch.zeros(2), "evil": kind(canary)}
    torch.save(content, file, _use_new_zipfile_serialization=not is_legacy)
    with pytest.raises(InputError, match=r"model\.pth") as refusal:
        read_pickled_tensors(file)
    assert not canary.exists()
    if not is_legacy:
        assert "nothing in a checkpoint is run" in str(refusal.value)
    torch.load(file, weights_only=False)  # the canary is a live one
    assert canary.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "holds a list, expected tensors by name"),
        ({}, "holds a dict, expected tensors by name"),
        ({"epoch": 3}, "'epoch' is a int, expected tensors by name"),
        ({"a": {"b": torch.zeros(2)}}, "'a' is a dict, expected tensors by name"),
        ({"a": torch.zeros(2, dtype=torch.int64)}, "a is torch.int64"),
        ({"a": torch.zeros(1).expand(1000, 1000)}, "a is torch.float32, torch.strided; expected dense"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "a is torch.float32, torch.sparse_coo|was not loaded"),
    ],
)
def test_anything_but_dense_tensors_by_name_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(InputError, match=message):
        read_pickled_tensors(tmp_path / "model.pth")


@pytest.mark.parametrize("kept", [0, 1000, 200_000, 455_000])
def test_a_truncated_pickle_is_refused(tmp_path: Path, kept: int) -> None:
    (tmp_path / "model.pth").write_bytes(MODEL_PTH.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"model\.pth is truncated or was not written by torch\.save"):
        read_pickled_tensors(tmp_path / "model.pth")


def test_a_compressed_archive_is_refused_before_it_grows(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", b"0" * 10_000_000)
    with pytest.raises(InputError, match=r"is not an archive as torch\.save writes it"):
        read_pickled_tensors(tmp_path / "model.pth")


def test_an_enormous_description_of_tensors_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pth", "w") as archive:
        archive.writestr("model/data.pkl", b"0" * (17 * 2**20))
    with pytest.raises(InputError, match="describes its tensors in 17825792 bytes"):
        read_pickled_tensors(tmp_path / "model.pth")


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    base = folder_of(goldens.FOLDER / "videoreward" / "base")
    files = safetensors_files(base)
    assert len(files) == 4 and len(read_safetensors(files)) == 57
    assert safetensors_files(folder_of(tmp_path)) == []


def test_a_missing_shard_is_named_with_where_to_fetch_it(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "one.safetensors"}}')
    wanted = (
        r"names one.safetensors, which is missing; fetch it from Some/Model: hf download Some/Model one.safetensors"
    )
    with pytest.raises(InputError, match=wanted):
        safetensors_files(folder_of(tmp_path))


def test_an_index_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../x.safetensors"}}')
    with pytest.raises(InputError, match="names files outside its folder"):
        safetensors_files(folder_of(tmp_path / "in"))


def test_a_damaged_shard_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(100)}, tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:-7])
    with pytest.raises(InputError, match=r"model\.safetensors is not a readable safetensors file"):
        safetensors_files(folder_of(tmp_path))


def test_a_missing_file_says_what_to_fetch_and_from_where(tmp_path: Path) -> None:
    wanted = f"{tmp_path} has no config.json; fetch it from Some/Model: hf download Some/Model config.json --local-dir"
    with pytest.raises(InputError, match=wanted):
        folder_of(tmp_path).file("config.json")


def test_a_path_that_is_neither_folder_nor_hub_id_is_refused_without_the_network(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a folder, nor a hub id such as Some/Model; fetch it: hf download"):
        open_published(str(tmp_path / "none"), setting="reward.path", repository="Some/Model", patterns=())


def test_what_reads_like_a_hub_id_is_a_path_where_there_is_a_folder_of_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="'models/VideoReward' is not a folder"):
        open_published("models/VideoReward", setting="reward.path", repository="Some/Model", patterns=())


def test_weights_that_are_not_finite_are_named() -> None:
    with pytest.raises(InputError, match="the weight b holds numbers that are not finite"):
        check_finite({"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")])}, MODEL_PTH)


def test_long_lists_are_cut_with_their_number() -> None:
    assert listed(["b", "a"]) == "a, b"
    assert listed([f"{index:02}" for index in range(25)]).endswith("19 and 5 more")


def test_hashes_are_those_of_the_published_list() -> None:
    sums = [line.split() for line in (goldens.FOLDER / "sha256sums.txt").read_text().splitlines()]
    wanted = next(digest for digest, name in sums if name.endswith("model.pth"))
    assert sha256_of({"x": MODEL_PTH}) == {"x": wanted}
