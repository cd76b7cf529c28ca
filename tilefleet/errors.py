"""Every way tilefleet says no.

The rule: an error that reaches a person is one clear sentence naming what is wrong, where, and the way out.
The class says what the *caller* should do about it; ``exit_code`` is what the command ends with (docs/reference/cli.md).
"""

from __future__ import annotations

from typing import ClassVar

import msgspec


def printable(text: str) -> str:
    """The text in one line, in which what a terminal would take for an order (control, direction) is an escape."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class TilefleetError(Exception):
    """Base of all errors meant for people. ``str(error)`` is the sentence to show, whatever names of files stand in it."""

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1
    is_retryable: ClassVar[bool] = False

    def __init__(self, sentence: str = "") -> None:
        super().__init__("\n".join(map(printable, sentence.split("\n"))))


class BadInput(TilefleetError):
    """The user's data or arguments cannot be computed with: shapes, dtypes, malformed files."""

    code = "bad_input"
    exit_code = 3


class NotFound(TilefleetError):
    """A file, object, bucket, queue or operation that does not exist."""

    code = "not_found"
    exit_code = 4


class NotAllowed(TilefleetError):
    """Credentials that are absent, expired, or lack a permission."""

    code = "not_allowed"
    exit_code = 5


class DoesNotFit(TilefleetError):
    """Memory or storage is too small for what was asked."""

    code = "does_not_fit"
    exit_code = 6


class Unreachable(TilefleetError):
    """A service did not answer in time; the same call may succeed later."""

    code = "unreachable"
    exit_code = 7
    is_retryable = True


class OperationFailed(TilefleetError):
    """An accepted operation ended without a result for a reason that is not the user's input."""

    code = "operation_failed"
    exit_code = 8


class WrongResult(TilefleetError):
    """A check of a result against its operands failed."""

    code = "wrong_result"
    exit_code = 9


class BadConfig(TilefleetError):
    """A configuration file that cannot be used; a line for each mistake."""

    code = "bad_config"
    exit_code = 10


class AlreadyExists(TilefleetError):
    """The output is there already and may not be replaced."""

    code = "already_exists"
    exit_code = 11


class Cancelled(TilefleetError):
    """The operation was cancelled."""

    code = "cancelled"
    exit_code = 12


class NodesFailed(TilefleetError):
    """Some nodes of a fleet are not what they should be; the rest work."""

    code = "nodes_failed"
    exit_code = 13


class ErrorInfo(msgspec.Struct, frozen=True):
    """An error as it travels in messages and status objects."""

    code: str
    sentence: str

    @classmethod
    def of(cls, error: BaseException) -> ErrorInfo:
        """The wire form of any exception; one that is not ours is reported as internal, with its type."""
        if isinstance(error, TilefleetError):
            return cls(error.code, str(error))
        return cls(TilefleetError.code, printable(f"{type(error).__name__}: {error}".removesuffix(": ")))

    def to_exception(self) -> TilefleetError:
        """The exception a client raises for this error."""
        return _BY_CODE.get(self.code, TilefleetError)(self.sentence)


_BY_CODE: dict[str, type[TilefleetError]] = {
    cls.code: cls
    for cls in (
        TilefleetError, BadInput, NotFound, NotAllowed, DoesNotFit, Unreachable,
        OperationFailed, WrongResult, BadConfig, AlreadyExists, Cancelled, NodesFailed,
    )
}  # fmt: skip
