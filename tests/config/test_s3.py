"""Settings for S3: what is an address, what is a secret, and where workers find them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.config import IndexConfig, ScoreConfig, load, parse
from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.access import VARIABLE, S3Access, for_workers, s3_access
from pipeline.tables.layout import list_source

HUSH = "hush-4711"
BASE = ["source=a", "store=b", "name=c"]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(VARIABLE, "")


def refusal(*settings: str) -> str:
    with pytest.raises(InputError) as error:
        load(IndexConfig, None, [*BASE, *settings])
    assert HUSH not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "setting",
    [
        f"source=s3://KEY:{HUSH}@bucket/x",
        f"store=s3://KEY:{HUSH}@bucket",
        f"s3.endpoint_url=https://me:{HUSH}@minio:9000",
        f"source=https://b.s3.amazonaws.com/a.csv?X-Amz-Signature={HUSH}",
        f"source=s3://AKIAKEY:abc/{HUSH}@bucket/x",
        f"source=s3a://AKIAKEY:{HUSH}/def@bucket/x",
        f"source=https://b.s3.amazonaws.com/a.csv?AWSAccessKeyId=A&Signature={HUSH}",
        f"source=https://storage.googleapis.com/b/a.csv?X-Goog-Signature={HUSH}",
        f"s3.secret={HUSH}",
        f"s3.aws_secret_access_key={HUSH}",
        f"s3.session_token={HUSH}",
        f"s3.key={HUSH}",
        f"password={HUSH}",
    ],
)
def test_a_secret_in_a_config_is_refused_and_not_repeated(setting: str) -> None:
    message = refusal(setting)
    assert setting.partition("=")[0] in message
    assert "AWS_SECRET_ACCESS_KEY" in message
    assert "instance role" in message


def test_a_secret_in_a_list_inside_a_config_is_found(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"source: a\nstore: b\nname: c\nlater:\n- x: ['s3://K:{HUSH}@b']\n")
    with pytest.raises(InputError, match=r"c.yaml: later.x: s3://\*\*\*@b: holds cred") as error:
        load(IndexConfig, str(file))
    assert HUSH not in str(error.value)


def test_a_secret_in_a_list_of_images_or_a_uri_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"uri\ns3://b/a.png\ns3://K:{HUSH}@b/b.png\n")
    with pytest.raises(InputError, match="holds credentials") as error:
        list_source(str(tmp_path / "list.csv"))
    assert HUSH not in str(error.value)
    with pytest.raises(InputError, match="holds credentials"):
        storage.read_bytes(f"s3://K:{HUSH}@b/a.png")


@pytest.mark.parametrize(
    "place", ["s3://bucket/me@home/a.png", "/data/me:you@home/a", "s3://b/a?x=1", "https://h/@x"]
)
def test_an_at_sign_in_a_path_is_no_secret(place: str) -> None:
    assert load(IndexConfig, None, [*BASE, f"source={place}"]).source == place


@pytest.mark.parametrize(
    "url", ["localhost:9000", "minio", "s3://bucket", "ftp://h", "http://", "http://h:x", "", "//h"]
)
def test_an_endpoint_that_is_no_url(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if url:
        assert "s3.endpoint_url: " in refusal(f"s3.endpoint_url={url}")
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(InputError, match=r"^AWS_ENDPOINT_URL: .*is no URL of a store, such as"):
            storage.filesystem("s3://bucket/a")


def test_the_config_stands_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert s3_access() == S3Access()
    assert for_workers() == {}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://a:1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", HUSH)
    assert s3_access() == S3Access("http://a:1", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://b:2")
    assert s3_access().endpoint_url == "http://b:2"
    config = parse(IndexConfig, "", [*BASE, "s3.endpoint_url=http://c:3", "s3.retry_s=7"])
    assert config.s3.retry_s == 7
    wanted = S3Access("http://c:3", "eu-west-1", retry_s=7)
    assert s3_access() == wanted
    told = for_workers()
    assert s3_access(told) == wanted
    assert HUSH not in json.dumps(told)


def test_a_job_without_settings_leaves_those_of_its_surroundings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, '{"retry_s": 9}')
    parse(ScoreConfig, "", ["manifest=a", "bundle=b", "store=c"])
    assert s3_access().retry_s == 9
