from pathlib import Path

import pytest

from policies.config import VideoScoreConfig
from policies.errors import InputError
from services.config_keys import Key, all_keys
from services.config_page import serving_page
from services.serve_config import ServeConfig
from services.serving_config import load_serve_config

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def message_of(text: str, *overrides: str, **options: object) -> str:
    Path("serve.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_serve_config("serve.yaml", overrides, options)
    return str(caught.value)


def test_without_a_file_it_is_the_bundled_model_on_this_machine_only() -> None:
    config = load_serve_config(None)
    assert (config.host, config.port, list(config.models), config.default) == ("127.0.0.1", 8000, ["shapes"], "shapes")
    assert config.data_dir == str(Path.cwd() / "onlinevpo-data")


def test_options_win_over_set_and_set_over_the_file() -> None:
    Path("serve.yaml").write_text("port: 1\nhost: ::1\ndecoders: 7\n", encoding="utf-8")
    config = load_serve_config("serve.yaml", ["port=2", "decoders=3"], {"port": 4, "host": None})
    assert (config.port, config.decoders, config.host) == (4, 3, "::1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot: 80", "serve.yaml:1: prot: unknown key; did you mean port?"),
        ("port: 65536", "serve.yaml:1: port: expected a whole number of at least 0 and of at most 65535, got 65536"),
        ("models: {}", "serve.yaml:1: models is empty; a service needs at least one"),
        ("models: [shapes]", 'serve.yaml:1: models: expected a map of names to sections, got ["shapes"]'),
        ("models: {a: 3}", "serve.yaml:1: models.a: expected a section, got 3"),
        ("models:\n  a:\n    replica: 2", "serve.yaml:3: models.a.replica: unknown key; did you mean replicas?"),
        ("replicas: 2", "serve.yaml:1: replicas: unknown key; did you mean models.NAME.replicas?"),
        ("models:\n  a.b:\n    replicas: no", "serve.yaml:3: models.a.b.replicas: expected a whole number above 0"),
        ("models:\n  A b: {}", "serve.yaml:2: models.A b: cannot be a name; expected text matching ^[a-z0-9]"),
        ("models: {a: {reward: {model: x}}}", "serve.yaml:1: models.a.reward.model: expected shapes or videoreward or"),
        ("models: {a: {reward: {path: none}}}", "/none: no such folder; give the folder of a reward model"),
        ("models: {a: {reward: {model: videoscore}}}", "serve.yaml:1: models.a.reward.path: missing; Folder or hub"),
        ("models: {a: {reward: {device: gpu}}}", "models.a.reward.device: no device 'gpu'; use cpu, cuda"),
        ("models: {a: {reward: {weights: {VQ: 1}}}}", "models.a.reward.weights: makes one reward of several scores"),
        ("models: {a: {autoscaling: {}}}", "models.a.autoscaling.max_replicas: missing; Replicas under load."),
        (
            "models:\n  a:\n    autoscaling:\n      min_replicas: 3\n      max_replicas: 2",
            "serve.yaml:4: models.a.autoscaling.min_replicas: min_replicas is 3, above max_replicas 2",
        ),
        ("default_model: b", "serve.yaml:1: default_model is 'b'; use one of shapes"),
        ("media: {max_frames: 0}", "serve.yaml:1: media.max_frames: expected a whole number above 0, got 0"),
        ("limits:\n  item: 3", "serve.yaml:2: limits.item: unknown key; did you mean items?"),
        ("host: ''", "serve.yaml:1: host: is empty; give an address of this machine"),
        ("data_dir: serve.yaml", "/serve.yaml is a file; give a folder"),
        ("", "serve.yaml: is empty; a service needs a setting or no file at all"),
    ],
    ids=lambda value: value.splitlines()[-1] if value else "empty",
)
def test_what_is_wrong_is_told_with_its_line(text: str, said: str) -> None:
    assert said in message_of(text)


def test_every_problem_is_told_at_once_in_the_order_of_the_file_and_then_the_options() -> None:
    lines = message_of("prot: 80\nmodels:\n  a: {replicas: 0}\n", "decoder=2", port="x").splitlines()
    assert [line.split(":")[:2] for line in lines[:2]] == [["serve.yaml", "1"], ["serve.yaml", "3"]]
    assert {line.split(":")[0] for line in lines[2:]} == {"--set decoder", "--port"}


def test_paths_in_the_file_are_relative_to_it_and_data_to_the_working_directory(tmp_path: Path) -> None:
    folder = tmp_path / "etc" / "VideoScore"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    text = "data_dir: d\nstore: s.db\nmodels: {v: {reward: {model: videoscore, path: VideoScore}}, w: }\n"
    (tmp_path / "etc" / "serve.yaml").write_text(text, encoding="utf-8")
    config = load_serve_config("etc/serve.yaml")
    reward = config.models["v"].reward
    assert isinstance(reward, VideoScoreConfig) and reward.path == str(folder)
    assert (config.data_dir, config.store) == (str(tmp_path / "d"), str(tmp_path / "s.db"))
    assert config.models["w"].reward.model == "shapes", "a section with all its keys commented out means its defaults"


def test_the_address_of_a_redis_server_is_no_path() -> None:
    assert load_serve_config(None, options={"store": "redis://h:1/0"}).store == "redis://h:1/0"


@pytest.mark.parametrize("key", list(all_keys(ServeConfig)), ids=lambda key: key.dotted)
def test_every_setting_of_the_service_is_documented(key: Key) -> None:
    assert key.doc.endswith("."), f"write a docstring under {key.dotted}"


def test_the_page_is_what_the_source_says() -> None:
    wanted = "run `onlinevpo config docs --serving > docs/serving-config.md`"
    assert (DOCS / "serving-config.md").read_text(encoding="utf-8") == serving_page(), wanted
