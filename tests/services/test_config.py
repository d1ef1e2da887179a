import json
from pathlib import Path

import pytest
import yaml

from cluster.config import RunConfig
from policies.config import ShapesRewardConfig, VideoRewardConfig, VideoScoreConfig
from policies.errors import InputError
from services.config import diff_configs, load_config
from tests.services.model_folders import wan_folder, write_safetensors

# Lines 1 to 5 of every config in the table; what is wrong comes from line 6 on.
START = """\
policy:
  path: shapes
prompts:
  train: shapes:train
sampling: {num_frames: 9, height: 32, width: 32}
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str | bytes, name: str = "run.yaml") -> str:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


def message_of(text: str | bytes, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        load_config(write(text), overrides)
    return str(caught.value)


ADDED = [
    # unknown keys
    ("updatse: 3", "run.yaml:6: updatse: unknown key; did you mean updates?"),
    ("learner:\n  learning_rte: 1e-4", "run.yaml:7: learner.learning_rte: unknown key; did you mean learning_rate?"),
    ("learning_rate: 1e-4", "run.yaml:6: learning_rate: unknown key; did you mean learner.learning_rate?"),
    ("learner: {bta: 3}", "run.yaml:6: learner.bta: unknown key; did you mean objective.beta?"),
    ("pairs: {xyzzy: 3}", "run.yaml:6: pairs.xyzzy: unknown key; known here: source, selection, min_gap"),
    ("xyzzy:\n  a: {b: 1}", "run.yaml:6: xyzzy: unknown key"),
    ("Updates: 3", "run.yaml:6: Updates: unknown key; did you mean updates?"),
    ("3: 4", "run.yaml:6: 3: unknown key"),
    # wrong types
    ("updates: '60'", "run.yaml:6: updates: expected a whole number above 0, got '60'; remove the quotes"),
    ("updates: 60.0", "run.yaml:6: updates: expected a whole number above 0, got 60.0; write 60"),
    ("updates: 60.5", "run.yaml:6: updates: expected a whole number above 0, got 60.5"),
    ("updates: true", "run.yaml:6: updates: expected a whole number above 0, got true"),
    ("updates:", "run.yaml:6: updates: expected a whole number above 0, got null"),
    ("updates: [60]", "run.yaml:6: updates: expected a whole number above 0, got [60]"),
    ("updates: {a: 1}", "run.yaml:6: updates: expected a whole number above 0, got a section"),
    ("updates: 010", "run.yaml:6: updates: expected a whole number above 0, got '010'"),
    ("updates: 1:30", "run.yaml:6: updates: expected a whole number above 0, got '1:30'"),
    (
        "run_id: 7",
        "run.yaml:6: run_id: expected text matching ^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$ or null, got 7; put it",
    ),
    ("run_id: ../up", "run.yaml:6: run_id: expected text matching"),
    ("learner:\n  learning_rate: fast", "run.yaml:7: learner.learning_rate: expected a number above 0, got 'fast'"),
    ("learner: {learning_rate: .nan}", "run.yaml:6: learner.learning_rate: .nan is not a finite number"),
    ("learner: {learning_rate: .inf}", "run.yaml:6: learner.learning_rate: .inf is not a finite number"),
    ("learner: {learning_rate: 1e999}", "run.yaml:6: learner.learning_rate: the number 1e999 is too large"),
    (f"seed: {'9' * 50}", "run.yaml:6: seed: the number 99999999999999999999... has 50 digits"),
    ("learner: 3", "run.yaml:6: learner: expected a section, got 3"),
    ("learner: [a]", 'run.yaml:6: learner: expected a section, got ["a"]'),
    ("evaluation:\n  keep_best: yes", "run.yaml:7: evaluation.keep_best: expected true or false, got 'yes'"),
    ("evaluation: {keep_best: 1}", "run.yaml:6: evaluation.keep_best: expected true or false, got 1"),
    # out of range
    ("updates: 0", "run.yaml:6: updates: expected a whole number above 0, got 0"),
    ("seed: -1", "run.yaml:6: seed: expected a whole number of at least 0, got -1"),
    ("learner: {learning_rate: -1e-5}", "run.yaml:6: learner.learning_rate: expected a number above 0, got -1e-05"),
    ("learner: {adam_betas: [0.9]}", "run.yaml:6: learner.adam_betas: expected a list of 2 numbers"),
    ("learner: {adam_betas: [0.9, 0.9, 0.9]}", "got [0.9, 0.9, 0.9]"),
    ("learner: {adam_betas: [0.9, 1.0]}", "numbers of at least 0 and below 1, got [0.9, 1.0]"),
    ("learner: {adam_betas: 0.9}", "run.yaml:6: learner.adam_betas: expected a list of 2 numbers"),
    ("placement: {mode: colocated}", "run.yaml:6: placement.mode: expected in_process or split, got 'colocated'"),
    ("pairs: {source: onlin}", "run.yaml:6: pairs.source: expected online or offline, got 'onlin'"),
    ("checkpoint: {interval_updates: never}", "expected a whole number above 0 or auto, got 'never'"),
    ("reward: {weights: {VQ: much}}", "run.yaml:6: reward.weights.VQ: expected a number, got 'much'"),
    ("reward: {weights: [1, 2]}", "run.yaml:6: reward.weights: expected a map of names to numbers or null, got [1, 2]"),
    ("reward: {model: other}", "reward.model: expected shapes or videoreward or videoscore, got 'other'"),
    ("reward: {model: [a]}", "run.yaml:6: reward.model: expected shapes or videoreward or videoscore, got"),
    ("reward: 3", "run.yaml:6: reward: expected a section, got 3"),
    # settings of one reward model
    ("reward:\n  base: x", "run.yaml:7: reward.base: unknown key; it belongs to model: videoreward"),
    ("reward:\n  model: videoscore\n  path: x/y\n  max_frmes: 3", "run.yaml:9: reward.max_frmes: unknown key; did you"),
    ("reward: {model: videoreward}", "run.yaml:6: reward.path: missing; Folder or hub id in the layout of"),
    (
        "reward: {model: videoreward, path: no/where/x}",
        "no/where/x: no such folder; give the model's folder or its hub",
    ),
    ("reward: {model: videoreward, path: ., base: a/b}", "has no model_config.json; give a folder in the published"),
    ("reward: {model: videoscore, path: a/b, dtype: half}", "reward.dtype: expected float32 or bfloat16, got 'half'"),
    ("reward: {model: videoscore, path: a/b, device: gpu}", "run.yaml:6: reward.device: no device 'gpu'; use cpu"),
    ("reward: {model: videoreward, path: a/b, weights: {VX: 1}}", "reward.weights.VX: unknown dimension; there are VQ"),
    (
        "reward: {model: videoscore, path: a/b, weights: {VQ: 1}}",
        "unknown dimension; there are visual quality, temporal",
    ),
    # several reward models
    ("reward: {also: 3}", "run.yaml:6: reward.also: expected a list of sections, got 3"),
    ("reward:\n  also:\n  - 3", "run.yaml:8: reward.also.0: expected a section, got 3"),
    ("reward:\n  also:\n  - model: other", "run.yaml:8: reward.also.0.model: expected shapes or videoreward or"),
    (
        "reward:\n  also:\n  - model: shapes\n  - model: shapes\n    pth: x",
        "run.yaml:10: reward.also.1.pth: unknown key",
    ),
    (
        "reward:\n  also:\n  - model: shapes\n    path: 3",
        "run.yaml:9: reward.also.0.path: expected text or null, got 3",
    ),
    ("reward:\n  also:\n  - model: videoscore", "run.yaml:8: reward.also.0.path: missing"),
    ("reward:\n  also:\n  - weights: {VQ: 0}", "run.yaml:8: reward.also.0.weights: weights {'VQ': 0.0} rank nothing"),
    ("reward:\n  also:\n  - weights: {VX: 1}", "run.yaml:8: reward.also.0.weights.VX: unknown dimension; there are"),
    (
        "reward:\n  also:\n  - model: shapes\n    combine: mean_z",
        "run.yaml:9: reward.also.0.combine is about the whole reward; set reward.combine and remove it here",
    ),
    # settings that do not fit together
    ("reward:\n  weights: {VQ: 0}", "run.yaml:7: reward.weights: weights {'VQ': 0.0} rank nothing"),
    ("evaluation:\n  validation_interval_updates: 5", "run.yaml:7: evaluation.validation_interval_updates is 5 but"),
    ("evaluation:\n  keep_best: true", "run.yaml:7: evaluation.keep_best and early_stop_patience need validations"),
    # what is not there or does not fit
    ("reward: {path: nowhere}", "run.yaml:6: reward.path: "),
    ("reward: {weights: {VX: 1}}", "run.yaml:6: reward.weights.VX: unknown dimension; there are VQ, MQ, TA"),
    ("output_dir: run.yaml", "run.yaml is a file; runs need a folder"),
    ("output_dir: run.yaml/deeper", "run.yaml is a file; runs need a folder"),
    ("output_dir: s3://bucket/runs", "run.yaml:6: output_dir: s3://bucket/runs is a URL; give a folder"),
    # YAML itself
    ("seed: 1\nseed: 2", "run.yaml:7: seed: already set on line 6; keep one"),
    ("policy: {path: x}", "run.yaml:6: policy: already set on line 1; keep one"),
    ("learner: {learning_rate: 1e-4, learning_rate: 1}", "run.yaml:6: learner.learning_rate: already set on line 6"),
    ("learner: &a {learning_rate: 1e-4}", "run.yaml:6: holds an anchor or alias"),
    ("learner: *nowhere", "run.yaml:6: holds an anchor or alias"),
    ("learner: {<<: {a: 1}}", "run.yaml:6: learner.<<: holds a merge key"),
    (
        "seed: !!python/object/apply:os.system [ls]",
        "run.yaml:6: holds the tag tag:yaml.org,2002:python/object/apply:os",
    ),
    ("seed: !!int 3", "run.yaml:6: holds the tag tag:yaml.org,2002:int"),
    ("? [a, b]\n: 1", "run.yaml:6: holds a key that is a list or map"),
    ("learner: {", "not valid YAML"),
    ("\tseed: 1", "run.yaml:6: not valid YAML"),
    ("---\nseed: 1", "not valid YAML: expected a single document in the stream"),
    ("seed: " + "[" * 50_000, "run.yaml:6: holds more than 20 levels"),
    ('run_id: "\\ud800"', "run.yaml:6: run_id: holds half a surrogate pair"),
    ("run_id: a\x07b", "run.yaml:6: holds the character U+0007"),
]


@pytest.mark.parametrize(("added", "said"), ADDED, ids=[added[:40] for added, _ in ADDED])
def test_a_broken_config_says_where_what_and_what_instead(added: str, said: str) -> None:
    assert said in message_of(START + added)


WHOLE: list[tuple[str | bytes, str]] = [
    ("", "run.yaml: is empty; a run needs at least policy.path and prompts.train"),
    ("# nothing\n", "run.yaml: is empty"),
    ("[1, 2]", "run.yaml: holds [1, 2] instead of settings"),
    ("just text", "run.yaml: holds 'just text' instead of settings"),
    ("seed: 3", "run.yaml:1: policy: missing; needs policy.path"),
    ("seed: 3", "run.yaml:1: prompts: missing; needs prompts.train"),
    ("prompts: {train: shapes:train}\npolicy:\n", "run.yaml:2: policy.path: missing; A folder or hub id"),
    ("policy: 3\nprompts: {train: shapes:train}", "run.yaml:1: policy: expected a section, got 3"),
    ("policy: {path: 3}\nprompts: {train: shapes:train}", "run.yaml:1: policy.path: expected text, got 3; put it in"),
    ("policy: {path: shapes}\nprompts: {train: no.txt}", "no.txt: no such prompt file"),
    (
        "policy: {path: shapes}\nprompts: {train: shapes:tra}",
        "run.yaml:2: prompts.train: shapes:tra: the bundled world",
    ),
    ("policy: {path: nowhere}\nprompts: {train: shapes:train}", "run.yaml:1: policy.path: "),
    ("policy: {path: ./no/where}\nprompts: {train: shapes:train}", "no/where: no such folder"),
    ("policy: {path: /no/where}\nprompts: {train: shapes:train}", "/no/where: no such folder"),
    (
        "policy: {path: shapes, device: gpu}\nprompts: {train: shapes:train}",
        "run.yaml:1: policy.device: no device 'gpu'",
    ),
    ("policy: {path: shapes, lora: {targets: [no]}}\nprompts: {train: shapes:train}", "'no' matches no layer of"),
    (
        "policy: {path: shapes, lora: {targets: []}}\nprompts: {train: shapes:train}",
        "policy.lora.targets: names nothing",
    ),
    (
        "policy: {path: shapes}\nprompts: {train: shapes:train}",
        "run.yaml:1: sampling: 81 frames of 480x832: the reward",
    ),
    (b"policy: \xff", "run.yaml:1: not UTF-8 (byte 0xff)"),
    ("seed: 1\x00", "run.yaml:1: holds the character U+0000"),
    ("x" * 200_001, "is 200001 characters long; this is no configuration"),
]


@pytest.mark.parametrize(("text", "said"), WHOLE, ids=[str(text[:40]) for text, _ in WHOLE])
def test_a_broken_file_says_where_what_and_what_instead(text: str | bytes, said: str) -> None:
    assert said in message_of(text)


@pytest.mark.parametrize(("name", "said"), [("nowhere.yaml", "no such config file"), (".", "is a folder")])
def test_a_file_that_is_none(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_config(name)


def test_every_problem_is_told_at_once_in_the_order_of_the_file() -> None:
    text = (
        START
        + "updatse: 1\nlearner:\n  learning_rate: x\nsampling2: 3\nevaluation: {keep_best: true}\nreward: {path: no}"
    )
    lines = message_of(text, "pairs.source=x", "nokey=1").splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "run.yaml:6", "run.yaml:8", "run.yaml:9", "run.yaml:10", "run.yaml:11", "--set pairs.source", "--set nokey",
    ]  # fmt: skip


def test_what_may_come_from_a_wrong_setting_is_not_blamed() -> None:
    added = "evaluation: {validation_interval_updates: 5}\n"
    message = message_of(START.replace("train: shapes:train", "train: shapes:train\n  validation: 7") + added)
    assert len(message.splitlines()) == 1 and "prompts.validation: expected text or null, got 7" in message


def test_a_rule_that_needs_a_wrong_setting_is_not_applied() -> None:
    message = message_of(START + "evaluation: {keep_best: true, validation_interval_updates: often}")
    assert len(message.splitlines()) == 1 and "got 'often'" in message


def test_scientific_notation_integers_for_floats_and_underscores_are_numbers() -> None:
    added = "learner: {learning_rate: 1e-5}\nobjective: {beta: 500}\nupdates: 20_000\nevaluation: {seed: 7}"
    config = load_config(write(START + added))
    assert (config.learner.learning_rate, config.objective.beta, config.updates) == (1e-5, 500.0, 20_000)


def test_empty_sections_mean_their_defaults() -> None:
    config = load_config(write(START + "learner:\n  # learning_rate: 1\npairs: {}\n"))
    assert config.learner.learning_rate == 1e-5


def test_a_byte_order_mark_does_not_matter() -> None:
    assert load_config(write("\ufeff" + START)).policy.path == "shapes"


def test_the_run_is_named_after_the_file_unless_it_has_a_name() -> None:
    assert load_config(write(START, "my run (2).yaml")).run_id == "my-run-2"
    assert load_config(write(START + "run_id: other")).run_id == "other"


def test_overrides_are_yaml_and_the_last_one_counts() -> None:
    config = load_config(
        write(START + "updates: 5"),
        ["updates=6", "updates=7", "learner.learning_rate=1e-3", "learner.adam_betas=[0.5, 0.6]",
         "pairs.source=offline", "reward.weights.VQ=2", "policy.lora.targets=[to_q]", "run_id="],
    )  # fmt: skip
    assert (config.updates, config.learner.learning_rate, config.learner.adam_betas) == (7, 1e-3, (0.5, 0.6))
    assert (config.pairs.source, config.reward.weights) == ("offline", {"VQ": 2.0})
    assert (config.policy.lora.targets, config.run_id) == (("to_q",), "run")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("updates", "--set updates: expected KEY=VALUE"),
        ("=3", "--set =3: expected KEY=VALUE"),
        ("a..b=3", "--set a..b=3: expected KEY=VALUE"),
        ("learner.learning_rte=3", "--set learner.learning_rte: unknown key; did you mean learning_rate?"),
        ("learnr.learning_rate=3", "--set learnr.learning_rate: learnr: unknown key; did you mean learner?"),
        ("updates=x", "--set updates: expected a whole number above 0, got 'x'"),
        ("updates=", "--set updates: expected a whole number above 0, got null"),
        ("updates=[", "--set updates: not valid YAML"),
        ("updates.x=3", "--set updates.x: updates has no parts; it is a whole number above 0, set it whole"),
        ("learner.adam_betas.0=1", "--set learner.adam_betas.0: learner.adam_betas has no parts"),
        ("reward.also=[{path: 3}]", "--set reward.also: reward.also.0.path: expected text or null, got 3"),
        ("learner=3", "--set learner: expected a section, got 3"),
        ("prompts.train=no.txt", "--set prompts.train: "),
        ("policy.path=/nowhere", "--set policy.path: /nowhere: no such folder"),
        ("updates=!!python/name:os.system", "--set updates: holds the tag"),
    ],
)
def test_a_wrong_override_is_named_by_its_key(override: str, said: str) -> None:
    assert said in message_of(START, override)


def test_paths_are_relative_to_the_file_and_output_dir_to_the_working_directory(tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    wan_folder(folder / "model")
    (folder / "p.txt").write_text("a red circle moving left slowly\n")
    text = START.replace("shapes:train", "p.txt").replace("path: shapes", "path: model") + "output_dir: out\n"
    config = load_config(write(text, "configs/run.yaml"))
    assert config.prompts.train == str(folder / "p.txt")
    assert config.policy.path == str(folder / "model")
    assert config.output_dir == str(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_path_from_the_shell_is_relative_to_the_working_directory_first(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    for folder in (tmp_path, tmp_path / "configs"):
        (folder / "both.txt").write_text("a red circle moving left slowly\n")
    (tmp_path / "configs" / "beside.txt").write_text("a red circle moving left slowly\n")
    file = write(START, "configs/run.yaml")
    assert load_config(file, ["prompts.train=both.txt"]).prompts.train == str(tmp_path / "both.txt")
    assert load_config(file, ["prompts.train=beside.txt"]).prompts.train == str(tmp_path / "configs" / "beside.txt")


def test_a_hub_id_stays_a_hub_id_unless_it_is_meant_as_a_path(tmp_path: Path) -> None:
    text = START.replace("path: shapes", "path: owner/model")
    assert load_config(write(text)).policy.path == "owner/model"
    (tmp_path / "owner").mkdir()
    assert "owner/model: no such folder" in message_of(text)


def test_a_reward_model_that_is_unknown_is_the_only_thing_said_about_it() -> None:
    message = message_of(START + "reward: {model: videorewrd, base: x, rotary: exact, weights: {A: 1}}")
    assert len(message.splitlines()) == 1 and "got 'videorewrd'" in message


def test_paths_of_reward_models_are_relative_to_the_file_or_hub_ids(tmp_path: Path) -> None:
    (tmp_path / "own" / "base").mkdir(parents=True)
    (tmp_path / "own" / "model_config.json").write_text("{}")
    (tmp_path / "own" / "base" / "config.json").write_text("{}")
    also = "also: [{model: videoscore, path: owner/score}, {model: videoreward, path: own, base: Qwen/base}]"
    reward = load_config(write(START + f"reward:\n  {{model: videoreward, path: own, base: own/base, {also}}}")).reward
    assert isinstance(reward, VideoRewardConfig)
    assert (reward.path, reward.base) == (str(tmp_path / "own"), str(tmp_path / "own" / "base"))
    score, other = reward.also
    assert isinstance(score, VideoScoreConfig) and isinstance(other, VideoRewardConfig)
    assert (score.path, other.path, other.base) == ("owner/score", str(tmp_path / "own"), "Qwen/base")


def test_an_override_reaches_into_a_list_that_the_file_has() -> None:
    text = START + "reward:\n  also:\n  - model: shapes\n"
    config = load_config(write(text), ["reward.also.0.weights.VQ=2"])
    assert config.reward.also[0].weights == {"VQ": 2.0}
    assert "--set reward.also.1.path: no such item; an item of a list is set" in message_of(
        text, "reward.also.1.path=x"
    )
    assert "--set reward.also.0.pth: unknown key" in message_of(text, "reward.also.0.pth=x")


def test_the_configuration_of_a_run_from_before_there_were_several_models_loads() -> None:
    reward = {"model": "shapes", "path": None, "combine": "mean_z", "weights": None, "calibration_samples": 240}
    values = {"policy": {"path": "shapes"}, "prompts": {"train": "shapes:train"}, "reward": reward}
    assert RunConfig.model_validate_json(json.dumps(values), strict=True).reward == ShapesRewardConfig()


def test_a_pickle_where_safetensors_belongs(tmp_path: Path) -> None:
    wan_folder(tmp_path / "model")
    (tmp_path / "model" / "vae" / "model.safetensors").rename(tmp_path / "model" / "vae" / "vae.pt")
    assert "vae.pt: a pickle, which can run code" in message_of(START.replace("path: shapes", "path: model"))


def test_a_size_that_the_family_cannot_take(tmp_path: Path) -> None:
    message = message_of(START, "sampling.num_frames=10")
    assert "--set" not in message.split("\n")[0] or "num_frames 10 must be a multiple of 4 plus 1" in message
    Path("p.jsonl").write_text(
        json.dumps({"id": "a", "prompt": "a red circle moving left slowly",
                    "shape": {"num_frames": 9, "height": 33, "width": 32}})
    )  # fmt: skip
    assert "prompt 'a' of" in message_of(START.replace("shapes:train", "p.jsonl"))


def test_prompts_that_the_bundled_reward_cannot_judge() -> None:
    Path("p.txt").write_text("a cat\n")
    assert "the bundled reward cannot judge it: prompt 'a cat'" in message_of(START, "prompts.test=p.txt")


def test_prompts_that_a_published_reward_cannot_judge() -> None:
    text = START.replace("shapes:train", "p.txt") + "reward:\n  model: videoreward\n  path: a/b\n  base: a/b\n"
    Path("p.txt").write_text("a cat <|VQ_reward|>\n")
    said = "the videoreward reward cannot judge it: the prompt 'a cat <|VQ_reward|>' holds <|VQ_reward|>"
    assert said in message_of(text)
    Path("p.txt").write_text("a cat\n")
    assert load_config(write(text)).reward.model == "videoreward"
    assert "the bundled reward cannot judge it: prompt 'a cat'" in message_of(text + "  also: [{model: shapes}]")


def test_a_video_of_one_frame_is_too_short_for_videoreward() -> None:
    message = message_of(START + "reward: {model: videoreward, path: a/b, base: a/b}", "sampling.num_frames=1")
    assert "the reward model videoreward needs 2 or more" in message


def test_a_reward_folder_of_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "reward").mkdir()
    (tmp_path / "reward" / "config.json").write_text("{}")
    (tmp_path / "reward" / "pytorch_model.bin").write_bytes(b"\x80")
    assert "reward.path: " in message_of(START + "reward: {path: reward}")
    write_safetensors(tmp_path / "reward" / "model.safetensors", {"a": [1]})
    assert load_config(write(START + "reward: {path: reward}")).reward.path == str(tmp_path / "reward")


def test_a_run_directory_of_another_config_names_the_changed_keys(tmp_path: Path) -> None:
    config = load_config(write(START))
    run_dir = tmp_path / "runs" / "run"
    run_dir.mkdir(parents=True)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(write(START)) == config  # the same again goes on with it
    message = message_of(START, "learner.learning_rate=1e-4", "updates=7")
    assert "belongs to a run with another configuration" in message
    assert "learner.learning_rate: 1e-05 -> 0.0001" in message and "updates: 1000 -> 7" in message


def test_the_output_directory_is_no_run_and_the_run_directory_no_other_folder(tmp_path: Path) -> None:
    (tmp_path / "runs" / "run").mkdir(parents=True)
    (tmp_path / "runs" / "run" / "thesis.tex").write_text("")
    assert "exists and is not a run" in message_of(START)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.yaml").write_text("")
    (tmp_path / "old" / "metrics.jsonl").write_text("")
    assert "is itself the directory of a run" in message_of(START, "output_dir=old")


def test_diff_configs_ignores_where_a_run_lies() -> None:
    one = load_config(write(START))
    other = load_config(write(START), ["output_dir=elsewhere", "run_id=b", "placement.mode=in_process"])
    assert diff_configs(one, other) == ["placement.mode: 'split' -> 'in_process'"]


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    load_config(write(START))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.yaml"]


FOLDER = Path(__file__).parents[2] / "examples"
OF_NO_RUN = {FOLDER / "reward_training.yaml", FOLDER / "serve.yaml"}
EXAMPLES = sorted(set(FOLDER.glob("*.yaml")) - OF_NO_RUN)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_valid(example: Path) -> None:
    assert load_config(example).run_id == example.stem
