"""AWS's errors in our words, regions, and credentials that are renewed by replacing their file."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as botocore
from botocore.exceptions import ClientError

from tests.conftest import ACCESS_KEY, SECRET_KEY, Server, unique
from tilefleet import aws, credentials
from tilefleet.credentials import AccessDenied, ClockIsWrong, CredentialsExpired, outlast
from tilefleet.errors import (
    AlreadyExists,
    BadConfig,
    DoesNotFit,
    NotAllowed,
    NotFound,
    TilefleetError,
    Unreachable,
)


def translated(error: Exception, mend: str = "") -> TilefleetError:
    with pytest.raises(TilefleetError) as caught, aws.errors("EC2", mend, setting="ec2.endpoint_url"):
        raise error
    return caught.value


def answer(code: str, message: str = "so it is", status: int = 400) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Call")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("UnauthorizedOperation", AccessDenied), ("AccessDenied", AccessDenied), ("AccessDeniedException", AccessDenied),
        ("OptInRequired", NotAllowed), ("InvalidSignatureException", NotAllowed),
        ("AuthFailure", CredentialsExpired), ("ExpiredToken", CredentialsExpired), ("RequestExpired", CredentialsExpired),
        ("InvalidClientTokenId", CredentialsExpired), ("ExpiredTokenException", CredentialsExpired),
        ("InvalidInstanceID.NotFound", NotFound), ("NoSuchEntity", NotFound), ("InvalidGroup.NotFound", NotFound),
        ("InstanceLimitExceeded", DoesNotFit), ("VcpuLimitExceeded", DoesNotFit), ("InsufficientInstanceCapacity", DoesNotFit),
        ("MaxSpotInstanceCountExceeded", DoesNotFit), ("TooManyBuckets", DoesNotFit),
        ("InvalidParameterValue", BadConfig), ("InvalidAMIID.Malformed", BadConfig), ("ValidationError", BadConfig),
        ("InvalidGroup.Duplicate", AlreadyExists), ("EntityAlreadyExists", AlreadyExists),
        ("InvalidLaunchTemplateName.AlreadyExistsException", AlreadyExists),
        ("InvalidLaunchTemplateName.NotFoundException", NotFound),
        ("RequestLimitExceeded", Unreachable), ("InternalError", Unreachable), ("DependencyViolation", Unreachable),
    ],
)  # fmt: skip
def test_what_the_caller_should_do_follows_from_the_code(code: str, kind: type[TilefleetError]) -> None:
    error = translated(answer(code))
    assert type(error) is kind
    assert f"({code}: so it is)" in str(error)
    assert "\n" not in str(error)
    assert aws.code_of(error) == code


def test_a_code_nobody_knows_is_refused_when_http_says_so() -> None:
    assert type(translated(answer("NewlyInvented", status=403))) is NotAllowed
    assert type(translated(answer("NewlyInvented", status=500))) is Unreachable


def test_what_to_do_about_it_may_be_said_by_the_caller() -> None:
    assert str(translated(answer("InvalidSubnetID.NotFound"), "mend ec2.subnets")) == "EC2 does not exist; mend ec2.subnets"


def test_somebody_elses_image_is_no_matter_of_credentials_and_is_named() -> None:
    error = translated(answer("AuthFailure", "Not authorized for images: [ami-0123456789abcdef0]", 403))
    assert type(error) is NotAllowed  # which no daemon waits for
    assert "ami-0123456789abcdef0" in str(error)
    assert "ask its owner to share it" in str(error)


def test_a_lab_that_is_over_is_like_expired_credentials() -> None:
    said = "User: … is not authorized to perform: s3:PutObject with an explicit deny in …:policy/voc-cancel-cred"
    assert type(translated(answer("AccessDenied", said, 403))) is CredentialsExpired


def test_what_ec2_encrypts_is_left_out_and_what_is_long_is_cut() -> None:
    said = "You are not authorized. Encoded authorization failure message: " + "Xy_-" * 300 + "\nThat is all."
    assert "(UnauthorizedOperation: You are not authorized. That is all.)" in str(
        translated(answer("UnauthorizedOperation", said))
    )
    assert len(str(translated(answer("InternalError", "long " * 1000)))) < 500


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (botocore.NoCredentialsError(), NotAllowed, "there are no AWS credentials for EC2: set AWS_ACCESS_KEY_ID"),
        (botocore.ProfileNotFound(profile="nobody"), NotAllowed, "nobody"),
        (botocore.SSOTokenLoadError(error_msg="log in"), CredentialsExpired, "log in again"),
        (botocore.ParamValidationError(report="no"), BadConfig, "does not take these settings"),
        (botocore.EndpointConnectionError(endpoint_url="http://x"), Unreachable, "check the network and ec2.endpoint_url"),
        (TimeoutError(), Unreachable, "EC2 did not answer in time"),
        (ConnectionResetError(), Unreachable, "check the network and ec2.endpoint_url"),
        (NotFound("there is no such thing"), NotFound, "there is no such thing"),
    ],
)  # fmt: skip
def test_what_comes_before_an_answer(error: Exception, kind: type[TilefleetError], words: str) -> None:
    found = translated(error)
    assert type(found) is kind
    assert words in str(found)


def test_the_region_is_the_first_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert aws.region_of("", "eu-west-1", "eu-west-2") == "eu-west-1"
    assert aws.region_of("") == "us-east-1"
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config").write_text("[default]\nregion = eu-north-1\n[profile other]\nregion = eu-south-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert aws.region_of("") == "eu-north-1"
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert aws.region_of("") == "eu-south-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    assert aws.region_of("") == "ap-south-1"
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert aws.region_of("") == "us-east-1", "whose profile that is, asking for its credentials says"


# ---- credentials in a file


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replace the credentials file; it is looked at before every request."""
    monkeypatch.setattr(credentials, "LOOK_S", 0.0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))

    def replace(text: str) -> None:
        (tmp_path / "partial").write_text(text)
        (tmp_path / "partial").replace(tmp_path / "credentials")

    return replace


def profile(key: str, name: str = "default") -> str:
    return f"[{name}]\naws_access_key_id = {key}\naws_secret_access_key = secret-{key}\naws_session_token = token-{key}\n"


Frozen = tuple[str, str, str]


def _keys(frozen: Any) -> Frozen:
    return frozen.access_key, frozen.secret_key, frozen.token


def test_a_file_that_was_replaced_is_read_again(write: Callable[[str], None]) -> None:
    write(profile("FIRST"))
    found = aws.credentials()
    assert _keys(found.get_frozen_credentials()) == ("FIRST", "secret-FIRST", "token-FIRST")
    write(profile("SECOND"))
    assert _keys(found.get_frozen_credentials()) == ("SECOND", "secret-SECOND", "token-SECOND")


@pytest.mark.parametrize(
    "text", ["", "[default]\naws_access_key_id = HALF\n", "no file of this kind", profile("OTHER", "somebody-else")]
)
def test_a_file_that_cannot_be_used_changes_nothing_until_it_can(write: Callable[[str], None], text: str) -> None:
    write(profile("FIRST"))
    found = aws.credentials()
    write(text)
    assert found.get_frozen_credentials().access_key == "FIRST"
    write(profile("SECOND"))
    assert found.get_frozen_credentials().access_key == "SECOND"


def test_the_profile_that_was_asked_for_is_the_one_that_counts(
    write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "lab")
    write(profile("FIRST", "lab") + profile("OTHER"))
    found = aws.credentials()
    write(profile("OTHER") + profile("SECOND", "lab"))
    assert found.get_frozen_credentials().access_key == "SECOND"


def test_variables_go_before_files_and_are_not_watched(write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    write(profile("FIRST"))
    found = aws.credentials()
    write(profile("SECOND"))
    assert found.get_frozen_credentials().access_key == ACCESS_KEY
    assert not isinstance(found, credentials.WatchedCredentials)


def test_the_file_is_looked_at_once_a_second_at_most(write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "LOOK_S", 3600.0)
    write(profile("FIRST"))
    found = aws.credentials()
    write(profile("SECOND"))
    assert found.get_frozen_credentials().access_key == "FIRST"


async def test_a_client_that_is_open_signs_with_the_new_keys(write: Callable[[str], None], moto_server: Server) -> None:
    write(profile("NOBODY"))
    async with aws.client("sqs", endpoint_url=moto_server.endpoint_url) as client:
        with pytest.raises(CredentialsExpired, match=r"replace the profile 'default' in .*credentials"), aws.errors("SQS"):
            await client.list_queues()
        write(profile(ACCESS_KEY))
        with aws.errors("SQS"):
            await client.create_queue(QueueName=unique("renewed"))


async def test_a_stand_in_s_keys_go_before_everything(monkeypatch: pytest.MonkeyPatch, moto_server: Server) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    async with aws.client("sqs", endpoint_url=moto_server.endpoint_url, keys=(ACCESS_KEY, SECRET_KEY)) as client:
        with aws.errors("SQS"):
            await client.list_queues()


# ---- between expiry and renewal


async def test_a_daemon_waits_for_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)

    async def call() -> str:
        if len(slept) < 500:
            raise CredentialsExpired("they are over")
        return "done"

    assert await outlast(call) == "done"
    assert max(slept) <= 5.0


async def test_a_permission_is_waited_for_as_long_as_its_caller_says(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def denied() -> None:
        raise AccessDenied("s3:GetObject")

    async def mistimed() -> None:
        if now < 1000:
            raise ClockIsWrong("ten minutes fast")

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with pytest.raises(AccessDenied):
        await outlast(denied, denied_for_s=60)
    assert 60 <= now < 66
    await outlast(mistimed, denied_for_s=60)
    assert now >= 1000


async def test_it_does_not_wait_for_what_no_renewal_mends_or_nobody_wants() -> None:
    async def refused() -> None:
        raise NotAllowed("ask for a policy")

    async def expired() -> None:
        raise CredentialsExpired("they are over")

    def cancelled() -> None:
        raise NotFound("nobody wants it")

    with pytest.raises(NotAllowed, match="policy"):
        await outlast(refused)
    with pytest.raises(NotFound, match="nobody wants it"):
        await outlast(expired, check=cancelled)


def test_how_to_renew_depends_on_where_they_are(write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "log in again" in credentials.renewal()
    write(profile("FIRST"))
    assert f"replace the profile 'default' in {os.environ['AWS_SHARED_CREDENTIALS_FILE']}" in credentials.renewal()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    assert "set AWS_ACCESS_KEY_ID" in credentials.renewal()
