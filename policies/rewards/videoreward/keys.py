"""Names of weights in VideoReward's files, which are those of peft around an older transformers, and in the network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from policies.errors import InputError

_PEFT = "base_model.model."
_LORA = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])(\.default)?\.weight")
_UNUSED = ("lm_head.weight",)  # stored with the published model, read by nothing that scores

_PREFIXES = (
    ("model.visual.", "model.visual."),
    ("model.language_model.", "model.language_model."),
    ("language_model.", "model.language_model."),
    ("visual.", "model.visual."),
    ("model.", "model.language_model."),
)
"""Stored and ours, the first that fits: transformers from 4.52 on, then before."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredWeights:
    """A checkpoint's tensors by the network's names; LoRA's as `<layer>.lora_A` and `<layer>.lora_B`."""

    weights: dict[str, Tensor]
    lora: dict[str, Tensor]
    names: dict[str, str]
    """Theirs in the file."""

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> StoredWeights:
        """Sorts a file's tensors; names that it does not know stay as they are.

        Raises:
            InputError: two tensors for one place.
        """
        found = cls(weights={}, lora={}, names={})
        for stored, tensor in tensors.items():
            name = stored.removeprefix(_PEFT)
            if name in _UNUSED:
                continue
            if match := _LORA.fullmatch(name):
                name = f"{network_name(match['layer'])}.lora_{match['side']}"
                found.lora[name] = tensor
            else:
                name = network_name(name.replace(".base_layer.", "."))
                found.weights[name] = tensor
            if name in found.names:
                raise InputError(f"{found.names[name]} and {stored} are the same weight; keep one of them")
            found.names[name] = stored
        return found


def network_name(stored: str) -> str:
    """The network's name of a weight or layer, from a file's name without peft's parts."""
    for old, new in _PREFIXES:
        if stored.startswith(old):
            return new + stored[len(old) :]
    return stored


def stored_name(name: str) -> str:
    """The published file's name of a weight of the network; the inverse of `network_name` after peft's prefix."""
    for old, new in (("visual.", "model.visual."), ("model.", "model.language_model.")):
        if name.startswith(new):
            return _PEFT + old + name[len(new) :]
    return _PEFT + name
