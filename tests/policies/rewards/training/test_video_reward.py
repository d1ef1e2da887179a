"""VideoReward while it is trained: what is trained, and that what is saved is what VideoReward loads."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from policies.config import VideoRewardConfig
from policies.rewards.frames import read_clip
from policies.rewards.training.run import train_video_reward
from policies.rewards.training.video_reward import VideoRewardTrainee
from policies.rewards.videoreward.model import VideoReward
from tests.policies.rewards.training import toy

LAST = {"model": {"reward_token": "last", "prompt_template": "short"}}


def trainee(folder: Path, **changes: Any) -> VideoRewardTrainee:
    return VideoRewardTrainee.load(toy.config(folder, **changes))


def inputs(model: VideoRewardTrainee | VideoReward, folder: Path) -> list[Any]:
    clips = [read_clip(folder / f"{number}.mp4") for number in range(3)]
    return [model.prepare(clip.frames_FHWC, f"prompt {n}", clip.fps) for n, clip in enumerate(clips)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clips")
    toy.write_clips(made)
    toy.write_pairs(made)
    return made


def test_by_default_lora_vision_merger_head_and_the_rows_of_reward_tokens_are_trained(folder: Path) -> None:
    made = trainee(folder, optimizer={"learning_rate": 1e-3, "merger_learning_rate": 2e-3})
    groups = {group.name: group for group in made.weight_groups()}
    assert list(groups) == ["head", "llm", "vision", "merger", "embeddings"]
    assert len(groups["llm"].weights) == 2 * 7 * 2  # two layers of seven linears, A and B
    assert all("lora" in name for name in groups["llm"].weights)
    assert [weight.shape for weight in groups["embeddings"].weights.values()] == [(3, 64)]
    assert all("merger" in name for name in groups["merger"].weights)
    assert not any("merger" in name for name in groups["vision"].weights)
    assert (groups["llm"].lr, groups["head"].lr, groups["merger"].lr) == (1e-3, 1e-3, 2e-3)


def test_other_choices_train_other_weights(folder: Path) -> None:
    tune = {"llm": "full", "vision": False, "embeddings": "all"}
    groups = {group.name: group for group in trainee(folder, tune=tune).weight_groups()}
    assert list(groups) == ["head", "llm", "merger", "embeddings"]
    assert any(name.endswith("norm.weight") for name in groups["llm"].weights)
    assert all(weight.shape[0] > 400 for weight in groups["embeddings"].weights.values())
    frozen = trainee(folder, tune={"llm": "frozen", "vision": False, "merger": False, "embeddings": "frozen"})
    assert [group.name for group in frozen.weight_groups()] == ["head"]


def test_muon_takes_matrices_between_features_only(folder: Path) -> None:
    groups = trainee(folder, optimizer={"type": "muon"}, tune={"llm": "full", "embeddings": "all"}).weight_groups()
    muon = [name for group in groups if group.is_muon for name in group.weights]
    assert muon
    assert not [name for name in muon if "embed" in name or "rm_head" in name or "norm" in name]
    assert {group.name for group in groups if not group.is_muon} >= {"head", "embeddings", "vision"}


def test_what_is_trained_is_float32_beside_a_bfloat16_base(folder: Path) -> None:
    made = trainee(folder, model={"dtype": "bfloat16"})
    assert {w.dtype for group in made.weight_groups() for w in group.weights.values()} == {torch.float32}
    assert made.network.model.language_model.norm.weight.dtype == torch.bfloat16
    scores = made.score(inputs(made, folder))
    assert scores.dtype == torch.float32
    scores.sum().backward()
    assert all(w.grad is not None for group in made.weight_groups() for w in group.weights.values())


def test_scores_with_and_without_a_graph_agree_and_measuring_uses_no_dropout(folder: Path) -> None:
    made = trainee(folder, tune={"lora": {"rank": 4, "alpha": 8, "dropout": 0.5}})
    for name, weight in made.network.named_parameters():
        if name.endswith("lora_b"):
            torch.nn.init.normal_(weight)
    videos = inputs(made, folder)
    assert torch.equal(made.measure(videos), made.measure(videos))
    assert not torch.equal(made.score(videos), made.score(videos))


def test_recomputing_activations_gives_the_same_gradient(folder: Path) -> None:
    found = []
    for checkpointing in (False, True):
        made = trainee(folder, model={"gradient_checkpointing": checkpointing})
        torch.manual_seed(0)  # dropout
        made.score(inputs(made, folder)).sum().backward()
        found.append({n: w.grad for group in made.weight_groups() for n, w in group.weights.items()})
    plain, recomputed = found
    assert all(torch.allclose(gradient, recomputed[name], atol=1e-6) for name, gradient in plain.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tune": {"llm": "full", "embeddings": "all"}},
        {"model": {"output_dim": 3}},
        LAST,
        {"model": {"frames": "all"}, "loss": {"type": "bt"}},
    ],
    ids=["lora", "full", "rows", "last", "all-frames"],
)
def test_videoreward_loads_what_was_trained_and_gives_equal_scores(
    folder: Path, tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[VideoRewardTrainee] = []
    load = VideoRewardTrainee.load
    monkeypatch.setattr(VideoRewardTrainee, "load", lambda config: trained.append(load(config)) or trained[0])
    config = toy.config(folder, output_dir=str(tmp_path / "out"), **changes)
    train_video_reward(config, toy.Recorder())

    loaded = VideoReward.load(VideoRewardConfig(path=str(tmp_path / "out"), base=str(toy.BASE)), "cpu")
    expected = trained[0].measure(inputs(trained[0], folder))
    scores = loaded.score(inputs(loaded, folder))
    assert (scores - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (scores - load(config).measure(inputs(trained[0], folder))).abs().max() > 1e-3  # it did learn
    assert loaded.own_scale is not None


def test_weights_are_stored_under_the_published_names(folder: Path, tmp_path: Path) -> None:
    published = torch.load(  # the reference's own file
        toy.goldens.FOLDER / "videoreward" / "VideoReward" / "checkpoint-11352" / "model.pth", weights_only=True
    )
    trainee(folder).save(tmp_path / "saved")
    stored = load_file(tmp_path / "saved" / "model.safetensors")
    # the language head is stored with the published model and read by nothing
    assert set(published) - set(stored) == {"base_model.model.lm_head.weight"}
    assert set(stored) <= set(published)
    assert {name: tensor.shape for name, tensor in stored.items()} == {n: published[n].shape for n in stored}


def test_the_scale_makes_scores_of_training_videos_standard(folder: Path, tmp_path: Path) -> None:
    train_video_reward(toy.config(folder, output_dir=str(tmp_path / "out"), data={"heldout_share": 0}), toy.Recorder())
    loaded = VideoReward.load(VideoRewardConfig(path=str(tmp_path / "out"), base=str(toy.BASE)), "cpu")
    seen = {(row[side], row[2]) for row in toy.ROWS for side in (0, 1)}
    clips = [(read_clip(folder / path), prompt) for path, prompt in sorted(seen)]
    scores = loaded.score([loaded.prepare(clip.frames_FHWC, prompt, clip.fps) for clip, prompt in clips])
    assert loaded.own_scale is not None
    for index, name in enumerate(loaded.dimensions):
        scaled = (scores[:, index] - loaded.own_scale.mean[name]) / loaded.own_scale.std[name]
        assert float(scaled.mean()) == pytest.approx(0, abs=1e-4)
        assert float(scaled.std()) == pytest.approx(1, abs=1e-4)


def test_a_base_whose_weights_are_not_those_of_its_config_is_refused(folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for file in toy.BASE.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    config = base / "config.json"
    config.write_text(config.read_text().replace('"intermediate_size": 96', '"intermediate_size": 80'))
    with pytest.raises(ValueError, match=r"model\.base: the weights in .* do not fit its config\.json: .*mlp"):
        trainee(folder, model={"base": str(base)})
