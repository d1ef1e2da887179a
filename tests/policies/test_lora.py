from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from policies.errors import InputError
from policies.lora import LORA_FILE, LoraWeightSets


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ModuleDict({"to_q": nn.Linear(5, 4), "norm": nn.LayerNorm(5)}))


def weight_sets(
    module: nn.Module, *, targets: tuple[str, ...] = ("to_q",), names: tuple[str, ...] = ("policy", "reference")
) -> LoraWeightSets:
    return LoraWeightSets(module, targets=targets, rank=2, alpha=6.0, seed=3, weight_sets=names)


@pytest.mark.parametrize("target", ["to_qq", "q", "norm", "to_q.weight", "1"])
def test_a_target_that_matches_no_linear_layer_is_refused(target: str) -> None:
    with pytest.raises(InputError, match=f"'{target}' matches no linear layer of Sequential"):
        weight_sets(model(), targets=("to_q", target))


def test_a_near_miss_is_named() -> None:
    with pytest.raises(InputError, match="did you mean 'to_q'"):
        weight_sets(model(), targets=("to_qq",))


def test_no_targets_are_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        weight_sets(model(), targets=())


def test_only_the_targets_get_lora() -> None:
    module = model()
    names = [name for name, _ in weight_sets(module).trainable()]
    assert names == ["transformer.1.to_q.lora_A.weight", "transformer.1.to_q.lora_B.weight"]
    assert sum(p.requires_grad for p in module.parameters()) == 2


def test_the_update_is_scaled_by_alpha_over_rank() -> None:
    module = model()
    sets, layer, x = weight_sets(module), module[1]["to_q"], torch.randn(3, 5)
    a, b = torch.randn(2, 5), torch.randn(4, 2)
    sets.load("policy", {"transformer.1.to_q.lora_A.weight": a, "transformer.1.to_q.lora_B.weight": b})
    with sets.use(None):
        base = layer(x)
    torch.testing.assert_close(layer(x), base + 3.0 * x @ a.T @ b.T)


def test_a_policy_that_only_generates_has_nothing_trainable() -> None:
    module = model()
    sets = weight_sets(module, names=("behaviour",))
    with sets.use(None), sets.use("behaviour"):
        assert not any(parameter.requires_grad for parameter in module.parameters())
    with pytest.raises(ValueError, match="'policy' was not loaded; there are behaviour"):
        next(sets.trainable())


def test_the_global_random_state_is_left_alone_and_not_used() -> None:
    first_module, second_module = model(), model()
    torch.manual_seed(1)
    first = weight_sets(first_module)
    torch.manual_seed(2)
    second = weight_sets(second_module)
    assert all(torch.equal(t, second.export("policy")[name]) for name, t in first.export("policy").items())


def test_the_file_carries_rank_alpha_and_what_it_is_given(tmp_path: Path) -> None:
    file = weight_sets(model()).save(tmp_path / "new", "policy", metadata={"base": "a/b"})
    assert file == tmp_path / "new" / LORA_FILE
    with safe_open(file, framework="pt") as content:
        header = content.metadata()
    assert header["base"] == "a/b" and header["format"] == "pt"
    lora = json.loads(header["lora_adapter_metadata"])
    assert (lora["transformer.r"], lora["transformer.lora_alpha"]) == (2, 6.0)


def test_the_same_weights_make_the_same_file(tmp_path: Path) -> None:
    sets = weight_sets(model())
    files = [sets.save(tmp_path / str(i), "policy", metadata={"a": "1", "b": "2"}).read_bytes() for i in range(5)]
    assert len(set(files)) == 1
