"""Loading VideoReward: the forms of its layout, and what is wrong with a damaged one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from policies.config import VideoRewardConfig
from policies.errors import InputError
from policies.rewards.videoreward.keys import StoredWeights, network_name, stored_name
from policies.rewards.videoreward.model import VideoReward
from tests.policies.rewards import goldens

GOLDEN = goldens.FOLDER / "videoreward"
FRAMES = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 3), np.uint8)
PEFT = "base_model.model."
Q_PROJ = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the published layout with a small minimum size of frames, to be damaged."""
    shutil.copytree(GOLDEN, tmp_path / "copy")
    change_config(tmp_path / "copy", "data_config", min_frame_pixels=28 * 28)
    return tmp_path / "copy"


def change_config(folder: Path, block: str, **values: Any) -> None:
    file = folder / "VideoReward" / "model_config.json"
    content = json.loads(file.read_text())
    content[block] |= values
    file.write_text(json.dumps(content))


def checkpoint(folder: Path) -> Path:
    return folder / "VideoReward" / "checkpoint-11352"


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    file = checkpoint(folder) / "model.pth"
    tensors = dict(torch.load(file, weights_only=True))
    change(tensors)
    torch.save(tensors, file)


def load(folder: Path, **settings: Any) -> VideoReward:
    values = {"path": str(folder / "VideoReward"), "base": str(folder / "base"), **settings}
    return VideoReward.load(VideoRewardConfig.model_validate(values), "cpu")


def score(model: VideoReward) -> list[float]:
    scores: list[float] = model.score([model.prepare(FRAMES, "a ball", 2.0)])[0].tolist()
    return scores


def as_adapter(folder: Path) -> None:
    """The same checkpoint as LoRA alone, and what else was trained."""
    tensors = torch.load(checkpoint(folder) / "model.pth", weights_only=True)
    lora = {name.replace(".default.", "."): tensor for name, tensor in tensors.items() if ".lora_" in name}
    trained = ("visual.", "model.embed_tokens.", "rm_head.")
    rest = {name: tensor for name, tensor in tensors.items() if name.removeprefix(PEFT).startswith(trained)}
    save_file(lora, checkpoint(folder) / "adapter_model.safetensors")
    torch.save(rest, checkpoint(folder) / "non_lora_state_dict.pth")
    (checkpoint(folder) / "model.pth").unlink()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_adapter_form_on_its_base_scores_as_the_whole_one(folder: Path, dtype: str) -> None:
    whole = load(folder, dtype=dtype)
    as_adapter(folder)
    adapter = load(folder, dtype=dtype)
    assert score(adapter) == score(whole)
    assert "base/model-00003-of-00004.safetensors" in adapter.files and len(adapter.files) == 9


def test_a_whole_checkpoint_needs_no_weights_of_the_base(folder: Path) -> None:
    wanted = score(load(folder))
    for file in (folder / "base").glob("model*"):
        file.unlink()
    assert score(load(folder)) == wanted
    as_adapter(folder)
    with pytest.raises(InputError, match=r"reward.base: .* has no model.safetensors; fetch it from Qwen/Qwen2-VL-2B"):
        load(folder)


def test_the_newest_checkpoint_by_number_counts(folder: Path) -> None:
    wanted = score(load(folder))
    older = folder / "VideoReward" / "checkpoint-999"
    shutil.copytree(checkpoint(folder), older)
    (older / "model.pth").write_bytes(b"damaged")
    assert score(load(folder)) == wanted


@pytest.mark.parametrize("prefix", ["", PEFT])
def test_names_before_and_after_transformers_renamed_them_are_the_same(folder: Path, prefix: str) -> None:
    wanted = score(load(folder))

    def rename(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            new = name.removeprefix(PEFT)
            if new.startswith(("visual.", "model.")):
                new = network_name(new)
            tensors[prefix + new] = tensors.pop(name)

    change_weights(folder, rename)
    assert score(load(folder)) == wanted


def test_stored_names_are_the_inverse_of_the_networks() -> None:
    tensors = torch.load(checkpoint(GOLDEN) / "model.pth", weights_only=True)
    plain = {name for name in tensors if ".lora_" not in name and "lm_head" not in name}
    found = StoredWeights.of(tensors).weights
    assert {stored_name(name) for name in found} == {name.replace(".base_layer", "") for name in plain}


def test_a_head_row_per_dimension_is_read_by_dimension(folder: Path) -> None:
    wanted = score(load(folder))

    def widen(tensors: dict[str, Tensor]) -> None:
        tensors[f"{PEFT}rm_head.weight"] = (
            tensors[f"{PEFT}rm_head.weight"] * torch.tensor([[1.0], [2.0], [0.5]]).bfloat16()
        )

    change_weights(folder, widen)
    change_config(folder, "model_config", output_dim=3)
    assert score(load(folder)) == pytest.approx([wanted[0], 2 * wanted[1], wanted[2] / 2], rel=1e-5)


def test_without_constants_scores_stay_raw(folder: Path) -> None:
    file = folder / "VideoReward" / "model_config.json"
    content = json.loads(file.read_text())
    del content["inference_config"]
    file.write_text(json.dumps(content))
    assert load(folder).own_scale is None


def test_rank_stabilised_lora_has_its_own_strength(folder: Path) -> None:
    change_config(folder, "peft_lora_config", use_rslora=True, lora_alpha=4)  # 4 / sqrt(4) = 8 / 4
    assert score(load(folder)) == score(load_unchanged(folder))


def test_an_adapter_that_lacks_one_side_is_refused(folder: Path) -> None:
    as_adapter(folder)
    tensors = load_file(checkpoint(folder) / "adapter_model.safetensors")
    del tensors[f"{PEFT}{Q_PROJ}.lora_B.weight"]
    save_file(tensors, checkpoint(folder) / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"of model.language_model.layers.0.self_attn.q_proj.lora_A and lora_B one is"):
        load(folder)


def test_a_model_without_lora_loads(folder: Path) -> None:
    change_config(folder, "peft_lora_config", lora_alpha=1e-30)
    wanted = score(load(folder))

    def unwrap(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensor = tensors.pop(name)
            if ".lora_" not in name:
                tensors[name.removeprefix(PEFT).replace(".base_layer", "")] = tensor

    change_weights(folder, unwrap)
    change_config(folder, "peft_lora_config", lora_enable=False)
    assert score(load(folder)) == wanted


def load_unchanged(folder: Path) -> VideoReward:
    change_config(folder, "peft_lora_config", use_rslora=False, lora_alpha=8)
    return load(folder)


def put(name: str, tensor: Tensor) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.update({PEFT + name: tensor})


def drop(*names: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: [tensors.pop(PEFT + name) for name in names]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("rm_head.weight", torch.zeros(2, 64)), r"rm_head.weight is \(2, 64\), and model_config.json .* \(1, 64\)"),
        (put("rm_head.weight", torch.zeros(1, 32)), r"rm_head.weight is \(1, 32\), .* \(1, 64\)"),
        (put("extra.weight", torch.zeros(2)), r"1 unexpected weights: base_model.model.extra.weight"),
        (
            put("model.layers.7.self_attn.q_proj.lora_A.default.weight", torch.zeros(4, 64)),
            "1 unexpected weights: base_model.model.model.layers.7.self_attn.q_proj.lora_A.default.weight",
        ),
        (
            drop("model.norm.weight", "visual.merger.ln_q.bias"),
            "2 weights are missing: base_model.model.model.norm.weight, base_model.model.visual.merger.ln_q.bias",
        ),
        (drop("model.embed_tokens.weight"), "1 weights are missing: base_model.model.model.embed_tokens.weight"),
        (drop(f"{Q_PROJ}.lora_A.default.weight"), f"1 weights are missing: {PEFT}{Q_PROJ}.lora_A.default.weight"),
        (
            drop(f"{Q_PROJ}.lora_A.default.weight", f"{Q_PROJ}.lora_B.default.weight"),
            f"2 weights are missing: {PEFT}{Q_PROJ}.lora_A.default.weight, {PEFT}{Q_PROJ}.lora_B.default.weight",
        ),
        (put(f"{Q_PROJ}.lora_A.default.weight", torch.zeros(8, 64)), "model_config.json says lora_r 4"),
        (
            put(f"{Q_PROJ}.lora_A.default.weight", torch.zeros(4, 63)),
            r"q_proj.weight is \(64, 63\), expected \(64, 64\)",
        ),
        (put("model.norm.weight", torch.zeros(65)), r"norm.weight is \(65,\), expected \(64,\)"),
        (put("model.norm.weight", torch.full((64,), float("nan"))), "norm.weight holds numbers that are not finite"),
        (
            put(f"{Q_PROJ}.lora_B.default.weight", torch.full((64, 4), float("inf"))),
            "q_proj.* holds numbers that are not finite",
        ),
        (put("model.embed_tokens.weight", torch.zeros(456, 64)), "embeds 456 tokens, and its tokenizer has 457"),
        (put("model.visual.merger.ln_q.bias", torch.zeros(32)), "are the same weight; keep one of them"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_do_not_fit_are_refused_by_name(
    folder: Path, change: Callable[[dict[str, Tensor]], object], message: str, dtype: str
) -> None:
    change_weights(folder, change)
    with pytest.raises(InputError, match=message):
        load(folder, dtype=dtype)


@pytest.mark.parametrize(
    ("block", "values", "message"),
    [
        ("model_config", {"output_dim": 2}, "output_dim is 2"),
        (
            "model_config",
            {"reward_token": "mean"},
            r"model_config.json: model_config.reward_token: .*'special' or 'last'",
        ),
        ("data_config", {"prompt_template_type": "detailed"}, "prompt_template_type is 'detailed'; known: detailed_sp"),
        ("data_config", {"sample_type": "multi_pts"}, "data_config.sample_type: Input should be 'uniform'"),
        ("data_config", {"eval_dim": ["VQ"]}, "eval_dim is VQ; expected VQ, MQ, TA"),
        ("data_config", {"fps": 0}, "data_config.fps: Input should be greater than 0"),
        ("peft_lora_config", {"lora_enable": False}, "holds LoRA weights, and .* says lora_enable False"),
        ("inference_config", {"MQ_std": 0}, "inference_config.MQ_std is 0"),
        ("inference_config", {"TA_mean": "x"}, "inference_config.TA_mean: Input should be a valid number"),
    ],
)
def test_settings_that_are_not_known_are_refused(
    folder: Path, block: str, values: dict[str, Any], message: str
) -> None:
    change_config(folder, block, **values)
    with pytest.raises(InputError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            "VideoReward/model_config.json",
            "fetch it from KwaiVGI/VideoReward: hf download KwaiVGI/VideoReward model_config",
        ),
        (
            "VideoReward/checkpoint-11352/model.pth",
            "has neither model.pth nor .*hf download KwaiVGI/VideoReward checkpoint-",
        ),
        ("VideoReward/checkpoint-11352/tokenizer/tokenizer.json", "tokenizer.json is missing"),
        ("base/config.json", r"reward.base: .* has no config.json; fetch it from Qwen/Qwen2-VL-2B-Instruct"),
        ("base/model-00002-of-00004.safetensors", "names model-00002-of-00004.safetensors, which is missing; fetch"),
    ],
)
def test_a_missing_file_is_named_with_where_to_fetch_it(folder: Path, missing: str, message: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(InputError, match=message):
        load(folder)


def test_a_model_without_checkpoints_is_refused(folder: Path) -> None:
    shutil.rmtree(checkpoint(folder))
    with pytest.raises(InputError, match="has no folder checkpoint-<n>; fetch it from KwaiVGI/VideoReward"):
        load(folder)


def test_a_tokenizer_without_the_reward_tokens_is_refused(folder: Path) -> None:
    shutil.copy(folder / "base" / "tokenizer.json", checkpoint(folder) / "tokenizer" / "tokenizer.json")
    with pytest.raises(InputError, match=r"has no token <\|VQ_reward\|>"):
        load(folder)


def test_no_base_is_looked_for_on_the_network_unless_it_was_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"reward.base is not given; name a folder with Qwen/Qwen2-VL-2B-Instruct"):
        load(folder, base=None)


def test_another_models_base_is_refused(folder: Path) -> None:
    content = json.loads((folder / "base" / "config.json").read_text())
    (folder / "base" / "config.json").write_text(json.dumps(content | {"model_type": "llama"}))
    with pytest.raises(InputError, match="is of a llama; VideoReward's base is a qwen2_vl"):
        load(folder)


def test_a_padded_table_of_the_base_is_cut_and_a_short_one_filled(folder: Path) -> None:
    from policies.rewards.published import PublishedFolder
    from policies.rewards.videoreward.checkpoint import EMBEDDING, base_weights

    base = PublishedFolder(path=folder / "base", setting="reward.base", repository="a/b", revision=None)
    rows = load_file(folder / "base" / "model-00003-of-00004.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(base_weights(base, vocabulary=457)[EMBEDDING], rows[:457])
    longer = base_weights(base, vocabulary=514)[EMBEDDING]
    assert torch.equal(longer[:512], rows)
    torch.testing.assert_close(longer[513].float(), rows.float().mean(0), atol=1e-3, rtol=0.01)


def test_a_hub_id_brings_the_base_that_its_file_names(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for repository, content in ("KwaiVGI/VideoReward", "VideoReward"), ("Qwen/Qwen2-VL-2B-Instruct", "base"):
        cached = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        shutil.copytree(folder / content, cached / "snapshots" / ("a" * 40))
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    from_hub = VideoReward.load(VideoRewardConfig(path="KwaiVGI/VideoReward"), "cpu")
    assert from_hub.files == load(folder).files and score(from_hub) == score(load(folder))
    with pytest.raises(InputError, match="there is no folder 'KwaiVGI/Other', and the hub does not give"):
        VideoReward.load(VideoRewardConfig(path="KwaiVGI/Other"), "cpu")
