"""Named LoRA weight sets on one frozen transformer: the policy, its reference and what candidates are drawn from.

A weight set is a peft adapter. This module owns the traps of having several: peft's `set_adapter` turns off the
gradients of every other adapter (a backward after a switch then finds nothing to fill, without an error), target names
that match nothing add no parameter and say nothing, and a LoRA saved without its alpha comes back with another
strength.
"""

from __future__ import annotations

import difflib
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import peft
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import save
from torch import Tensor, nn

from policies.errors import InputError, WeightsMismatchError
from policies.seeds import seed_for

LORA_FILE = "pytorch_lora_weights.safetensors"  # the name diffusers' `load_lora_weights` looks for
_METADATA_KEY = "lora_adapter_metadata"  # the header entry from which diffusers rebuilds rank and alpha
_PREFIX = "transformer."  # under which every diffusers pipeline looks for its transformer's LoRA


class LoraWeightSets:
    """Weight sets of equal rank, alpha and targets on one model, which is frozen and put in eval mode here.

    All sets start as the same LoRA: A drawn from the seed by name, B zero, so that every set equals the base.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        targets: Sequence[str],
        rank: int,
        alpha: float,
        seed: int,
        weight_sets: Sequence[str],
    ) -> None:
        """Adds the adapters.

        Args:
            model: a diffusers transformer; LoRA lands on its device, in float32 whatever its own precision.
            targets: endings of module names, such as `attn1.to_q`; each must match a linear layer.
            rank: columns of every A and rows of every B.
            alpha: the update is scaled by alpha / rank.
            seed: of the A matrices.
            weight_sets: names, the one in use first; `policy` is the trainable one.
        Raises:
            InputError: a target matches no linear layer.
        """
        self.weight_sets = tuple(weight_sets)
        self._config = {"r": rank, "lora_alpha": alpha, "target_modules": sorted(targets), "lora_dropout": 0.0}
        names = _matching_layers(model, targets)
        model.requires_grad_(False).eval()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several adapters are the point
            for which in self.weight_sets:
                config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, lora_dropout=0.0)
                peft.inject_adapter_in_model(config, model, which)
        self._layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
        assert sorted(self._layers) == sorted(names), "peft put LoRA elsewhere than asked"
        self._parameters = {which: self._collect(which) for which in self.weight_sets}
        self._initialise(seed)
        self._in_use: str | None = self.weight_sets[0]
        self._switch(self._in_use)

    def _collect(self, which: str) -> dict[str, nn.Parameter]:
        found = {}
        for name, layer in self._layers.items():
            found[f"{_PREFIX}{name}.lora_A.weight"] = layer.lora_A[which].weight
            found[f"{_PREFIX}{name}.lora_B.weight"] = layer.lora_B[which].weight
        return dict(sorted(found.items()))

    @torch.no_grad()
    def _initialise(self, seed: int) -> None:
        """The usual start (Hu et al. 2021): A uniform in +-1/sqrt(fan in), B zero; drawn on CPU, by name."""
        for parameters in self._parameters.values():
            for name, parameter in parameters.items():
                parameter.data = parameter.data.float()  # peft takes the base's precision
                if name.endswith("lora_B.weight"):
                    parameter.zero_()
                    continue
                rng = torch.Generator().manual_seed(seed_for("lora", seed, name))
                bound = 1 / math.sqrt(parameter[0].numel())
                parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=rng))

    @contextmanager
    def use(self, which: str | None) -> Iterator[None]:
        """Within the block, forwards use this set (None: the base alone); see `VideoPolicy.use`."""
        previous = self._in_use
        self._switch(which)
        try:
            yield
        finally:
            self._switch(previous)

    def _switch(self, which: str | None) -> None:
        if which is not None:
            self._of(which)
        for layer in self._layers.values():
            if which is None:
                layer.enable_adapters(False)
            else:
                if layer.disable_adapters:
                    layer.enable_adapters(True)
                layer.set_adapter(which, inference_mode=True)
        self._in_use = which
        # peft has now switched off every gradient. The policy's stay on whatever is in use, so that a backward
        # that comes after a switch still finds its leaves.
        for parameter in self._parameters.get("policy", {}).values():
            parameter.requires_grad_(True)

    def _of(self, which: str) -> dict[str, nn.Parameter]:
        if which not in self._parameters:
            raise ValueError(f"weight set '{which}' was not loaded; there are {', '.join(self.weight_sets)}")
        return self._parameters[which]

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters of `policy` by sorted name."""
        yield from self._of("policy").items()

    def export(self, which: str) -> dict[str, Tensor]:
        """A copy of a set by sorted name, float32 on CPU."""
        return {
            name: parameter.detach().to("cpu", torch.float32, copy=True) for name, parameter in self._of(which).items()
        }

    @torch.no_grad()
    def load(self, which: str, tensors: Mapping[str, Tensor]) -> None:
        """Copies tensors into a set in place; nothing is changed when they do not fit.

        Raises:
            WeightsMismatchError: unknown, missing or misshaped tensors.
        """
        parameters = self._of(which)
        if unknown := sorted(set(tensors) - set(parameters)):
            raise WeightsMismatchError(f"{len(unknown)} LoRA tensors fit no layer of this model, first: {unknown[0]}")
        if missing := sorted(set(parameters) - set(tensors)):
            raise WeightsMismatchError(f"{len(missing)} LoRA tensors are missing, first: {missing[0]}")
        for name, parameter in parameters.items():
            if tensors[name].shape != parameter.shape:
                raise WeightsMismatchError(
                    f"LoRA tensor {name} has shape {tuple(tensors[name].shape)}, this model's is "
                    f"{tuple(parameter.shape)}; was it trained with another rank?"
                )
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])

    @torch.no_grad()
    def blend(self, source: str, target: str, *, weight: float = 1.0) -> None:
        """target <- (1-weight) target + weight source, in place; 1 copies exactly."""
        from_source, to_target = self._of(source), self._of(target)
        for name, parameter in to_target.items():
            if weight == 1.0:
                parameter.copy_(from_source[name])
            else:
                parameter.lerp_(from_source[name], weight)

    def save(self, folder: Path, which: str, *, metadata: Mapping[str, str] | None = None) -> Path:
        """Writes a set as diffusers' `load_lora_weights` reads it, with rank and alpha; returns the file.

        Args:
            folder: created when missing.
            which: the weight set.
            metadata: further entries of the file's header.
        """
        lora = {f"{_PREFIX}{key}": value for key, value in self._config.items()}
        header = {"format": "pt", **(metadata or {}), _METADATA_KEY: json.dumps(lora, sort_keys=True)}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LORA_FILE).write_bytes(_with_sorted_header(save(self.export(which), metadata=header)))
        return folder / LORA_FILE


def _with_sorted_header(content: bytes) -> bytes:
    """The same safetensors with its metadata in sorted order: the library's own order varies from call to call, and
    equal weights should make equal files."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _matching_layers(model: nn.Module, targets: Sequence[str]) -> list[str]:
    """Names of the linear layers that LoRA goes to. Every target must match one: a typo would train less, silently."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    matches = {target: [name for name in linear if f".{name}".endswith(f".{target}")] for target in targets}
    for target, names in matches.items():
        if not names:
            endings = sorted({name.rpartition(".")[2] if not name[-1].isdigit() else _ending(name) for name in linear})
            near = difflib.get_close_matches(target, endings, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise InputError(
                f"LoRA target '{target}' matches no linear layer of {type(model).__name__}; {hint}"
                f"set policy.lora.targets to endings such as {', '.join(endings[:8])}"
            )
    if not matches:
        raise InputError("policy.lora.targets is empty; name at least one layer or leave it null for the default")
    return sorted({name for names in matches.values() for name in names})


def _ending(name: str) -> str:
    """`blocks.0.attn1.to_out.0` -> `to_out.0`: a bare index says too little."""
    return ".".join(name.split(".")[-2:])
