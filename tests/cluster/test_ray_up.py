"""cluster.yaml: valid for Ray, closed to strangers, spot workers score and the head does not."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.util import prepare_config, validate_config

from pipeline.stages.cluster import KEEP_WORKERS
from tests.conftest import ROOT

FILE = ROOT / "cluster.yaml"
REGION = "eu-central-1"


@pytest.fixture
def config() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return content


def nodes(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    types: dict[str, dict[str, Any]] = config["available_node_types"]
    return types


def test_ray_takes_the_file(config: dict[str, Any]) -> None:
    validate_config(prepare_config(config))


BROKEN: dict[str, Callable[[dict[str, Any]], object]] = {
    "an unknown key": lambda c: c.update(workers=3),
    "workers as text": lambda c: c.update(max_workers="many"),
    "a head that is no node type": lambda c: c.update(head_node_type="haed"),
    "more workers than there may be": lambda c: nodes(c)["decode"].update(min_workers=99),
    "a share of a CPU": lambda c: nodes(c)["decode"].update(resources={"CPU": 0.5}),
    "a node without a description": lambda c: nodes(c)["gpu"].pop("node_config"),
    "commands that are no list": lambda c: c.update(initialization_commands="apt update"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_ray_refuses_a_broken_file(config: dict[str, Any], what: str) -> None:
    BROKEN[what](config)
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        validate_config(prepare_config(config))


@pytest.fixture
def account(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """An AWS account of the test's own, with what the page says to make; its EC2 client."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing-secret")
    with mock_aws():
        ec2 = boto3.client("ec2", region_name=REGION)
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        group = ec2.create_security_group(GroupName="own", Description="own", VpcId=vpc)["GroupId"]
        ec2.create_key_pair(KeyName="linescore-cluster")
        (tmp_path / "key.pem").touch()
        config["provider"]["region"] = REGION
        config["auth"]["ssh_private_key"] = str(tmp_path / "key.pem")
        for node in nodes(config).values():
            node["node_config"]["SecurityGroupIds"] = [group]
        yield ec2


def opened_to_the_world(ec2: Any) -> list[str]:
    """Names of the security groups that let the whole internet in."""
    return [
        group["GroupName"]
        for group in ec2.describe_security_groups()["SecurityGroups"]
        for rule in group["IpPermissions"]
        for entry in rule.get("IpRanges", [])
        if entry["CidrIp"] == "0.0.0.0/0"
    ]


def test_ray_up_opens_no_port_to_the_internet(config: dict[str, Any], account: Any) -> None:
    made = bootstrap_aws(prepare_config(config))
    assert opened_to_the_world(account) == []
    groups = {tuple(node["node_config"]["SecurityGroupIds"]) for node in nodes(made).values()}
    assert len(groups) == 1


def test_without_a_group_of_ones_own_ray_opens_ssh_to_the_internet(
    config: dict[str, Any], account: Any
) -> None:
    """Why every node names a group: what Ray does else."""
    broken = copy.deepcopy(config)
    del nodes(broken)["decode"]["node_config"]["SecurityGroupIds"]
    bootstrap_aws(prepare_config(broken))
    assert opened_to_the_world(account) == ["ray-autoscaler-linescore"]


def test_every_node_names_its_group_its_key_and_its_role(config: dict[str, Any]) -> None:
    for name, node in nodes(config).items():
        details = node["node_config"]
        assert details["SecurityGroupIds"] == ["sg-REPLACE"], name
        assert details["KeyName"] == "linescore-cluster", name
        role = "linescore-head" if name == "head" else "linescore-worker"
        assert details["IamInstanceProfile"] == {"Name": role}, name
        # A role is had from the node itself, not through a request that somebody tricks it into.
        assert details["MetadataOptions"]["HttpTokens"] == "required", name
        assert details["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True, name
    assert "security_group" not in config["provider"]


def test_nothing_runs_on_the_head_and_workers_are_spot(config: dict[str, Any]) -> None:
    head = nodes(config).pop("head")
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    for node in nodes(config).values():
        assert node["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert node["min_workers"] == 0 < node["max_workers"]
    assert nodes(config)["gpu"]["resources"]["GPU"] == 1
    assert "GPU" not in nodes(config)["decode"]["resources"]
    assert sum(node["max_workers"] for node in nodes(config).values()) == config["max_workers"]


def test_ray_starts_with_the_token_and_its_dashboard_on_loopback(config: dict[str, Any]) -> None:
    starts = [config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]]
    for command in starts:
        assert command.startswith("export RAY_AUTH_MODE=token ")
        assert "RAY_AUTH_TOKEN=" not in command
        assert "=".join(KEEP_WORKERS) in command.split(";")[0].split()
    assert starts[0].endswith("--dashboard-host=127.0.0.1")
    assert "0.0.0.0" not in FILE.read_text()  # noqa: S104 - what must not stand there
    assert ("/home/ubuntu/.ray/auth_token", "~/.ray/auth_token") in config["file_mounts"].items()
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


def test_pinned_versions_are_installed_and_data_and_weights_stay_out(
    config: dict[str, Any],
) -> None:
    assert any("--constraint ~/linescore/constraints.txt" in c for c in config["setup_commands"])
    lines = (ROOT / ".rayignore").read_text().splitlines()
    ignored = {line.rstrip("/") for line in lines if line and not line.startswith("#")}
    assert {"*.safetensors", "*.pt", "*.pth", "*.png", "*.jpg", "*.parquet", "store"} <= ignored
    assert set(config["rsync_exclude"]) == ignored


def test_the_file_holds_no_secret_and_no_account() -> None:
    text = FILE.read_text()
    assert not re.search(r"(?i)secret|password|AKIA[0-9A-Z]{16}|PRIVATE KEY|aws_access", text)
    assert not re.search(
        r"\b\d{12}\b|sg-[0-9a-f]{8}|ami-[0-9a-f]{8}|\b\d+\.\d+\.\d+\.\d+/\d+", text
    )
