"""Building the world's folders, with steps so few that nothing is learned."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from policies.shapes.build import SMOKE, build, progress_bars
from policies.shapes.gates import sample_plainly
from policies.shapes.prompts import TEST_PROMPTS
from policies.shapes.reward import ShapesRewardModel


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("all", tmp_path_factory.mktemp("built"), seed=3, settings=SMOKE)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.relative_to(folder)}:{name}": tensor
        for path in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def test_the_policy_is_a_folder_that_the_pipeline_loads_alone(built: Path) -> None:
    from diffusers import WanPipeline

    pipeline = WanPipeline.from_pretrained(built / "policy")
    pipeline.set_progress_bar_config(disable=True)
    clips = sample_plainly(pipeline, TEST_PROMPTS[:2], seed=0)
    assert clips.shape == (2, 9, 32, 32, 3)


def test_the_reward_is_a_folder_of_its_own_with_a_tokenizer(built: Path) -> None:
    model = ShapesRewardModel.from_pretrained(built / "reward")
    assert model.score_frames(torch.rand(1, 9, 32, 32, 3), TEST_PROMPTS[:1]).isfinite().all()
    assert (built / "reward" / "tokenizer.json").is_file()


def test_readmes_say_what_to_pass(built: Path) -> None:
    policy = (built / "policy" / "README.md").read_text()
    assert "guidance_scale=1.0" in policy
    assert "32x32, 9 frames" in policy
    assert "--seed 3" in policy


def test_no_file_names_the_folder_it_was_built_in(built: Path) -> None:
    texts = [path.read_text() for path in built.rglob("*") if path.suffix in (".json", ".md")]
    assert len(texts) > 8
    assert not any(str(built) in text for text in texts)


def test_no_file_can_hold_code_and_none_is_left_over(built: Path) -> None:
    files = [path for path in built.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}
    assert sorted(path.name for path in built.iterdir()) == ["policy", "reward"]


def test_the_same_seed_builds_the_same_weights_and_another_does_not(built: Path, tmp_path: Path) -> None:
    again = weights(build("all", tmp_path / "again", seed=3, settings=SMOKE))
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights(built).items())
    other = weights(build("vae", tmp_path / "other", seed=4, settings=SMOKE))
    assert not all(torch.equal(tensor, again[f"policy/vae/{name}"]) for name, tensor in other.items())


def test_a_rebuilt_stage_takes_the_place_of_the_old_one(built: Path, tmp_path: Path) -> None:
    folder = build("text", tmp_path, seed=1, settings=SMOKE)
    before = weights(folder)
    build("text", tmp_path, seed=2, settings=SMOKE)
    assert not all(torch.equal(tensor, before[name]) for name, tensor in weights(folder).items() if tensor.dim() == 2)
    assert sorted(path.name for path in (tmp_path / "policy").iterdir()) == ["text_encoder", "tokenizer"]


@pytest.mark.parametrize(("stage", "missing"), [("policy", "'vae'"), ("reward", "'vae'")])
def test_a_stage_without_the_earlier_ones_says_which_is_missing(tmp_path: Path, stage: str, missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        build(stage, tmp_path, settings=SMOKE)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_stage_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="vae, text, policy, reward, all"):
        build("scheduler", tmp_path)


def test_progress_counts_every_training_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as progress:
        build("vae", tmp_path, settings=SMOKE, progress=progress)
    assert "2/2" in capsys.readouterr().err
