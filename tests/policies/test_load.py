"""Loading: what works, and one clear error for each thing that does not."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from policies.config import LoraConfig, PolicyConfig
from policies.errors import InputError
from policies.load import load_policy
from tests.policies.families import tiny

Folder = Callable[[str], Path]
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tiny_folder: Folder, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_folder("wan"), tmp_path / "model"))


def load(path: Path | str, **options: object) -> None:
    load_policy(PolicyConfig.model_validate({"path": str(path), "lora": {"rank": 2, "alpha": 2}, **options}), seed=0)


def edit_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def edit_tensors(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def make_nan(tensors: dict[str, torch.Tensor]) -> None:
    next(iter(tensors.values())).view(-1)[0] = float("nan")


# -- what works --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("family", "expected"), [("wan", "wan"), ("cogvideox", "cogvideox"), ("cogvideox-rotary", "cogvideox")]
)
def test_the_family_follows_from_the_folder(family: str, expected: str, tiny_folder: Folder) -> None:
    policy = tiny.load(tiny_folder(family))
    assert policy.family == expected and policy.device == torch.device("cpu") and policy.dtype == torch.float32
    assert policy.weight_sets == ("policy", "reference", "behaviour")


def test_default_targets_of_wan_are_attention_and_feed_forward(tiny_folder: Folder) -> None:
    names = {name.split(".blocks.")[1] for name, _ in tiny.load(tiny_folder("wan")).trainable() if "lora_A" in name}
    layers = {name.partition(".")[2].removesuffix(".lora_A.weight") for name in names}
    attention = {f"attn{i}.{layer}" for i in (1, 2) for layer in ("to_q", "to_k", "to_v", "to_out.0")}
    assert layers == attention | {"ffn.net.0.proj", "ffn.net.2"} and len(names) == 2 * len(layers)


def test_default_targets_of_cogvideox_are_attention(tiny_folder: Folder) -> None:
    names = {name for name, _ in tiny.load(tiny_folder("cogvideox")).trainable() if "lora_A" in name}
    assert len(names) == 2 * 4 and all(".attn1.to_" in name for name in names)


def test_targets_rank_and_alpha_come_from_the_config(tiny_folder: Folder) -> None:
    config = PolicyConfig(path=str(tiny_folder("wan")), lora=LoraConfig(rank=3, alpha=1, targets=("attn2.to_v",)))
    tensors = load_policy(config, seed=0).export("policy")
    assert len(tensors) == 2 * 2 and all("attn2.to_v" in name for name in tensors)
    assert {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name} == {3}


def test_only_the_weight_sets_that_are_asked_for_are_made(tiny_folder: Folder) -> None:
    policy = tiny.load(tiny_folder("wan"), weight_sets=("behaviour",))
    per_set = len(policy.export("behaviour"))
    assert sum("lora_" in name for name, _ in policy.transformer.named_parameters()) == per_set


def test_gradient_checkpointing_comes_from_the_config(tiny_folder: Folder) -> None:
    assert tiny.load(tiny_folder("wan"), gradient_checkpointing=True).transformer.is_gradient_checkpointing
    assert not tiny.load(tiny_folder("wan")).transformer.is_gradient_checkpointing


def test_sharded_weights_load(folder: Path, tiny_folder: Folder) -> None:
    file = folder / "transformer" / WEIGHTS
    tensors, names = load_file(file), sorted(load_file(file))
    shards = {name: f"diffusion_pytorch_model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for shard in set(shards.values()):
        save_file(
            {name: tensors[name] for name in names if shards[name] == shard}, file.parent / shard, {"format": "pt"}
        )
    index = {"metadata": {"total_size": sum(t.numel() * 4 for t in tensors.values())}, "weight_map": shards}
    (file.parent / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    file.unlink()
    found, expected = tiny.load(folder), tiny.load(tiny_folder("wan"))
    x, t = torch.randn(1, *found.latent_shape(tiny.SHAPES["wan"])), torch.tensor([500.0])
    text = found.embed(["a"], max_sequence_length=8)
    with torch.no_grad():
        # not to the last bit: where a weight lies in memory decides which instructions add it up
        torch.testing.assert_close(found.predict(x, t, text), expected.predict(x, t, text))
    (file.parent / next(iter(shards.values()))).unlink()
    with pytest.raises(InputError, match="which is missing"):
        load(folder)


# -- what does not -----------------------------------------------------------------------------------------------------
def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", "./nowhere", "nowhere", tmp_path / "a" / "b"):
        with pytest.raises(InputError, match=r"nowhere|a/b"):
            load(path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="not a folder"):
        load(tmp_path / "file")


def test_a_hub_repository_that_cannot_be_had_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="no folder 'nobody/nothing', and the hub"):
        load("nobody/nothing")


@pytest.mark.parametrize("component", ["transformer", "vae", "scheduler", "tokenizer", "text_encoder"])
def test_a_missing_component_is_named(folder: Path, component: str) -> None:
    shutil.rmtree(folder / component)
    with pytest.raises(InputError, match=f"'{component}' is missing"):
        load(folder)


def test_a_missing_index_or_one_without_a_class_is_refused(folder: Path) -> None:
    (folder / "model_index.json").write_text("{}")
    with pytest.raises(InputError, match="_class_name"):
        load(folder)
    (folder / "model_index.json").write_text("no json")
    with pytest.raises(InputError, match="JSON"):
        load(folder)
    (folder / "model_index.json").unlink()
    with pytest.raises(InputError, match="diffusers layout"):
        load(folder)


def test_another_pipeline_is_refused_with_the_supported_ones(folder: Path) -> None:
    edit_json(folder / "model_index.json", _class_name="MochiPipeline")
    with pytest.raises(InputError, match="MochiPipeline; supported pipelines: WanPipeline, CogVideoXPipeline"):
        load(folder)


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder"])
@pytest.mark.parametrize("suffix", [".bin", ".pt", ".ckpt"])
def test_a_pickle_where_safetensors_belongs_is_refused_unread(folder: Path, component: str, suffix: str) -> None:
    (file,) = (folder / component).glob("*.safetensors")
    file.rename(file.with_suffix(suffix))
    with pytest.raises(InputError, match=f"{component}: .*{suffix} is a pickle"):
        load(folder)


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder"])
def test_a_pickle_with_the_name_of_safetensors_is_refused_unread(folder: Path, component: str) -> None:
    (file,) = (folder / component).glob("*.safetensors")
    file.write_bytes(pickle.dumps({"weight": [1.0]}))
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load(folder)


def test_a_truncated_file_is_refused(folder: Path) -> None:
    file = folder / "transformer" / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load(folder)


def test_weights_that_are_absent_are_said_so(folder: Path) -> None:
    (folder / "vae" / WEIGHTS).unlink()
    with pytest.raises(InputError, match="no weights"):
        load(folder)


@pytest.mark.parametrize("component", ["transformer", "vae"])
def test_weights_that_are_not_finite_are_refused(folder: Path, component: str) -> None:
    edit_tensors(folder / component / WEIGHTS, make_nan)
    with pytest.raises(InputError, match=f"{component}: the weight .* not finite"):
        load(folder)


def test_a_text_encoder_that_is_not_finite_is_refused_when_it_is_used(folder: Path) -> None:
    edit_tensors(
        folder / "text_encoder" / "model.safetensors", lambda tensors: [t.fill_(float("nan")) for t in tensors.values()]
    )
    with pytest.raises(InputError, match="not finite"):
        tiny.load(folder).embed(["a"], max_sequence_length=8)


def test_missing_unknown_and_misshaped_tensors_are_refused(folder: Path, tiny_folder: Folder) -> None:
    file, original = folder / "transformer" / WEIGHTS, tiny_folder("wan") / "transformer" / WEIGHTS
    name = "blocks.0.attn1.to_q.weight"
    for change, message in (
        (lambda tensors: tensors.pop(name), f"missing, first: {name}"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "no part of the model, first: extra"),
        (lambda tensors: tensors.update({name: torch.ones(2, 2)}), "cannot be loaded as a WanTransformer3DModel"),
    ):
        shutil.copy(original, file)
        edit_tensors(file, change)
        with pytest.raises(InputError, match=message):
            load(folder)


def test_a_noise_scheduler_of_another_kind_is_refused(folder: Path, tiny_folder: Folder, tmp_path: Path) -> None:
    edit_json(folder / "scheduler" / "scheduler_config.json", prediction_type="epsilon")
    with pytest.raises(InputError, match="prediction_type epsilon"):
        load(folder)
    edit_json(folder / "model_index.json", scheduler=["diffusers", "DDPMScheduler"])
    with pytest.raises(InputError, match="scheduler is a DDPMScheduler; supported: UniPC"):
        load(folder)
    cogvideox = Path(shutil.copytree(tiny_folder("cogvideox"), tmp_path / "cogvideox"))
    edit_json(cogvideox / "scheduler" / "scheduler_config.json", prediction_type="epsilon")
    with pytest.raises(InputError, match="prediction_type epsilon"):
        load(cogvideox)


def test_two_transformers_are_refused(folder: Path) -> None:
    edit_json(folder / "model_index.json", transformer_2=["diffusers", "WanTransformer3DModel"], boundary_ratio=0.875)
    with pytest.raises(InputError, match="two transformers"):
        load(folder)


def test_a_class_that_is_not_the_familys_is_refused(folder: Path) -> None:
    edit_json(folder / "model_index.json", text_encoder=["transformers", "AutoModelForCausalLM"])
    with pytest.raises(InputError, match="text_encoder is a AutoModelForCausalLM"):
        tiny.load(folder).embed(["a"], max_sequence_length=8)
    edit_json(folder / "model_index.json", vae=["somewhere", "Custom"])
    with pytest.raises(InputError, match="vae is a Custom"):
        load(folder)


@pytest.mark.parametrize(("options", "message"), [({"device": "cuda:99"}, "device"), ({"device": "abacus"}, "device")])
def test_a_device_that_is_not_there_is_refused(tiny_folder: Folder, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"policy.{message}"):
        load(tiny_folder("wan"), **options)


def test_a_lora_target_that_matches_nothing_is_refused(tiny_folder: Folder) -> None:
    with pytest.raises(InputError, match="'to_x' matches no linear layer of WanTransformer3DModel"):
        load(tiny_folder("wan"), lora={"rank": 2, "alpha": 2, "targets": ("to_q", "to_x")})
