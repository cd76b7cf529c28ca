"""``{account}`` and ``{region}`` in ``store.url``: one config file for everybody's account, as a Learner Lab needs it.

The rule: whoever opens the store first asks AWS who it is (STS GetCallerIdentity), once for an access key on this machine.
Nodes are given the answer. A config without ``{account}`` makes no call.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from tilefleet import aws
from tilefleet.config import Config

DEADLINE_S = 15.0
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
    if config.fleet.kind != "remote" or "{" not in url or not url.startswith("s3://"):
        return config
    region = aws.region_of(config.store.region)
    if "{account}" in url:
        url = url.replace("{account}", _account(region, config.ec2.endpoint_url))
    store = msgspec.structs.replace(config.store, url=url.replace("{region}", region))
    return msgspec.structs.replace(config, store=store)


def pinned(config: Config) -> Config:
    """The config with every region written into it, as this machine's environment has it: that of nodes is another."""
    store, queues, ec2 = config.store, config.queues, config.ec2
    return msgspec.structs.replace(
        config,
        store=msgspec.structs.replace(store, region=aws.region_of(store.region)),
        queues=msgspec.structs.replace(queues, region=aws.region_of(queues.region)),
        ec2=msgspec.structs.replace(ec2, region=aws.region_of(ec2.region, store.region)),
    )


async def identity(region: str, endpoint_url: str = "") -> Identity:
    """Ask AWS. Raises NotAllowed, Unreachable."""
    with aws.errors("AWS, asked whose account this is,", setting="ec2.endpoint_url"):
        async with asyncio.timeout(DEADLINE_S), aws.client("sts", region=region, endpoint_url=endpoint_url) as sts:
            answer = await sts.get_caller_identity()
    return Identity(answer["Account"], answer["Arn"])


def _account(region: str, endpoint_url: str) -> str:
    key = aws.credentials("{account} in store.url").get_frozen_credentials().access_key
    remembered = _directory() / hashlib.sha256(f"{key} {endpoint_url}".encode()).hexdigest()[:24]
    account = _read(remembered)
    if account is None:
        with ThreadPoolExecutor(1) as thread:  # the caller may have an event loop of its own
            account = thread.submit(asyncio.run, identity(region, endpoint_url)).result().account
        _write(remembered, account)
    return account


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
