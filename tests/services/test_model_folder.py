import json
from collections.abc import Callable
from pathlib import Path

import pytest

from policies.errors import InputError
from policies.types import VideoShape
from services.model_folder import check_policy_folder, check_size, check_weights, unmatched_targets
from tests.services.model_folders import wan_folder, write_safetensors


def test_a_whole_folder_passes(tmp_path: Path) -> None:
    check_policy_folder(wan_folder(tmp_path))


def _pickle_beside(folder: Path) -> None:
    (folder / "transformer" / "model.safetensors").rename(folder / "transformer" / "diffusion_pytorch_model.bin")


def _renamed_pickle(folder: Path) -> None:
    (folder / "vae" / "model.safetensors").write_bytes(b"PK\x03\x04" + bytes(100))


def _old_pickle(folder: Path) -> None:
    (folder / "vae" / "model.safetensors").write_bytes(b"\x80\x02}q\x00." + bytes(100))


def _garbage(folder: Path) -> None:
    (folder / "vae" / "model.safetensors").write_bytes(b"hello world, this is no tensor")


def _short(folder: Path) -> None:
    file = folder / "vae" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])


def _empty_file(folder: Path) -> None:
    (folder / "vae" / "model.safetensors").write_bytes(b"")


def _no_weights(folder: Path) -> None:
    (folder / "text_encoder" / "model.safetensors").unlink()


def _no_part(folder: Path) -> None:
    (folder / "text_encoder" / "model.safetensors").unlink()
    (folder / "text_encoder").rmdir()


def _no_index(folder: Path) -> None:
    (folder / "model_index.json").unlink()


def _broken_index(folder: Path) -> None:
    (folder / "model_index.json").write_text("{")


def _other_family(folder: Path) -> None:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))


def _missing_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00002-of-00002.safetensors"}}
    (folder / "transformer" / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_pickle_beside, "diffusion_pytorch_model.bin: a pickle"),
        (_renamed_pickle, "a pickle (torch.save) under a safetensors name"),
        (_old_pickle, "a pickle (torch.save) under a safetensors name"),
        (_garbage, "not a safetensors file"),
        (_short, "where its header promises"),
        (_empty_file, "not a safetensors file"),
        (_no_weights, "no *.safetensors file"),
        (_no_part, "no such folder, though model_index.json names it"),
        (_no_index, "model_index.json: no such file"),
        (_broken_index, "model_index.json: not JSON"),
        (_other_family, "_class_name is StableDiffusionPipeline; supported pipelines: WanPipeline, CogVideoXPipeline"),
        (_missing_shard, "model-00002-of-00002.safetensors: missing"),
    ],
)
def test_a_damaged_folder_says_what_is_wrong(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(wan_folder(tmp_path))
    with pytest.raises(InputError) as caught:
        check_policy_folder(tmp_path)
    assert said in str(caught.value)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        check_policy_folder(tmp_path / "nowhere")


def test_safetensors_beside_a_pickle_are_fine(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"a": [1]})
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    check_weights(tmp_path)


def test_wan_sizes_follow_from_its_configs(tmp_path: Path) -> None:
    wan_folder(tmp_path)
    check_size(tmp_path, VideoShape(num_frames=9, height=32, width=32))
    with pytest.raises(InputError, match=r"num_frames 10 .*nearest: 9, 13.*width 40 .*nearest: 32, 48"):
        check_size(tmp_path, VideoShape(num_frames=10, height=32, width=40))


def test_cogvideox_sizes_follow_from_its_configs(tmp_path: Path) -> None:
    wan_folder(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "CogVideoXPipeline"}))
    vae = {"temporal_compression_ratio": 4, "block_out_channels": [1, 1, 1, 1]}
    (tmp_path / "vae" / "config.json").write_text(json.dumps(vae))
    (tmp_path / "transformer" / "config.json").write_text(json.dumps({"patch_size": 2}))
    check_size(tmp_path, VideoShape(num_frames=49, height=480, width=720))
    with pytest.raises(InputError, match="height 100"):
        check_size(tmp_path, VideoShape(num_frames=49, height=100, width=720))


def test_lora_targets_are_ends_of_layer_names(tmp_path: Path) -> None:
    wan_folder(tmp_path)
    targets = ["to_q", "attn1.to_q", "blocks.0.attn1.to_q", "o_q", "norm", "to_k"]
    assert unmatched_targets(tmp_path, targets) == ["o_q", "norm", "to_k"]
