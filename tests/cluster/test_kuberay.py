"""The KubeRay manifests: as the API wants them, closed to strangers, one run id a night."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipeline.stages.cluster import KEEP_WORKERS
from tests.conftest import ROOT

FOLDER = ROOT / "configs" / "kuberay"
JOBS = ("rayjob.yaml", "rayjob-nightly.yaml")
SCHEMA = yaml.safe_load((Path(__file__).parent / "kuberay.schema.yaml").read_text())
DAY_S = 24 * 3600


def manifest(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return content


def job_spec(content: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = content["spec"]
    return spec.get("jobTemplate", spec)


def pods(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cluster = spec["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]["spec"]


@pytest.mark.parametrize("name", JOBS)
def test_a_manifest_is_what_the_api_takes(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(manifest(name), SCHEMA, jsonschema.Draft202012Validator)


def change(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    """A manifest with one value of the job changed; None: without it."""

    def apply(content: dict[str, Any]) -> None:
        place: Any = job_spec(content)
        for key in path[:-1]:
            place = place[key]
        if to is None:
            del place[path[-1]]
        else:
            place[path[-1]] = to

    return apply


BROKEN = {
    "a misspelt field": change("entryPoint", to="python x.py"),
    "a number as text": change("backoffLimit", to="2"),
    "no head": change("rayClusterSpec", "headGroupSpec", to=None),
    "an unknown way to be let in": change("rayClusterSpec", "authOptions", "mode", to="none"),
    "a parameter that is no string": change(
        "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus", to=0
    ),
    "a group without a name": change("rayClusterSpec", "workerGroupSpecs", 0, "groupName", to=None),
    "a group without bounds": change(
        "rayClusterSpec", "workerGroupSpecs", 0, "maxReplicas", to=None
    ),
    "memory in a unit that isn't one": change(
        "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "resources",
        "limits", "memory", to="32GB",
    ),
    "a pod without containers": change(
        "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", to=None
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("name", JOBS)
def test_a_broken_manifest_is_refused(name: str, what: str) -> None:
    content = copy.deepcopy(manifest(name))
    BROKEN[what](content)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, SCHEMA, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("missing", ["schedule", "jobTemplate"])
def test_a_nightly_job_without_a_time_or_a_job_is_refused(missing: str) -> None:
    content = manifest("rayjob-nightly.yaml")
    del content["spec"][missing]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, SCHEMA, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("name", JOBS)
def test_nobody_is_let_in_from_outside_or_without_the_token(name: str) -> None:
    cluster = job_spec(manifest(name))["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    head = cluster["headGroupSpec"]
    assert head["serviceType"] == "ClusterIP"
    assert "enableIngress" not in head
    for pod in pods(job_spec(manifest(name))):
        assert "hostNetwork" not in pod
        assert all("ports" not in container for container in pod["containers"])


@pytest.mark.parametrize("name", JOBS)
def test_pods_have_no_more_rights_than_they_need(name: str) -> None:
    for pod in pods(job_spec(manifest(name))):
        assert pod["serviceAccountName"] == "linescore"
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}
            # With equal requests and limits Kubernetes doesn't take a node's memory away.
            assert container["resources"]["requests"] == container["resources"]["limits"]


@pytest.mark.parametrize("name", JOBS)
def test_nothing_is_scored_on_the_head_and_pools_find_their_nodes(name: str) -> None:
    cluster = job_spec(manifest(name))["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    decode, gpu = cluster["workerGroupSpecs"]
    assert (decode["groupName"], gpu["groupName"]) == ("decode", "gpu")
    limits = [g["template"]["spec"]["containers"][0]["resources"]["limits"] for g in (decode, gpu)]
    assert "nvidia.com/gpu" not in limits[0]
    assert limits[1]["nvidia.com/gpu"] == "1"
    # What the job waits for is there with the smallest number of nodes.
    there = sum(
        int(limit["cpu"]) * group["minReplicas"]
        for limit, group in zip(limits, (decode, gpu), strict=True)
    )
    assert f"ray.min_cpus={there} ray.min_gpus={gpu['minReplicas']}" in str(manifest(name))


@pytest.mark.parametrize("name", JOBS)
def test_workers_that_wait_are_kept_as_on_one_machine(name: str) -> None:
    for group in job_spec(manifest(name))["rayClusterSpec"]["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        assert dict([KEEP_WORKERS]) == {one["name"]: one["value"] for one in container["env"]}


@pytest.mark.parametrize("name", JOBS)
def test_a_cluster_ends_with_its_job(name: str) -> None:
    spec = job_spec(manifest(name))
    assert spec["shutdownAfterJobFinishes"] is True
    assert 0 < spec["ttlSecondsAfterFinished"] <= 3600
    assert spec["backoffLimit"] > 0


def test_every_try_of_a_night_falls_into_its_night_and_nights_do_not_meet() -> None:
    """The script's night lasts from noon to noon: an id from the clock is the same in each try."""
    content = manifest("rayjob-nightly.yaml")
    minute, hour, *rest = content["spec"]["schedule"].split()
    assert rest == ["*", "*", "*"]
    spec = content["spec"]["jobTemplate"]
    begins = int(hour) * 3600 + int(minute) * 60
    ends = begins + (spec["backoffLimit"] + 1) * spec["activeDeadlineSeconds"]
    noon = DAY_S // 2
    assert begins > noon
    assert ends < DAY_S + noon
    # The submitting pod's shell sees the command first.
    assert re.fullmatch(r"[\w ./-]+", spec["entrypoint"])
    assert spec["entrypoint"].endswith("configs/nightly.sh")


def test_a_single_run_has_its_id_in_the_manifest() -> None:
    entrypoint = manifest("rayjob.yaml")["spec"]["entrypoint"]
    assert " run_id=april " in entrypoint
    assert re.fullmatch(r"[\w ./:=-]+", entrypoint)


@pytest.mark.parametrize("name", JOBS)
def test_the_version_is_the_installed_one(name: str) -> None:
    assert job_spec(manifest(name))["rayClusterSpec"]["rayVersion"] == metadata.version("ray")


@pytest.mark.parametrize("name", JOBS)
def test_what_has_to_be_filled_in_is_marked_and_nothing_else_names_a_place(name: str) -> None:
    """An image's registry, a bucket and a role belong to whoever runs it, not to this project."""
    text = (FOLDER / name).read_text()
    assert {p["image"] for pod in pods(job_spec(manifest(name))) for p in pod["containers"]} == {
        "REPLACE-image"
    }
    buckets = re.findall(r"s3://([^/\s\"]+)", text)
    assert set(buckets) == {"REPLACE-bucket"}


def test_the_service_account_names_a_role_to_fill_in_and_no_key() -> None:
    account = yaml.safe_load((FOLDER / "serviceaccount.yaml").read_text())
    assert account["metadata"] == {
        "name": "linescore",
        "annotations": {"eks.amazonaws.com/role-arn": "REPLACE-role-arn"},
    }


def test_no_manifest_holds_a_secret() -> None:
    for file in FOLDER.iterdir():
        text = file.read_text()
        assert not re.search(r"(?i)secret|password|AKIA[0-9A-Z]{16}|PRIVATE KEY", text), file
        assert not re.search(r"(?i)aws_(access|session)|auth_token", text), file
        assert not re.search(r"\b\d{12}\b|amazonaws\.com/(?!role-arn)", text), file
