"""The files for deployment: what cannot be run here passes its own linter, and agrees with the code and with itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from asof.cli.app import cli
from asof.config.loading import load_config
from asof.server.http.routes import ROUTES
from asof.server.settings import ServerSettings

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
STATELESS = ROOT / "deploy" / "stateless"
KUBERNETES = ("1.30", "1.36")
"""The oldest and the newest version whose schemas the manifests are held to."""


def objects() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in MANIFESTS:
        if path.name != "kustomization.yaml":
            for each in yaml.safe_load_all(path.read_text()):
                yield path.name, each


OBJECTS = list(objects())
PODS = {
    each["metadata"]["name"]: (each, (each["spec"]["jobTemplate"]["spec"] if each["kind"] == "CronJob" else each["spec"])["template"])
    for _, each in OBJECTS
    if each["kind"] in ("Deployment", "CronJob")
}  # fmt: skip


def test_network_policies_let_in_only_by_ports_that_the_pods_have() -> None:
    policies = [each for _, each in OBJECTS if each["kind"] == "NetworkPolicy"]
    closed = {each["metadata"]["name"]: each["spec"] for each in policies}
    assert closed["asof"]["policyTypes"] == ["Ingress", "Egress"] and closed["asof"]["ingress"] == []
    for name in ("asof-server", "asof-worker"):
        _, template = PODS[name]
        chosen = closed[name]["podSelector"]["matchLabels"]
        assert chosen.items() <= template["metadata"]["labels"].items()
        ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
        assert {port["port"] for rule in closed[name]["ingress"] for port in rule["ports"]} <= ports
        assert all(rule["from"] for rule in closed[name]["ingress"])


def run_of(words: list[str]) -> None:
    """Go through a command line of `asof`: each command and option of it has to be there."""
    import click

    command: Any = cli
    args = list(words)
    context = click.Context(cli)
    while args:
        word = args.pop(0)
        if word.startswith("-"):
            option = next(each for each in command.params if word in each.opts)
            if not option.is_flag:
                args.pop(0)
        else:
            command = command.get_command(context, word)
            assert command is not None, f"asof {word}"


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [each for _, each in OBJECTS if each["kind"] == kind]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("at", range(len(OBJECTS)), ids=[f"{file}-{each['kind']}" for file, each in OBJECTS])
def test_a_manifest_fits_the_schema_of_kubernetes(at: int, version: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")

    kubernetes_validate.validate(OBJECTS[at][1], version, strict=True)


def test_the_schemas_refuse_what_is_wrong() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    wrong = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replica": 1}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[-1], strict=True)


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not there for this platform")
    done = subprocess.run([hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "")


def test_kustomization_names_every_file_that_is_no_example() -> None:
    kustomization = yaml.safe_load((ROOT / "deploy/kubernetes/kustomization.yaml").read_text())

    files = {path.name for path in MANIFESTS if path.name != "kustomization.yaml" and "example" not in path.name}
    assert set(kustomization["resources"]) == files
    images = {container["image"] for _, pod in PODS.values() for container in pod["spec"]["containers"]}
    assert images == {each["name"] for each in kustomization["images"]}
    assert not any(each["newTag"] == "latest" for each in kustomization["images"])


@pytest.mark.parametrize("name", PODS)
def test_a_pod_may_no_more_than_it_needs(name: str) -> None:
    spec = PODS[name][1]["spec"]

    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        own = container["securityContext"]
        assert own == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", PODS)
def test_what_a_pod_is_given_is_there(name: str) -> None:
    spec = PODS[name][1]["spec"]
    there = {(each["kind"], each["metadata"]["name"]) for _, each in OBJECTS}

    assert ("ServiceAccount", spec["serviceAccountName"]) in there
    volumes = {each["name"] for each in spec.get("volumes", ())}
    for container in spec["containers"]:
        for each in container["envFrom"]:
            kind = "ConfigMap" if "configMapRef" in each else "Secret"
            assert (kind, next(iter(each.values()))["name"]) in there
        assert {each["name"] for each in container.get("volumeMounts", ())} <= volumes


@pytest.mark.parametrize("name", PODS)
def test_a_pod_runs_a_command_that_there_is(name: str) -> None:
    for container in PODS[name][1]["spec"]["containers"]:
        run_of(container["args"])


def test_selectors_find_the_pods_that_they_are_for() -> None:
    for kind in ("Service", "PodDisruptionBudget", "Deployment"):
        for each in of_kind(kind):
            selector = each["spec"]["selector"]
            wanted = selector.get("matchLabels", selector)
            _, pod = PODS[each["metadata"]["name"]]
            assert wanted.items() <= pod["metadata"]["labels"].items()


def test_the_autoscaler_is_for_a_deployment_without_a_number_of_its_own() -> None:
    (scaler,) = of_kind("HorizontalPodAutoscaler")
    target, _ = PODS[scaler["spec"]["scaleTargetRef"]["name"]]

    assert "replicas" not in target["spec"]
    assert scaler["spec"]["minReplicas"] >= 2
    (budget,) = [
        each for each in of_kind("PodDisruptionBudget") if each["metadata"]["name"] == target["metadata"]["name"]
    ]
    assert budget["spec"]["maxUnavailable"] < scaler["spec"]["minReplicas"]


def test_probes_ask_routes_that_are_for_everybody_on_the_port_that_is_served() -> None:
    (container,) = PODS["asof-server"][1]["spec"]["containers"]
    open_paths = {route.path for route in ROUTES if route.method == "GET" and route.action is None}
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}

    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["path"] in open_paths and asked["port"] in ports
    assert ports["http"] == ServerSettings().port
    assert of_kind("Service")[0]["spec"]["ports"][0]["targetPort"] == "http"


def test_a_pod_has_the_time_that_a_graceful_stop_takes() -> None:
    spec = PODS["asof-server"][1]["spec"]
    (container,) = spec["containers"]
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1])

    assert spec["terminationGracePeriodSeconds"] > waits + ServerSettings().graceful_s


def test_no_secret_stands_in_the_manifests() -> None:
    for secret in of_kind("Secret"):
        assert set(secret["stringData"].values()) == {"change-me"}
    config = of_kind("ConfigMap")[0]["data"]
    assert not any(re.search("password|secret|token", key, re.IGNORECASE) for key in config)


def stateless() -> list[dict[str, Any]]:
    """The manifests as the overlay's JSON patches (RFC 6902: add and remove) leave them."""
    kustomization = yaml.safe_load((STATELESS / "kustomization.yaml").read_text())
    assert [(STATELESS / each).resolve() for each in kustomization["resources"]] == [ROOT / "deploy" / "kubernetes"]
    patched = [deepcopy(each) for _, each in OBJECTS if each["kind"] != "Secret"]
    for each in kustomization["patches"]:
        target = each["target"]
        (found,) = [it for it in patched if (it["kind"], it["metadata"]["name"]) == (target["kind"], target["name"])]
        for change in yaml.safe_load(each["patch"]):
            *path, last = change["path"].strip("/").split("/")
            at = found
            for step in path:
                at = at[step]
            if change["op"] == "remove":
                del at[last]
            else:
                assert change["op"] == "add" and last not in at
                at[last] = change["value"]
    return patched


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_stateless_manifests_fit_the_schema_of_kubernetes(version: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")

    for each in stateless():
        if each["kind"] in ("ConfigMap", "ServiceAccount"):  # the others are those of deploy/kubernetes
            kubernetes_validate.validate(each, version, strict=True)


def test_the_stateless_store_is_in_a_bucket_redis_and_kafka_by_the_variables_that_its_pods_have(tmp_path: Path) -> None:
    shutil.copy(ROOT / "src/asof/demo/template/feature_store.yaml", tmp_path)
    shutil.copy(STATELESS / "feature_store.prod.yaml", tmp_path)
    (config,) = [each["data"] for each in stateless() if each["kind"] == "ConfigMap"]
    secret = of_kind("Secret")[0]["stringData"]

    store = load_config(
        tmp_path, env=config["ASOF_ENV"], environ={**config, "REDIS_PASSWORD": secret["REDIS_PASSWORD"]}
    )

    assert (store.registry.type, store.offline_store.type) == ("object", "duckdb")
    assert (store.online_store.type, store.log.type) == ("redis", "kafka")
    bucket = config["FEATURES_BUCKET"]
    assert store.registry.options["path"] == f"{bucket}/registry"
    assert store.offline_store.options["path"] == f"{bucket}/history"
    assert not store.connections and not any("POSTGRES" in name for name in config)


def test_no_pod_of_the_stateless_store_has_a_disk_that_stays() -> None:
    for _, pod in PODS.values():
        assert all(set(each) == {"name", "emptyDir"} for each in pod["spec"].get("volumes", ()))
    assert not [each for each in stateless() if each["kind"] in ("PersistentVolumeClaim", "StatefulSet")]


@pytest.mark.parametrize("name", ["compose.yaml", "compose.bucket.yaml"])
def test_compose_starts_commands_that_there_are_on_the_loopback_address_only(name: str) -> None:
    document = yaml.safe_load((ROOT / "deploy" / name).read_text())
    services = dict(document["services"])
    bucket = services.pop("bucket", None)

    assert set(services) == {"server", "worker"}
    for service in services.values():
        run_of(service["command"])
        assert "ports" not in service and service["read_only"] is True
    server = services["server"]["command"]
    assert server[server.index("--host") + 1] == "127.0.0.1"
    assert int(services["server"]["stop_grace_period"].rstrip("s")) > ServerSettings().graceful_s
    # What it waits for is there, or made here.
    (included,) = document["include"]
    known = yaml.safe_load((ROOT / "deploy" / included).read_text())["services"].keys() | document["services"].keys()
    assert all(set(service["depends_on"]) <= known for service in document["services"].values())
    assert (bucket is not None) == ("postgres" not in services["server"]["depends_on"])


def test_compose_makes_the_bucket_of_the_settings_that_the_page_shows(tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "deploy" / "compose.bucket.yaml").read_text())
    (program,) = document["services"]["bucket"]["command"]
    compile(program, "bucket", "exec")
    page = (ROOT / "docs" / "how-to" / "deploy.md").read_text()
    (shown,) = re.findall(r"```yaml\n(# feature_store.yaml\n.+?)```", page, re.DOTALL)
    (tmp_path / "feature_store.yaml").write_text(f"project: shop\n{shown}")

    store = load_config(tmp_path, environ={"REDIS_PASSWORD": "x"})

    endpoint, path = store.storage.endpoint, store.registry.options["path"]
    assert f'"{endpoint}/{path.split("/")[2]}"' in program and path.startswith("s3://")


def test_the_image_has_extras_that_there_are_and_no_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", text)

    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert {"postgres", "redis", "kafka", "s3"} <= set(extras.split(","))
    assert int(re.findall(r"^USER (\d+)", text, re.MULTILINE)[-1]) == 10001
    assert f"EXPOSE {ServerSettings().port}" in text
    (python,) = re.findall(r"^ARG PYTHON=python:(\d+\.\d+)\.\d+-", text, re.MULTILINE)
    assert tuple(map(int, python.split("."))) >= (3, 11)


def test_the_image_is_built_from_what_the_build_needs_and_nothing_else() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert kept == {name for line in copied for name in line.split()}
    assert all((ROOT / name).exists() for name in kept)
