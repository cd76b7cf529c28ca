"""AWS credentials that are renewed while we run: by replacing the file they came from, as people of an AWS Academy Learner Lab
do every few hours, or whoever rotates keys.

The rules: nothing is started again for it. The chain of credentials (environment, files, role) is resolved once; when it
ended at a file, that file is looked at before a request, at most once a second, and the chain is resolved again when it
changed. Between expiry and renewal a command says which file to replace, and a daemon says so and waits. So it does while
a permission is missing, or the clock is wrong: whoever can mend these does it while we run, too.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from tilefleet.backoff import Backoff
from tilefleet.errors import NotAllowed

T = TypeVar("T")

LOOK_S = 1.0  # a stat takes 2 µs; nobody notices a renewal sooner
SAY_EVERY_S = 60.0  # that a daemon waits for credentials

_INVALID = {
    "AuthFailure", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken",
    "RequestExpired", "UnrecognizedClientException",
}  # fmt: skip
LAB_IS_OVER = "voc-cancel-cred"  # the policy that an AWS Academy lab puts on its user when its time is over
_NOT_FOR_THEM = (
    "not authorized for"  # EC2's AuthFailure also says that an image or a snapshot is somebody else's: no renewal helps
)
_NOT_FROM_FILES = {"env", "explicit", "iam-role", "container-role"}


class Withheld(NotAllowed):
    """AWS refuses now what it may allow later, when somebody has mended something outside of us. On the wire, and to the shell,
    it is a NotAllowed like others."""


class CredentialsExpired(Withheld):
    """AWS does not know these credentials, or not any more; others may work under the same settings."""


class AccessDenied(Withheld):
    """AWS knows these credentials, and does not let them do this."""


class ClockIsWrong(Withheld):
    """AWS does not take what was signed at this time: the clock of this machine is minutes off."""


def are_invalid(code: str, text: str = "") -> bool:
    """Whether AWS refused the credentials themselves, as against what they may do."""
    if code == "AuthFailure" and _NOT_FOR_THEM in text.lower():
        return False
    return code in _INVALID or LAB_IS_OVER in text


def renewal() -> str:
    """How the credentials that are in use are renewed, for the end of a sentence."""
    if os.environ.get("AWS_ACCESS_KEY_ID") and not os.environ.get("AWS_PROFILE"):
        return (
            "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN to new ones, and start what runs with them again"
        )
    file = files()[0]
    if file.is_file():
        return (
            f"replace the profile {os.environ.get('AWS_PROFILE') or 'default'!r} in {file}; what runs takes the new ones at once"
        )
    return "log in again, or mend the role of this machine"


def files() -> tuple[Path, Path]:
    """The credentials file and the config file of AWS tools."""
    return (
        Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser(),
        Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser(),
    )


class _Watched:
    """Credentials as botocore asks for them, with an eye on the files they came from."""

    def __init__(self, found: Any, load: Callable[[], Any]) -> None:
        self._found = found
        self._load = load
        self._seen = _stamp()
        self._looked_at = time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)

    def _changed(self) -> tuple[object, ...] | None:
        """What the files are now, if that is not what they were; at most once a second."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return None
        self._looked_at = now
        stamp = _stamp()
        return stamp if stamp != self._seen else None

    def _take(self, found: Any, stamp: tuple[object, ...]) -> None:
        """A file that is being written may have nothing to offer yet: then the old ones stay, and it is read again."""
        if found is not None:
            self._found, self._seen = found, stamp
            if (log := _logger()) is not None:
                log.info("credentials_renewed", method=found.method)


class WatchedCredentials(_Watched):
    """For boto3 and obstore."""

    def get_frozen_credentials(self) -> Any:
        """The keys to sign with just now."""
        if stamp := self._changed():
            self._take(_quietly(self._load), stamp)
        return self._found.get_frozen_credentials()


class AsyncWatchedCredentials(_Watched):
    """For aiobotocore."""

    async def get_frozen_credentials(self) -> Any:
        """The keys to sign with just now."""
        if stamp := self._changed():
            self._take(await _quietly_async(self._load), stamp)
        return await self._found.get_frozen_credentials()


def are_from_files(found: Any) -> bool:
    """Whether these may be renewed by replacing a file: not those of variables and roles, which botocore takes care of."""
    return found is not None and found.method not in _NOT_FROM_FILES


def _stamp() -> tuple[object, ...]:
    return tuple(_stamp_of(path) for path in files())


def _stamp_of(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _quietly(load: Callable[[], Any]) -> Any:
    from botocore.exceptions import BotoCoreError

    try:
        return load()
    except (BotoCoreError, OSError, ValueError) as error:
        if (log := _logger()) is not None:
            log.warning("credentials_unreadable", error=str(error))
        return None


async def _quietly_async(load: Callable[[], Awaitable[Any]]) -> Any:
    from botocore.exceptions import BotoCoreError

    try:
        return await load()
    except (BotoCoreError, OSError, ValueError) as error:
        if (log := _logger()) is not None:
            log.warning("credentials_unreadable", error=str(error))
        return None


async def outlast(
    call: Callable[[], Awaitable[T]], *, check: Callable[[], None] = lambda: None, denied_for_s: float = float("inf")
) -> T:
    """The call's answer, however long it takes until what withholds it is mended; for daemons only.

    ``check`` is asked before each further try; what it raises ends the wait. ``denied_for_s``: how long a permission is waited
    for, which may be one that nobody means to give; then AccessDenied is raised.
    """
    backoff, said_at, began = Backoff(0.5, 5.0), float("-inf"), time.monotonic()
    while True:
        try:
            return await call()
        except Withheld as error:
            if isinstance(error, AccessDenied) and time.monotonic() - began >= denied_for_s:
                raise
            if time.monotonic() - said_at >= SAY_EVERY_S:
                said_at = time.monotonic()
                _say(error)
        check()
        await backoff.sleep()


def _say(error: Withheld) -> None:
    if (log := _logger()) is None:
        return
    if isinstance(error, AccessDenied):
        log.warning("access_denied", error=str(error))
    elif isinstance(error, ClockIsWrong):
        log.warning("clock_is_wrong", error=str(error))
    else:
        log.warning("credentials_expired", error=str(error))


def _logger() -> Any | None:
    """Only a daemon logs, and has set structlog up; a command has other things to print, and no time to import it (50 ms)."""
    structlog = sys.modules.get("structlog")
    return structlog.get_logger() if structlog is not None and structlog.is_configured() else None
