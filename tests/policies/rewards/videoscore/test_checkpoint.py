"""Loading the published layouts, and one clear error for each way in which they can be wrong."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from policies.errors import InputError
from tests.policies.rewards import goldens
from tests.policies.rewards.videoscore.checkpoints import (
    IDEFICS2,
    change_json,
    change_weights,
    copy_idefics2,
    into_shards,
    load,
    write_qwen2_vl,
)

FRAMES = goldens.clip("clip_a").frames_FHWC[:1, ::2, ::2]


def score(folder: Path, **settings: str) -> torch.Tensor:
    model = load(folder, **settings)
    return model.score([model.prepare(FRAMES, "a ball", 10.0)])


def test_shards_and_other_precisions_on_disk_give_the_same_scores(tmp_path: Path) -> None:
    folder = copy_idefics2(tmp_path / "model")
    expected, rounded = score(IDEFICS2), score(IDEFICS2, dtype="bfloat16")
    weights = {name: weight.float() for name, weight in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    assert torch.equal(score(folder), expected) and torch.equal(score(folder, dtype="bfloat16"), rounded)
    names = into_shards(folder)
    assert torch.equal(score(folder), expected)
    assert set(names) <= load(folder).files.keys()


@pytest.mark.parametrize(
    ("name", "count"), [("VideoScore", 16), ("VideoScore-anno-only", 16), ("VideoScore-v1.1", 48), ("mine", 16)]
)
def test_the_number_of_frames_is_that_of_the_published_model(name: str, count: int, tmp_path: Path) -> None:
    folder = copy_idefics2(tmp_path / name)
    prepared = load(folder).prepare(FRAMES.repeat(50, axis=0), "a ball", 10.0)
    assert len(prepared.frames_FCHW) == count
    fewer = load(folder, max_frames=3).prepare(FRAMES.repeat(50, axis=0), "a ball", 10.0)
    assert len(fewer.frames_FCHW) == 3


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def lose_a_shard(folder: Path) -> None:
    (folder / into_shards(folder)[1]).unlink()


def rename_a_pickle(folder: Path) -> None:
    torch.save({}, folder / "model.safetensors")


def change_vision(folder: Path) -> None:
    file = folder / "config.json"
    vision = json.loads(file.read_text())["vision_config"]
    change_json(file, vision_config={**vision, "hidden_size": 32})


NAN = torch.full((64,), float("nan"))

SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncate, r"model\.safetensors is not a readable safetensors file"),
    "pickle": (rename_a_pickle, r"model\.safetensors is not a readable safetensors file"),
    "nan": (
        lambda folder: change_weights(folder, model__text_model__norm__weight=NAN),
        r"the weight model\.text_model\.norm\.weight holds numbers that are not finite",
    ),
    "missing shard": (
        lose_a_shard,
        r"index\.json names model-00002-of-00003\.safetensors, which is missing; fetch it from TIGER-Lab/VideoScore: "
        r"hf download TIGER-Lab/VideoScore model-00002-of-00003\.safetensors --local-dir",
    ),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        r"has neither model\.safetensors nor .* hf download TIGER-Lab/VideoScore --local-dir",
    ),
    "no config": (
        lambda folder: (folder / "config.json").unlink(),
        r"has no config\.json; fetch it from TIGER-Lab/VideoScore: hf download TIGER-Lab/VideoScore config\.json",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), r"has no tokenizer\.json; fetch it from"),
    "no preprocessor": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        r"has no preprocessor_config\.json; fetch it from",
    ),
    "wide head": (
        lambda folder: change_weights(folder, score__weight=torch.zeros(1, 64)),
        r"the head score\.weight is \(1, 64\), expected \(5, 64\)",
    ),
    "unexpected": (
        lambda folder: change_weights(folder, lm_head__weight=torch.zeros(424, 64), extra=torch.zeros(1)),
        r"2 unexpected weights: extra, lm_head\.weight",
    ),
    "missing": (
        lambda folder: change_weights(folder, score__bias=None),
        r"1 weights are missing: score\.bias",
    ),
    "other size": (change_vision, r"does not fit its config\.json: .*expected \(32,\)"),
    "other model": (
        lambda folder: change_json(folder / "config.json", model_type="llava"),
        r"config\.json is of a llava; VideoScore is an idefics2 or a qwen2_vl",
    ),
    "no decoder": (
        lambda folder: change_json(folder / "config.json", text_config=None),
        r"config\.json cannot be read as an Idefics2 config",
    ),
    "other decoder": (
        lambda folder: change_json(folder / "config.json", text_config={"model_type": "llama"}),
        r"text_config is of a llama; VideoScore's is a mistral",
    ),
    "other image token": (
        lambda folder: change_json(folder / "config.json", image_token_id=5),
        r"tokenizer\.json has <image> as 422, and config\.json says image_token_id 5",
    ),
    "other tokens per frame": (
        lambda folder: change_json(folder / "processor_config.json", image_seq_len=64),
        r"gives a frame 64 tokens \(image_seq_len\), and config\.json 8 \(resampler_n_latents\)",
    ),
    "no number of tokens": (
        lambda folder: change_json(folder / "processor_config.json", image_seq_len="8"),
        r"image_seq_len is '8'",
    ),
    "split images": (
        lambda folder: change_json(folder / "preprocessor_config.json", do_image_splitting=True),
        r"preprocessor_config\.json: do_image_splitting is not as VideoScore was published",
    ),
    "no size": (
        lambda folder: change_json(folder / "preprocessor_config.json", size=None),
        r"preprocessor_config\.json cannot be read as an image processor's config",
    ),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), r"config\.json cannot be read as JSON"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_checkpoint_is_refused_with_the_reason(how: str, tmp_path: Path) -> None:
    folder = copy_idefics2(tmp_path / "VideoScore")
    spoil, message = SPOILED[how]
    spoil(folder)
    with pytest.raises(InputError, match=message) as refusal:
        load(folder)
    assert "\n" not in str(refusal.value)


SPOILED_QWEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "wide head": (
        lambda folder: change_weights(folder, score__weight=torch.zeros(3, 64)),
        r"the head score\.weight is \(3, 64\), expected \(5, 64\)",
    ),
    "three heads": (
        lambda folder: change_json(
            folder / "config.json", score_type="special_token", label_special_token_ids=[1, 2, 3]
        ),
        r"label_special_token_ids is \[1, 2, 3\]; expected 5 token ids",
    ),
    "unknown labels": (
        lambda folder: change_json(
            folder / "config.json", score_type="special_token", label_special_token_ids=[1, 2, 3, 4, 999]
        ),
        r"tokenizer\.json lacks tokens of label_special_token_ids \[1, 2, 3, 4, 999\]",
    ),
    "other video token": (
        lambda folder: change_json(folder / "config.json", video_token_id=7),
        r"and config\.json says video_token_id 7",
    ),
    "no processor": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        r"has no preprocessor_config\.json; fetch it from TIGER-Lab/VideoScore-Qwen2-VL",
    ),
}


@pytest.mark.parametrize("how", SPOILED_QWEN)
def test_a_spoiled_qwen2_vl_checkpoint_is_refused_with_the_reason(how: str, tmp_path: Path) -> None:
    folder = write_qwen2_vl(tmp_path / "VideoScore-Qwen2-VL")
    spoil, message = SPOILED_QWEN[how]
    spoil(folder)
    with pytest.raises(InputError, match=message):
        load(folder)


def test_a_path_that_is_nothing_says_what_to_fetch(tmp_path: Path) -> None:
    path = tmp_path / "VideoScore-v1.1"
    wanted = "is not a folder, nor a hub id such as TIGER-Lab/VideoScore-v1.1; fetch it: hf download"
    with pytest.raises(InputError, match=re.escape(wanted)):
        load(path)


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return write_text, (str(self._file), "sang")


def write_text(file: str, text: str) -> None:
    Path(file).write_text(text)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pickle_that_runs_code_is_not_opened(name: str, tmp_path: Path) -> None:
    folder, canary = copy_idefics2(tmp_path / "model"), tmp_path / "canary"
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps({"score.weight": Canary(canary)}))
    with pytest.raises(InputError):
        load(folder)
    assert not canary.exists()
    pickle.loads((folder / name).read_bytes())
    assert canary.exists()  # it would have sung


def test_code_that_a_checkpoint_brings_along_is_not_run(tmp_path: Path) -> None:
    folder, canary = copy_idefics2(tmp_path / "model"), tmp_path / "canary"
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w').close()\nclass Evil: pass\n")
    change_json(folder / "config.json", auto_map={"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"})
    assert torch.equal(score(folder), score(IDEFICS2))
    assert not canary.exists()
