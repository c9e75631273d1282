"""How a store in S3 is reached: settings that are no secret, and the refusal of those that are."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from urllib.parse import urlsplit

from pipeline.errors import InputError

# Where a job leaves its settings for every client in its process, and for its workers.
VARIABLE = "LINESCORE_S3"
# Where botocore looks for an endpoint, in its order.
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")

# A user's name and password before the host, and what signs a URL for everybody who has it.
_SECRET = re.compile(
    r"^[a-z0-9+.-]+://[^/?#]*@"
    # A secret key may hold slashes: what has a colon where a bucket's name is can't be one.
    r"|^s3[an]?://(?!arn:)[^/?#]*:[^?#]*@"
    r"|[?&]((x-(amz|goog)-)?(signature|credential|security-token)|awsaccesskeyid|sig)=",
    re.I,
)


@dataclass(frozen=True)
class S3Access:
    """How a store in S3 is reached; keys come from the environment, a profile or a role.

    Attributes:
        endpoint_url: of a store that isn't Amazon's; None: Amazon's.
        region: of the bucket; None: as botocore finds it.
        profile: of ~/.aws; None: the default one.
        retry_s: seconds that a store may be away before an operation gives up.
        connect_timeout_s: seconds for a connection.
        read_timeout_s: seconds between two packets of an answer.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    retry_s: float = 150.0
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0


def s3_access(environment: Mapping[str, str] | None = None) -> S3Access:
    """The settings of this process.

    Raises:
        InputError: an endpoint that is no URL, or that holds a password.
    """
    variables = os.environ if environment is None else environment
    given = json.loads(variables.get(VARIABLE) or "{}")
    known = {field.name for field in fields(S3Access)}
    found = {name: value for name, value in given.items() if name in known}
    for name, places in (("endpoint_url", _ENDPOINTS), ("region", _REGIONS)):
        place = next((place for place in places if variables.get(place)), None)
        if place is not None and name not in found:
            found[name] = variables[place]
            if name == "endpoint_url":
                _check_endpoint(found[name], place)
    return S3Access(**found)


def _check_endpoint(url: str, variable: str) -> None:
    try:
        checked_endpoint(url)
    except InputError as error:
        raise InputError(f"{variable}: {without_secret(url)}: {error}") from None


def for_workers() -> dict[str, str]:
    """Variables that give workers on other nodes this process's settings; never a key.

    Ray shows and logs them, so what is secret has to reach the nodes by a role, a profile or
    their own environment.
    """
    told = {name: value for name, value in asdict(s3_access()).items() if value is not None}
    changed = told != {k: v for k, v in asdict(S3Access()).items() if v is not None}
    return {VARIABLE: json.dumps(told)} if changed else {}


def checked_endpoint(url: str) -> str:
    """The address of a store, if it is one.

    Raises:
        InputError: it is no http(s) URL, or holds a user and a password.
    """
    require_no_secret(url)
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise InputError("is no URL of a store, such as https://minio.plant:9000")
    return url


def require_no_secret(uri: str) -> None:
    """Refuses a URI that holds a password or a signature: it would stand in tables and logs.

    Raises:
        InputError: it does; the message doesn't repeat it.
    """
    if holds_secret(uri):
        raise InputError(
            f"{without_secret(uri)} holds credentials, which would end in tables and "
            "logs; take them out and use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile "
            "(AWS_PROFILE), or an instance role"
        )


def holds_secret(uri: str) -> bool:
    """Whether a URI holds a user's name, a password or a signature."""
    return _SECRET.search(uri) is not None


def without_secret(uri: str) -> str:
    """The URI as it may be shown."""
    shown = re.sub(r"://[^/?#]*(:[^?#]*)?@", "://***@", uri)
    return re.sub(r"\?.*", "?***", shown, flags=re.DOTALL)
