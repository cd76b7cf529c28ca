"""``{account}`` and ``{region}`` in ``store.url``: one config file for everybody's account, as a Learner Lab needs it.

The rule: whoever opens the store first asks AWS who it is (STS GetCallerIdentity), once for an access key on this machine.
Nodes are given the answer. A config without ``{account}`` makes no call.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tilefleet.config import Config
from tilefleet.errors import NotAllowed, Unreachable

DEADLINE_S = 10.0
_ACCOUNT = re.compile(r"[0-9]{12}\Z")


class Identity(NamedTuple):
    """Who these credentials are, as AWS says."""

    account: str
    arn: str


def resolved(config: Config) -> Config:
    """The config with ``store.url`` as it is for these credentials. May wait for AWS, at most ``DEADLINE_S``.

    Raises NotAllowed without credentials that AWS takes, Unreachable without an answer.
    """
    url = config.store.url
    if config.fleet.kind != "remote" or "{" not in url:
        return config
    region = store_region(config)
    if "{account}" in url:
        url = url.replace("{account}", _account(region, config.ec2.endpoint_url))
    store = msgspec.structs.replace(config.store, url=url.replace("{region}", region))
    return msgspec.structs.replace(config, store=store)


def store_region(config: Config) -> str:
    """Where the bucket is: [store], else what the AWS environment says, else us-east-1."""
    return config.store.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def identity(region: str, endpoint_url: str = "") -> Identity:
    """Ask AWS. Raises NotAllowed, Unreachable."""
    return _ask(_session(region), endpoint_url)


def _account(region: str, endpoint_url: str) -> str:
    session = _session(region)
    credentials = session.get_credentials()
    if credentials is None:
        raise NotAllowed(
            "store.url has {account} in it, and there are no AWS credentials that would say which: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    remembered = _directory() / hashlib.sha256(f"{credentials.access_key} {endpoint_url}".encode()).hexdigest()[:24]
    account = _read(remembered)
    if account is None:
        account = _ask(session, endpoint_url).account
        _write(remembered, account)
    return account


def _session(region: str) -> Any:
    from boto3 import Session
    from botocore.exceptions import BotoCoreError

    try:
        return Session(region_name=region)
    except BotoCoreError as error:
        raise NotAllowed(f"the AWS credentials cannot be had: {error}; mend AWS_PROFILE or ~/.aws/config") from error


def _ask(session: Any, endpoint_url: str) -> Identity:
    from botocore.config import Config as ClientConfig
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    settings = ClientConfig(
        connect_timeout=DEADLINE_S / 4, read_timeout=DEADLINE_S / 4, retries={"mode": "standard", "total_max_attempts": 2}
    )
    client = session.client("sts", endpoint_url=endpoint_url or None, config=settings)
    try:
        answer = client.get_caller_identity()
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise NotAllowed(f"there are no AWS credentials ({error}): set AWS_ACCESS_KEY_ID and so on, or AWS_PROFILE") from error
    except ClientError as error:
        said = error.response["Error"]
        raise NotAllowed(
            f"AWS does not take these credentials ({said.get('Code')}: {said.get('Message')}); renew them and try again"
        ) from error
    except BotoCoreError as error:
        raise Unreachable(f"AWS does not answer who these credentials are: {error}; check the network") from error
    finally:
        client.close()
    return Identity(answer["Account"], answer["Arn"])


def _directory() -> Path:
    if os.environ.get("TILEFLEET_STATE"):
        return Path(os.environ["TILEFLEET_STATE"]) / "cache" / "accounts"
    import platformdirs

    return Path(platformdirs.user_cache_dir("tilefleet")) / "accounts"


def _read(file: Path) -> str | None:
    """What was remembered; None for what is no account, whoever wrote it."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if _ACCOUNT.match(text) else None


def _write(file: Path, account: str) -> None:
    """Remember; a directory that cannot be written only costs another call next time."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = file.with_name(f"{file.name}.{os.getpid()}")
        new.write_text(account + "\n", encoding="ascii")
        new.replace(file)
    except OSError:
        return
