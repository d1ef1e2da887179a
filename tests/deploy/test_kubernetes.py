"""The Kubernetes manifests, against KubeRay's schemas and against what the operator checks beside them."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from services.serve_config import ServeConfig
from tests.deploy import kuberay
from tests.deploy.files import DEPLOY, ROOT, documents

FOLDER = DEPLOY / "kubernetes"
JOB = documents(FOLDER / "rayjob.yaml")[0]
SERVICE, PLAIN_SERVICE, *POLICIES = documents(FOLDER / "rayservice.yaml")
CLUSTERS = {"rayjob": JOB["spec"]["rayClusterSpec"], "rayservice": SERVICE["spec"]["rayClusterConfig"]}


def groups(cluster: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "head", cluster["headGroupSpec"]
    for group in cluster["workerGroupSpecs"]:
        yield group["groupName"], group


def group(cluster: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(groups(cluster))[name]


def pod(cluster: dict[str, Any], name: str) -> dict[str, Any]:
    return group(cluster, name)["template"]["spec"]  # type: ignore[no-any-return]


def container(cluster: dict[str, Any], name: str) -> dict[str, Any]:
    (only,) = pod(cluster, name)["containers"]
    return only  # type: ignore[no-any-return]


PODS = [(file, name) for file, cluster in CLUSTERS.items() for name, _ in groups(cluster)]
each_pod = pytest.mark.parametrize(("file", "name"), PODS)


def test_the_schemas_are_those_that_their_readme_describes() -> None:
    readme = (kuberay.SCHEMAS / "README.md").read_text()
    assert {kuberay.sha256(plural) for plural in ("rayjobs", "rayservices")} == set(
        re.findall(r"\b[0-9a-f]{64}\b", readme)
    )


@pytest.mark.parametrize(("plural", "resource"), [("rayjobs", JOB), ("rayservices", SERVICE)])
def test_a_manifest_fits_its_schema(plural: str, resource: dict[str, Any]) -> None:
    assert kuberay.errors(plural, resource) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "entrypiont"), "onlinevpo"),
        (("spec", "submissionMode"), 1),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "none"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "minReplica"), 1),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "resources", "limit"), {}),
    ],
)
def test_the_schema_finds_what_is_wrong(path: tuple[Any, ...], value: Any) -> None:
    broken = copy.deepcopy(JOB)
    here: Any = broken
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    assert kuberay.errors("rayjobs", broken)


def test_the_plain_service_fits_kubernetes_schema_and_finds_the_gateway_and_nothing_else() -> None:
    of_a_service = Draft202012Validator(kuberay.part("rayservices", "spec", "serveService", "spec"))
    assert not list(of_a_service.iter_errors(PLAIN_SERVICE["spec"]))
    selected = PLAIN_SERVICE["spec"]["selector"].items()
    cluster = CLUSTERS["rayservice"]
    labelled = {name: one["template"].get("metadata", {}).get("labels", {}) for name, one in groups(cluster)}
    assert [name for name, labels in labelled.items() if selected <= labels.items()] == ["gateway"]
    ports = {port["containerPort"] for port in container(cluster, "gateway")["ports"]}
    assert {port["targetPort"] for port in PLAIN_SERVICE["spec"]["ports"]} == ports


def test_only_its_own_pods_and_the_operator_reach_ray() -> None:
    of_a_rule = Draft202012Validator(
        kuberay.part("rayservices", "spec", "rayClusterConfig", "networkPolicy", "head", "ingressRules", "[]")
    )
    for policy in POLICIES:
        assert not [error.message for rule in policy["spec"]["ingress"] for error in of_a_rule.iter_errors(rule)]
    every_pod = [one["template"]["metadata"]["labels"] for _, one in groups(CLUSTERS["rayservice"])]
    ray, gateway = (policy["spec"]["podSelector"]["matchLabels"].items() for policy in POLICIES)
    assert all(ray <= labels.items() for labels in every_pod)
    assert [labels["app.kubernetes.io/component"] for labels in every_pod if gateway <= labels.items()] == ["gateway"]
    (own, operator), (callers,) = (policy["spec"]["ingress"] for policy in POLICIES)
    assert own["from"][0]["podSelector"]["matchLabels"].items() == ray
    assert [port["port"] for port in (*operator["ports"], *callers["ports"])] == [8265, 8000]


@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=list(CLUSTERS))
def test_a_cluster_asks_for_its_token_and_has_rays_version(cluster: dict[str, Any]) -> None:
    assert cluster["authOptions"] == {"mode": "token", "secretName": "onlinevpo-ray"}
    constraints = (ROOT / "constraints.txt").read_text()
    assert f"\nray=={cluster['rayVersion']}\n" in constraints
    for _, one in groups(cluster):
        # the operator refuses both
        assert "labels" not in one["rayStartParams"] and "resources" not in one


def test_pools_are_told_apart_by_label_and_the_head_does_no_work() -> None:
    for cluster in CLUSTERS.values():
        labels = [one["labels"]["pool"] for _, one in groups(cluster)]
        assert len(set(labels)) == len(labels)
        assert group(cluster, "head")["rayStartParams"]["num-cpus"] == "0"
    assert {one["labels"]["pool"] for _, one in groups(CLUSTERS["rayjob"])} == {"head", "generator", "learner"}


@each_pod
def test_a_pod_runs_as_the_images_user_without_rights(file: str, name: str) -> None:
    user = pod(CLUSTERS[file], name)["securityContext"]
    assert user["runAsNonRoot"] is True and user["runAsUser"] == user["fsGroup"] == 1000
    rights = container(CLUSTERS[file], name)["securityContext"]
    assert rights == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@each_pod
def test_a_pod_gets_what_it_asks_for_and_one_image(file: str, name: str) -> None:
    one = container(CLUSTERS[file], name)
    assert one["resources"]["requests"] == one["resources"]["limits"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert one["image"] == f"registry.example.com/onlinevpo:{version}-gpu"


@each_pod
def test_what_a_pod_mounts_is_there(file: str, name: str) -> None:
    mounted = {mount["name"] for mount in container(CLUSTERS[file], name)["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod(CLUSTERS[file], name)["volumes"]}


@pytest.mark.parametrize("file", ["rayjob.yaml", "rayservice.yaml"])
def test_no_secret_is_in_a_manifest_and_what_it_refers_to_is_in_its_head(file: str) -> None:
    text = (FOLDER / file).read_text()
    assert not re.search(r"(?i)password:|redis://|stringData", text)
    head = re.match(r"(#.*\n)+", text)
    assert head is not None
    for kind in ("secretName", "claimName"):
        for name in re.findall(rf"{kind}: ([\w-]+)", text):
            assert name in head.group(0)


def test_the_job_is_the_command_that_starts_a_run_or_goes_on_with_it() -> None:
    words = JOB["spec"]["entrypoint"].split()
    assert words[:2] == ["onlinevpo", "train"] and "placement.address=auto" in words
    mounts = {mount["mountPath"] for mount in container(CLUSTERS["rayjob"], "head")["volumeMounts"]}
    (output,) = (word.removeprefix("output_dir=") for word in words if word.startswith("output_dir="))
    for path in (words[2], output):
        assert any(path.startswith(mount + "/") for mount in mounts), path
    assert JOB["spec"]["entrypointNumCpus"] >= 1  # the head has none, so the controller is elsewhere


def test_a_job_that_is_stopped_has_the_time_of_its_pods_to_commit() -> None:
    wait_s = int(yaml.safe_load(JOB["spec"]["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"])
    for name, _ in groups(CLUSTERS["rayjob"]):
        assert pod(CLUSTERS["rayjob"], name)["terminationGracePeriodSeconds"] >= wait_s


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")  # Ray's own, on import
def test_serves_own_configuration_is_valid_and_names_no_application_that_would_be_deleted() -> None:
    from ray.serve.schema import ServeDeploySchema

    parsed = ServeDeploySchema.model_validate(yaml.safe_load(SERVICE["spec"]["serveConfigV2"]))
    assert parsed.applications == [] and parsed.proxy_location == "Disabled"


def test_the_gateway_waits_for_ray_and_becomes_the_service() -> None:
    gateway = container(CLUSTERS["rayservice"], "gateway")
    assert group(CLUSTERS["rayservice"], "gateway")["template"]["metadata"]["annotations"] == {
        "ray.io/overwrite-container-cmd": "true"
    }
    script = gateway["args"][0]
    assert (
        script.index("$KUBERAY_GEN_RAY_START_CMD &")
        < script.index("api/healthz")
        < script.index("exec onlinevpo serve")
    )
    settings = dict(setting.split("=", 1) for setting in re.findall(r"--set (\S+)", script))
    config = ServeConfig(**settings)
    assert config.address == "auto" and config.data_dir.startswith("/mnt/onlinevpo/")


def test_probes_of_the_gateway_last_as_long_as_it_may_take_to_start_and_name_a_host_that_it_answers_for() -> None:
    gateway = container(CLUSTERS["rayservice"], "gateway")
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = gateway[name]["httpGet"]
        assert probe["path"] == "/livez" and probe["httpHeaders"] == [{"name": "Host", "value": "localhost"}]
    starting = gateway["startupProbe"]["periodSeconds"] * gateway["startupProbe"]["failureThreshold"]
    assert starting >= 2 * ServeConfig().start_s
    grace = pod(CLUSTERS["rayservice"], "gateway")["terminationGracePeriodSeconds"]
    assert grace >= 2 * ServeConfig().drain_s


def test_only_models_have_gpus_in_the_service_and_their_probe_asks_no_proxy() -> None:
    cluster = CLUSTERS["rayservice"]
    with_gpus = [name for name, _ in groups(cluster) if "nvidia.com/gpu" in json.dumps(container(cluster, name))]
    assert with_gpus == ["models"]
    assert container(cluster, "models")["readinessProbe"]["httpGet"]["path"] == "/api/healthz"
