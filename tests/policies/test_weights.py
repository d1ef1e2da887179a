from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from policies.errors import WeightsMismatchError
from policies.families.diffusers_policy import DiffusersPolicy
from policies.lora import LORA_FILE
from policies.weights import MemoryWeights, WeightDirectory, weights_hash
from tests.policies.families import tiny

Folder = Callable[[str], Path]


@pytest.fixture
def policy(tiny_folder: Folder) -> DiffusersPolicy:
    policy = tiny.load(tiny_folder("wan"))
    tiny.perturb(policy)
    return policy


def tensors(value: float = 1.0) -> dict[str, Tensor]:
    return {"b": torch.full((2, 3), value), "a": torch.arange(4.0)}


# -- the hash ----------------------------------------------------------------------------------------------------------
def test_the_hash_ignores_order_and_memory_layout() -> None:
    reordered = dict(reversed(tensors().items()))
    reordered["b"] = torch.full((3, 2), 1.0).T
    assert weights_hash(reordered) == weights_hash(tensors())
    assert len(weights_hash({})) == 64


@pytest.mark.parametrize(
    "other",
    [
        {"b": torch.full((2, 3), 1.0), "c": torch.arange(4.0)},
        {"b": torch.full((3, 2), 1.0), "a": torch.arange(4.0)},
        {"b": torch.full((2, 3), 1.0), "a": torch.arange(4.0).view(torch.int32)},
        {"b": torch.full((2, 3), 1.0 + 1e-7), "a": torch.arange(4.0)},
        {"b": torch.full((2, 3), 1.0), "a": torch.tensor([-0.0, 1, 2, 3])},
        {"b": torch.full((2, 3), 1.0)},
    ],
)
def test_the_hash_sees_every_name_shape_type_and_bit(other: dict[str, Tensor]) -> None:
    assert weights_hash(other) != weights_hash(tensors())


def test_the_hash_takes_bfloat16_and_empty_tensors() -> None:
    assert weights_hash({"a": torch.ones(3, dtype=torch.bfloat16)}) != weights_hash({"a": torch.ones(3)})
    assert weights_hash({"a": torch.ones(0, 2)}) != weights_hash({"a": torch.ones(2, 0)})


# -- in memory ---------------------------------------------------------------------------------------------------------
def test_memory_keeps_the_first_version_and_the_newest_two() -> None:
    weights = MemoryWeights()
    hashes = [weights.publish(version, tensors(version)) for version in range(5)]
    for version in (0, 3, 4):
        found, name = weights.read(version)
        assert name == hashes[version] and torch.equal(found["b"], tensors(version)["b"])
    for version in (1, 2, 5):
        with pytest.raises(WeightsMismatchError, match=rf"version {version} .*\[0, 3, 4\]"):
            weights.read(version)


def test_memory_is_not_changed_from_outside() -> None:
    weights, mine = MemoryWeights(), tensors()
    weights.publish(0, mine)
    mine["b"].zero_()
    assert torch.equal(weights.read(0)[0]["b"], tensors()["b"])


def test_publishing_an_older_version_again_drops_what_came_after_it() -> None:
    weights = MemoryWeights()
    for version in range(4):
        weights.publish(version, tensors(version))
    weights.publish(3, tensors(30))
    assert weights.read(3)[0]["b"][0, 0] == 30
    weights.publish(2, tensors(20))
    with pytest.raises(WeightsMismatchError):
        weights.read(3)


# -- on disk -----------------------------------------------------------------------------------------------------------
def test_a_version_comes_back_bit_for_bit(policy: DiffusersPolicy, tmp_path: Path) -> None:
    directory = WeightDirectory(tmp_path / "weights")
    name = directory.publish(3, policy, "policy", {"base": "tiny"})
    found, read_name = directory.read(3)
    assert read_name == name == weights_hash(policy.export("policy"))
    policy.load("behaviour", found)  # names fit
    assert weights_hash(policy.export("behaviour")) == name


def test_versions_are_listed_and_removed(policy: DiffusersPolicy, tmp_path: Path) -> None:
    directory = WeightDirectory(tmp_path / "weights")
    assert directory.versions() == []
    for version in (10, 2, 0):
        directory.publish(version, policy, "policy")
    (directory.folder(5)).mkdir()  # without a manifest: not a version
    assert directory.versions() == [0, 2, 10]
    directory.remove(2)
    directory.remove(7)  # never was
    assert directory.versions() == [0, 10]
    with pytest.raises(WeightsMismatchError, match=r"no version 2; there are \[0, 10\]"):
        directory.read(2)
    assert sorted(entry.name for entry in directory.root.iterdir()) == ["000000", "000005", "000010"]


def test_the_manifest_names_the_version_the_hash_and_every_file(policy: DiffusersPolicy, tmp_path: Path) -> None:
    directory = WeightDirectory(tmp_path)
    name = directory.publish(1, policy, "policy")
    manifest = json.loads((directory.folder(1) / "manifest.json").read_text())
    assert manifest["version"] == 1 and manifest["hash"] == name
    file = directory.folder(1) / LORA_FILE
    assert manifest["files"][LORA_FILE]["bytes"] == file.stat().st_size
    assert set(manifest["files"]) == {path.name for path in directory.folder(1).iterdir()} - {"manifest.json"}


def test_publishing_the_same_weights_again_touches_nothing(policy: DiffusersPolicy, tmp_path: Path) -> None:
    directory = WeightDirectory(tmp_path)
    first = directory.publish(1, policy, "policy")
    file = directory.folder(1) / LORA_FILE
    before = file.stat()
    assert directory.publish(1, policy, "policy") == first
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_other_weights_replace_a_version(policy: DiffusersPolicy, tmp_path: Path) -> None:
    directory = WeightDirectory(tmp_path)
    first = directory.publish(1, policy, "policy")
    tiny.perturb(policy, seed=4)
    second = directory.publish(1, policy, "policy")
    assert first != second and directory.read(1)[1] == second
    assert [entry.name for entry in tmp_path.iterdir()] == ["000001"]


def test_a_damaged_version_is_noticed_and_published_anew(policy: DiffusersPolicy, tmp_path: Path) -> None:
    directory = WeightDirectory(tmp_path)
    name = directory.publish(1, policy, "policy")
    whole = tmp_path / "copy"
    shutil.copytree(directory.folder(1), whole)

    def flip(folder: Path) -> None:
        content = bytearray((folder / LORA_FILE).read_bytes())
        content[-1] ^= 1
        (folder / LORA_FILE).write_bytes(content)

    def cut(folder: Path) -> None:
        (folder / LORA_FILE).write_bytes((folder / LORA_FILE).read_bytes()[:-8])

    def edit(key: str, value: object) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            manifest = json.loads((folder / "manifest.json").read_text())
            (folder / "manifest.json").write_text(json.dumps({**manifest, key: value}))

        return change

    damages: list[Callable[[Path], object]] = [
        flip,
        cut,
        lambda folder: (folder / LORA_FILE).unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        edit("version", 2),
        edit("hash", "0" * 64),
        edit("files", {}),
    ]
    for damage in damages:
        damage(directory.folder(1))
        with pytest.raises(WeightsMismatchError):
            directory.read(1)
        assert directory.publish(1, policy, "policy") == name
        assert directory.read(1)[1] == name


def test_a_publication_that_fails_leaves_nothing_behind(
    policy: DiffusersPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = WeightDirectory(tmp_path)

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(type(policy), "save_lora", fail)
    with pytest.raises(OSError, match="disk full"):
        directory.publish(1, policy, "policy")
    assert list(tmp_path.iterdir()) == [] and directory.versions() == []


def test_a_plain_pipeline_loads_a_version(policy: DiffusersPolicy, tmp_path: Path, tiny_folder: Folder) -> None:
    directory = WeightDirectory(tmp_path)
    directory.publish(1, policy, "policy")
    pipeline = DiffusionPipeline.from_pretrained(tiny_folder("wan"))
    pipeline.load_lora_weights(directory.folder(1))
    loaded = {name for name, _ in pipeline.transformer.named_parameters() if "lora_" in name}
    assert len(loaded) == len(policy.export("policy"))
    assert pipeline.transformer.peft_config["default_0"].lora_alpha == 6
