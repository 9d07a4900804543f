"""What stands in deploy/ says the options of the server as they are."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pleinair.serve.settings import OPTIONS, Settings, named, variable

DEPLOY = Path(__file__).parents[2] / "deploy"
OTHERS = {"PLEINAIR_MODELS", "PLEINAIR_CACHE", "PLEINAIR_CPUS", "PLEINAIR_CPU_SHARE"}


def manifests() -> dict[str, Any]:
    text = (DEPLOY / "kuberay.yaml").read_text(encoding="utf-8")
    return {one["kind"]: one for one in yaml.safe_load_all(text) if one}


def application() -> dict[str, Any]:
    config = yaml.safe_load(manifests()["RayService"]["spec"]["serveConfigV2"])
    (one,) = config["applications"]
    return dict(one)


def test_the_cluster_s_options_are_the_server_s() -> None:
    setup = named(application()["args"])
    setup.check_safe()
    assert setup.beyond
    workers = manifests()["RayService"]["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    assert workers["maxReplicas"] == setup.replicas
    assert workers["minReplicas"] == setup.min_replicas
    assert setup.threads is None  # a painter has its pod


def test_the_cluster_s_pods_outlive_the_draining() -> None:
    drain = named(application()["args"]).drain
    cluster = manifests()["RayService"]["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] > drain + 10


def test_what_ray_imports_is_there() -> None:
    module, _, name = application()["import_path"].partition(":")
    imported = __import__(module, fromlist=[name])
    assert callable(getattr(imported, name))


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml"])
def test_variables_are_options(file: str) -> None:
    known = {variable(one) for one in OPTIONS.values()} | OTHERS
    text = (DEPLOY / file).read_text(encoding="utf-8")
    assert set(re.findall(r"PLEINAIR_\w+", text)) <= known


def test_the_container_waits_for_the_draining() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["pleinair"]
    drain = float(service["environment"]["PLEINAIR_DRAIN"])
    assert float(service["stop_grace_period"].removesuffix("s")) > drain + 10


def test_the_container_does_not_serve_everybody() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["pleinair"]
    assert "PLEINAIR_API_KEY_FILE" in service["environment"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert "PLEINAIR_INSECURE" not in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert Settings(host="0.0.0.0").beyond


@pytest.mark.cluster
def test_ray_knows_what_the_cluster_is_told() -> None:
    from ray.serve.schema import ServeDeploySchema

    text = manifests()["RayService"]["spec"]["serveConfigV2"]
    told = ServeDeploySchema.model_validate(yaml.safe_load(text))
    assert told.http_options.port == 8000
    assert told.applications[0].args["min_replicas"] == 1
