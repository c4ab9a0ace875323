"""The manifests, against Kubernetes' schemas, the Dask operator's own, and what the operator makes of them."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import files
from ipaddress import ip_address, ip_network
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from schemas.settings import Settings

FOLDER = Path(__file__).parents[2] / "deploy/kubernetes"
OPERATOR = "kubernetes.dask.org/v1"
MANIFESTS = [
    pytest.param(manifest, id=f"{path.name}:{manifest['kind']}")
    for path in sorted(FOLDER.glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]
VERSION = kubernetes_validate.latest_version()

RENDER = """
import json, sys, warnings
warnings.simplefilter("ignore")
from dask_kubernetes.operator.controller import controller
cluster, group = json.load(sys.stdin)
name, parts = cluster["metadata"]["name"], cluster["spec"]
made = [
    controller.build_scheduler_deployment_spec(name, parts["scheduler"]["spec"], {}, {}),
    controller.build_scheduler_service_spec(name, parts["scheduler"]["service"], {}, {}),
]
for workers, given in ((f"{name}-default", parts["worker"]), (group["metadata"]["name"], group["spec"]["worker"])):
    made.append(controller.build_worker_deployment_spec(workers, "nightstride", name, "0", given["spec"], {}, {}))
json.dump(made, sys.stdout)
"""


def parsed(name):
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def pods(manifest):
    """Pod specifications within a manifest."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "CronJob":
        return [spec["jobTemplate"]["spec"]["template"]["spec"]]
    return [spec[part]["spec"] for part in ("scheduler", "worker") if part in spec]


PODS = [
    pytest.param(pod, id=f"{param.id}:{pod['containers'][0]['name']}")
    for param in MANIFESTS
    for pod in pods(param.values[0])
]


@pytest.fixture(scope="module")
def definitions():
    """Schemas of the operator's own resources, from the chart that installs them: kind -> schema."""
    paths = [path for path in files("dask-kubernetes") if "/helm/" in str(path) and path.parent.name == "crds"]
    found = {}
    for path in paths:
        for definition in yaml.safe_load_all(path.read_text()):
            versions = {one["name"]: one["schema"]["openAPIV3Schema"] for one in definition["spec"]["versions"]}
            found[definition["spec"]["names"]["kind"]] = closed(versions["v1"])
    return found


@pytest.fixture(scope="module")
def made():
    """What the operator makes of our cluster: scheduler, its service, workers of both kinds."""
    given = [*parsed("cluster.yaml"), *parsed("gpu_workers.yaml")]
    run = subprocess.run(
        [sys.executable, "-c", RENDER], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout)


def closed(schema):
    """Refuse what a schema does not know: the API server would drop it without a word."""
    if isinstance(schema, dict):
        schema = {key: closed(value) for key, value in schema.items()}
        if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
    elif isinstance(schema, list):
        schema = [closed(one) for one in schema]
    return schema


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_manifest_is_valid(manifest, definitions):
    if manifest["apiVersion"] == OPERATOR:
        schema = definitions[manifest["kind"]]
        schema["properties"] |= {"apiVersion": {"const": OPERATOR}, "kind": {"const": manifest["kind"]}}
        schema["properties"]["metadata"] = {"type": "object"}
        jsonschema.validate(manifest, schema)
    else:
        kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_a_mistake_in_the_operator_s_resources_is_seen(definitions):
    cluster = parsed("cluster.yaml")[0]
    cluster["spec"]["worker"]["spec"]["containers"][0]["resourcs"] = {}
    with pytest.raises(jsonschema.ValidationError, match="resourcs"):
        jsonschema.validate(cluster, definitions["DaskCluster"])


def test_what_the_operator_makes_is_valid(made):
    assert [one["kind"] for one in made] == ["Deployment", "Service", "Deployment", "Deployment"]
    for manifest in made:
        kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_names_and_ports_fit_together(made):
    scheduler, service, *workers = made
    settings = tomllib.loads(parsed("settings.yaml")[0]["data"]["nightstride.toml"])["cluster"]
    port = next(one for one in service["spec"]["ports"] if one["name"] == "tcp-comm")["port"]
    address = f"tls://{service['metadata']['name']}:{port}"
    assert settings["address"] == address
    labels = scheduler["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    for worker in workers:
        container = worker["spec"]["template"]["spec"]["containers"][0]
        assert container["args"][2] == address
        assert "DASK_WORKER_NAME" in [one["name"] for one in container["env"]]
    offered = [arg.partition("=")[2] for one in workers for arg in _args(one) if arg.startswith("--resources")]
    assert offered == [f"{settings[name]}=1" for name in ("other_resource", "inference_resource")]
    gpu = workers[1]["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert gpu["limits"]["nvidia.com/gpu"] == gpu["requests"]["nvidia.com/gpu"] == "1"


def test_who_may_call_whom(made):
    ours, night = parsed("network.yaml")
    for one in (made[0], *made[2:]):
        assert ours["spec"]["podSelector"]["matchLabels"].items() <= _labels(one).items()
    job = parsed("night.yaml")[0]["spec"]["jobTemplate"]["spec"]["template"]
    allowed = [one["podSelector"]["matchLabels"] for one in ours["spec"]["ingress"][0]["from"]]
    assert any(one.items() <= job["metadata"]["labels"].items() for one in allowed)
    assert any(one.items() <= _labels(made[2]).items() for one in allowed)
    assert night["spec"]["podSelector"]["matchLabels"] == job["metadata"]["labels"]
    assert "ingress" not in night["spec"]


def test_pods_reach_the_cluster_names_and_stores_and_nothing_within_the_network():
    """Ports and ranges that are open to each policy: all others are closed, as egress is limited at all."""
    for policy in parsed("network.yaml"):
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        cluster, names, stores = policy["spec"]["egress"]
        assert [one["podSelector"]["matchLabels"] for one in cluster["to"]] == [
            {"dask.org/cluster-name": "nightstride"}
        ]
        assert [(one["protocol"], one["port"]) for one in names["ports"]] == [("UDP", 53), ("TCP", 53)]
        (system,) = names["to"]
        assert system.keys() == {"namespaceSelector", "podSelector"}
        assert stores["ports"] == [{"protocol": "TCP", "port": 443}]
        (block,) = (one["ipBlock"] for one in stores["to"])
        closed_to = [ip_network(one) for one in block["except"]]
        for inside in ("10.96.0.1", "172.20.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200"):
            assert any(ip_address(inside) in one for one in closed_to)
        assert not any(ip_address("52.216.0.1") in one for one in closed_to)


@pytest.mark.parametrize("pod", PODS)
def test_every_pod_has_few_rights_and_bounded_needs(pod):
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001  # that of the container files
    mounted = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert {mount["name"] for mount in container["volumeMounts"]} == mounted
        if container["name"] != "night":  # a job ends by itself
            assert container["readinessProbe"]["httpGet"]["path"] == "/health"
            assert container["livenessProbe"]["httpGet"]["path"] == "/health"
            assert container["readinessProbe"]["httpGet"]["port"] in {port["name"] for port in container["ports"]}


def test_settings_are_ours():
    text = parsed("settings.yaml")[0]["data"]["nightstride.toml"]
    assert Settings(**tomllib.loads(text)).cluster.kind == "address"


def _args(deployment):
    return deployment["spec"]["template"]["spec"]["containers"][0]["args"]


def _labels(deployment):
    return deployment["spec"]["template"]["metadata"]["labels"]
