"""AWS by aioboto3: clients whose credentials are renewed under way, and errors of ours for those of AWS.

The rules: every call has a deadline; every error says what the caller should do: NotFound, NotAllowed (``AccessDenied``: ask
for a permission; ``CredentialsExpired``: renew them; ``ClockIsWrong``: mend it), DoesNotFit (quota or capacity), BadConfig (a
value AWS does not take), AlreadyExists, Unreachable (try again). Only this module makes sessions.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from tilefleet import causes, skew
from tilefleet.credentials import (
    AccessDenied,
    AsyncWatchedCredentials,
    ClockIsWrong,
    CredentialsExpired,
    WatchedCredentials,
    are_from_files,
    are_invalid,
    renewal,
)
from tilefleet.errors import AlreadyExists, BadConfig, DoesNotFit, NotAllowed, NotFound, TilefleetError, Unreachable

DEFAULT_REGION = "us-east-1"
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
SAID_CHARACTERS = 300  # of what AWS says, in a sentence of ours

_NOT_FOUND = {
    "AWS.SimpleQueueService.NonExistentQueue", "NoSuchBucket", "NoSuchEntity", "NoSuchKey", "ParameterNotFound",
    "QueueDoesNotExist", "NotFoundException", "404",
}  # fmt: skip
_DENIED = {
    "AccessDenied", "AccessDeniedException", "AuthorizationError", "KmsAccessDenied", "NotAuthorized", "UnauthorizedOperation",
    "403",
}  # fmt: skip
_REFUSED = {
    "Blocked", "IncompleteSignature", "InvalidSecurity", "InvalidSignatureException", "MissingAuthenticationToken",
    "OptInRequired", "PendingVerification", "SignatureDoesNotMatch",
}  # fmt: skip
_THROTTLED = {"RequestLimitExceeded", "BandwidthLimitExceeded", "RequestThrottled"}  # a limit in time, not in number
_FULL = {
    "MaxSpotInstanceCountExceeded", "ServiceQuotaExceededException", "TooManyBuckets", "UnfulfillableCapacity",
    "InsufficientFreeAddressesInSubnet",
}  # fmt: skip
_WRONG_VALUE = {
    "InvalidParameter", "InvalidParameterCombination", "InvalidParameterValue", "InvalidBucketName", "MissingParameter",
    "Unsupported", "UnsupportedOperation", "ValidationError", "ValidationException",
}  # fmt: skip
_TAKEN = {
    "AlreadyExistsException", "BucketAlreadyExists", "BucketAlreadyOwnedByYou", "EntityAlreadyExists", "QueueNameExists",
    "ParameterAlreadyExists",
}  # fmt: skip


def region_of(*given: str) -> str:
    """The first that is not empty; else what the AWS environment says; else us-east-1."""
    said = (*given, os.environ.get("AWS_REGION", ""), os.environ.get("AWS_DEFAULT_REGION", ""))
    return next((region for region in said if region), "") or _region_of_profile() or DEFAULT_REGION


def known_regions() -> list[str]:
    """All regions of EC2 that the installed botocore has heard of; AWS may have newer ones."""
    from botocore.session import Session

    session = Session()
    partitions = session.get_available_partitions()
    return [region for partition in partitions for region in session.get_available_regions("ec2", partition_name=partition)]


def _region_of_profile() -> str:
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    try:
        return Session().get_config_variable("region") or ""
    except BotoCoreError:  # a profile that is not there: asking for its credentials says so
        return ""


@asynccontextmanager
async def client(
    service: str,
    *,
    region: str = "",
    endpoint_url: str = "",
    keys: tuple[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
) -> AsyncIterator[Any]:
    """An aioboto3 client, for ``async with``. ``keys``: access key and secret key of a stand-in, instead of the AWS
    environment. ``config``: settings of botocore's Config that differ from ours. Raises NotAllowed without credentials."""
    from aiobotocore.config import AioConfig

    settings = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "retries": {"mode": "standard", "total_max_attempts": 3},
        "tcp_keepalive": True,
        **({"proxies": {}} if keys else {}),  # with keys of its own it is a stand-in, on this machine
        **(config or {}),
    }
    with errors(service.upper()):
        session = _session(keys, region_of(region))
        opened = session.client(service, endpoint_url=endpoint_url or None, config=AioConfig(**settings))
        found = await opened.__aenter__()
    try:
        yield found
    finally:
        await opened.__aexit__(None, None, None)


def _session(keys: tuple[str, str] | None, region: str) -> Any:
    """With keys of its own, nothing in the user's AWS files or AWS_PROFILE counts, not even their mistakes."""
    import aioboto3
    from aiobotocore.session import AioSession

    if keys is None:
        session = AioSession()
        session.register_component("credential_provider", _AsyncResolver())
        session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
        return aioboto3.Session(region_name=region, botocore_session=session)
    own = AioSession(
        {  # variable: key in the file, environment variable, default, conversion
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )
    own.register_component("data_loader", _loader(None))
    return aioboto3.Session(aws_access_key_id=keys[0], aws_secret_access_key=keys[1], region_name=region, botocore_session=own)


@functools.cache
def _loader(data_path: str | None) -> Any:
    """The descriptions of services, read once by a process: EC2's and the regions' take a third of a second for each client."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


class _AsyncResolver:
    """Where a session of aiobotocore gets its credentials from: botocore's own chain, watched when it ends at a file."""

    async def load_credentials(self) -> Any:
        found = await self._load()
        return AsyncWatchedCredentials(found, self._load) if are_from_files(found) else found

    async def _load(self) -> Any:
        from aiobotocore.session import AioSession

        return await AioSession().get_component("credential_provider").load_credentials()  # a session keeps what it has read


def credentials(what: str = "AWS") -> Any:
    """Credentials of the AWS environment for boto3 and obstore, watched when they come from a file.

    Raises NotAllowed when there are none, or when they cannot be had.
    """
    with errors(what):
        found = _load()
        if found is None:
            raise NotAllowed(_ABSENT.format(what))
        found.get_frozen_credentials()  # an expired log-in shows here
    return WatchedCredentials(found, _load) if are_from_files(found) else found


def _load() -> Any:
    from botocore.session import Session

    return Session().get_component("credential_provider").load_credentials()


# ---- errors

_ABSENT = "there are no AWS credentials for {}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


@contextmanager
def errors(what: str, mend: str = "", *, setting: str = "") -> Iterator[None]:
    """Turn what botocore and aiohttp raise into errors of ours.

    ``what`` was asked or wanted, the subject of the sentence; ``mend``: what to do when it does not exist; ``setting``: the
    configuration key of the address, for when nobody answers there.
    """
    from aiohttp import ClientError as HttpError
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    network = f"check the network{f' and {setting}' if setting else ''}"
    try:
        yield
    except ClientError as error:
        raise _of_answer(error.response, what, mend) from error
    except BotoCoreError as error:
        raise _of_client(error, what, network) from error
    except TilefleetError:
        raise
    except ResponseParserError as error:  # a proxy's page, or a stand-in's
        raise Unreachable(f"{what} was answered with something that is not AWS's; {network}") from error
    except (TimeoutError, HttpError, OSError) as error:
        raise Unreachable(f"{what} did not answer in time; {causes.local(error) or network}") from error


def code_of(error: BaseException) -> str:
    """AWS's own code of an error that ``errors`` translated, such as ``InvalidGroup.Duplicate``; empty for others."""
    response = getattr(error.__cause__, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _of_answer(response: Any, what: str, mend: str) -> TilefleetError:  # noqa: PLR0911 - one line per kind of failure
    code, text = str(response["Error"].get("Code", "")), _said(response["Error"].get("Message", ""))
    answer = f"{code}: {text}" if text else code
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if skew.is_of_clock(f"{code} {text}"):
        return ClockIsWrong(skew.sentence(what, text))
    if are_invalid(code, text):
        return CredentialsExpired(f"{what} refused these AWS credentials ({answer}); {renewal()}")
    if code in _TAKEN or code.endswith((".Duplicate", ".AlreadyExistsException")):
        return AlreadyExists(f"{what} exists already ({answer}); {mend or 'remove it or choose another name'}")
    if code in _NOT_FOUND or code.endswith((".NotFound", ".NotFoundException")):
        return NotFound(f"{what} does not exist{'' if mend else f' ({answer})'}; {mend or 'check its name and the region'}")
    if _is_full(code):
        return DoesNotFit(f"{what} was refused for want of quota or capacity ({answer}); {mend or _MORE}")
    if code in _WRONG_VALUE or code.endswith((".Malformed", ".Invalid")):
        return BadConfig(f"{what}: AWS does not take these settings ({answer}); {mend or 'mend the configuration'}")
    if code == "AuthFailure":  # a private image or snapshot; AWS's answer names it
        return NotAllowed(f"{what} was refused ({answer}); {mend or 'name another one, or ask its owner to share it'}")
    if code in _DENIED or code in _REFUSED or status == 403:
        kind = AccessDenied if code in _DENIED else NotAllowed
        return kind(f"{what} refused these AWS credentials ({answer}); renew them or ask for a policy that allows it")
    return Unreachable(f"{what} did not complete a request ({answer}); try again later")


_MORE = "ask for a higher quota, name other instance types or zones, or want fewer nodes"


def _is_full(code: str) -> bool:
    if code in _THROTTLED:
        return False
    return code in _FULL or "LimitExceeded" in code or (code.startswith("Insufficient") and code.endswith("Capacity"))


def _of_client(error: Exception, what: str, network: str) -> TilefleetError:
    from botocore import exceptions as botocore

    if isinstance(error, (botocore.NoCredentialsError, botocore.PartialCredentialsError)):
        return NotAllowed(_ABSENT.format(what))
    if isinstance(error, (botocore.CredentialRetrievalError, botocore.TokenRetrievalError, botocore.SSOError)):
        return CredentialsExpired(f"the AWS credentials for {what} cannot be had: {_said(str(error))}; log in again")
    if isinstance(error, botocore.ProfileNotFound):
        return NotAllowed(f"{error}; mend AWS_PROFILE or ~/.aws/config")
    if isinstance(error, (botocore.ConfigParseError, botocore.InvalidConfigError)):
        return NotAllowed(f"the AWS files cannot be read: {_said(str(error))}; mend them")
    if isinstance(error, botocore.ParamValidationError):
        return BadConfig(f"{what}: AWS does not take these settings ({_said(str(error))}); mend the configuration")
    return Unreachable(f"{what} cannot be reached: {_said(str(error))}; {causes.local(error) or network}")


def _said(text: str) -> str:
    """What AWS says, in one line and without the encrypted explanations of EC2."""
    text = " ".join(re.sub(r"Encoded authorization failure message: \S+", "", text).split())
    return text if len(text) <= SAID_CHARACTERS else f"{text[: SAID_CHARACTERS - 1]}…"
