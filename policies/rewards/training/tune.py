"""What of a VideoReward is trained, and how fast."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from policies.rewards.training.config import RewardOptimizerConfig, TuneConfig
from policies.rewards.training.layers import TrainedLora, TrainedRows
from policies.rewards.training.optimizer import WeightGroup
from policies.rewards.videoreward.checkpoint import HEAD
from policies.rewards.videoreward.network import VideoRewardNetwork

LORA_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_VISION, _MERGER, _LLM = "model.visual.", "model.visual.merger.", "model.language_model."


def weight_groups(network: VideoRewardNetwork, settings: RewardOptimizerConfig) -> list[WeightGroup]:
    """Everything that is trained, by learning rate; with Muon, matrices between features apart."""
    rates = {
        "head": settings.learning_rate,
        "llm": settings.learning_rate,
        "vision": settings.vision_learning_rate,
        "merger": settings.merger_learning_rate,
        "embeddings": settings.embedding_learning_rate,
    }
    trained = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    groups = []
    for part, rate in rates.items():
        own = {name: weight for name, weight in trained.items() if _part_of(name) == part}
        inner = {n: w for n, w in own.items() if settings.type == "muon" and _is_inner(n, w)}
        rest = {n: w for n, w in own.items() if n not in inner}
        groups.append(WeightGroup(name=f"{part} (muon)", weights=inner, lr=rate, is_muon=True))
        groups.append(WeightGroup(name=part, weights=rest, lr=rate))
    return [group for group in groups if group.weights]


def choose_trained(network: VideoRewardNetwork, tune: TuneConfig, reward_tokens: Sequence[int], seed: int) -> None:
    """Freezes what is not trained, puts LoRA and trained rows in place, and makes what is trained float32.

    Args:
        reward_tokens: ids of the tokens at which scores are read; none with the last token.
        seed: of LoRA.
    """
    network.requires_grad_(False)
    for name, weight in network.named_parameters():
        weight.requires_grad_(
            {
                "head": True,
                "vision": tune.vision,
                "merger": tune.merger,
                "llm": tune.llm == "full",
                "embeddings": tune.embeddings == "all",
            }[_part_of(name)]
        )
    if tune.llm == "lora":
        for name, layer in list(network.named_modules()):
            if name.startswith(_LLM) and name.rpartition(".")[2] in LORA_LAYERS:
                assert isinstance(layer, nn.Linear), name
                lora = tune.lora
                network.set_submodule(
                    name,
                    TrainedLora(layer, rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout, seed=seed, name=name),
                )
    if tune.embeddings == "reward_tokens" and reward_tokens:
        language_model = network.model.language_model
        language_model.embed_tokens = TrainedRows(language_model.embed_tokens, reward_tokens)
    for weight in network.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def _part_of(name: str) -> str:
    if name == HEAD:
        return "head"
    if name.startswith(_MERGER):
        return "merger"
    if name.startswith(_VISION):
        return "vision"
    return "embeddings" if "embed_tokens" in name else "llm"


def _is_inner(name: str, weight: Tensor) -> bool:
    """Weights between features: not those at the pixels, of tokens, or of the head."""
    return weight.dim() >= 2 and "patch_embed" not in name and _part_of(name) not in ("embeddings", "head")
