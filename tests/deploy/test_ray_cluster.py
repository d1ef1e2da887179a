"""ray_cluster.yaml, against Ray's own schema and what `ray up` checks beside it."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray

from cluster.store.redis_rules import check_version
from tests.deploy.files import ROOT, documents

(CLUSTER,) = documents(ROOT / "ray_cluster.yaml")
SCHEMA = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
TYPES = CLUSTER["available_node_types"]


def test_it_fits_rays_schema() -> None:
    jsonschema.validate(CLUSTER, SCHEMA)


@pytest.mark.parametrize("broken", [{"worker_nodes": {}}, {"max_workers": -1}, {"setup_commands": "ls"}])
def test_the_schema_finds_what_is_wrong(broken: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(CLUSTER | broken, SCHEMA)


def test_ray_up_would_take_it() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(CLUSTER))
    validate_config(prepared)
    assert prepared["available_node_types"]["generators"]["max_workers"] == 8


def test_pools_are_told_apart_by_label_and_the_head_does_no_work() -> None:
    labels = {name: one["labels"] for name, one in TYPES.items()}
    assert labels == {"head": {"pool": "head"}, "generators": {"pool": "generator"}, "learners": {"pool": "learner"}}
    assert CLUSTER["head_node_type"] == "head" and TYPES["head"]["resources"] == {"CPU": 0, "GPU": 0}
    assert CLUSTER["max_workers"] == sum(one.get("max_workers", 0) for one in TYPES.values())


def test_labels_are_such_as_ray_takes() -> None:
    from ray._private.label_utils import validate_label_key, validate_label_value

    for one in TYPES.values():
        for key, value in one["labels"].items():
            assert validate_label_key(key) is None
            validate_label_value(value)


def test_ray_is_asked_for_a_token_that_every_machine_gets() -> None:
    options = " ".join(CLUSTER["docker"]["run_options"])
    assert "--env RAY_AUTH_MODE=token" in options
    match = re.search(r"RAY_AUTH_TOKEN_PATH=(\S+)/auth_token", options)
    assert match is not None and match[1] in CLUSTER["file_mounts"]
    text = (ROOT / "ray_cluster.yaml").read_text()
    assert not re.search(r"RAY_AUTH_TOKEN=|redis-password|[0-9a-f]{32}", text)


def test_every_process_may_open_many_files() -> None:
    assert "--ulimit nofile=65536:65536" in CLUSTER["docker"]["run_options"]
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert CLUSTER[commands][-1].startswith("ulimit -n 65536; ray start ")


def test_the_dashboard_is_not_on_the_network() -> None:
    assert "--dashboard-host=127.0.0.1" in CLUSTER["head_start_ray_commands"][-1]


def test_the_store_on_the_head_is_a_version_without_known_holes_with_the_shipped_configuration() -> None:
    (command,) = (one for one in CLUSTER["initialization_commands"] if "valkey" in one)
    match = re.search(r"valkey/valkey:([\d.]+) valkey-server (\S+)", command)
    assert match is not None
    check_version("valkey", match[1], "the head")
    mounts = dict(re.findall(r"--volume (/[^:\s]+):([^:\s]+)", command))
    assert match[2] == mounts["/mnt/onlinevpo/store"] + "/valkey.conf"
    for one in ("generators", "learners"):
        assert all("valkey" not in command for command in TYPES[one]["initialization_commands"])


def test_commands_are_good_shell() -> None:
    commands = [*CLUSTER["initialization_commands"], *CLUSTER["head_start_ray_commands"]]
    for command in [*commands, *CLUSTER["worker_start_ray_commands"]]:
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_placeholders_are_obvious_and_few() -> None:
    text = re.sub(r"#.*", "", (ROOT / "ray_cluster.yaml").read_text())
    assert sorted(re.findall(r"[\w.]*example\.com", text)) == ["nfs.example.com", "registry.example.com"]
