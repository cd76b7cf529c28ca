"""What all that is sent or kept as JSON has in common."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from tilefleet.errors import BadInput

T = TypeVar("T")
Count = Annotated[int, msgspec.Meta(ge=0)]


class Wire(msgspec.Struct, frozen=True, gc=False):
    """Base of everything that is sent. Trees of plain values: none can be in a cycle, so the collector need not visit them."""


def decoded(decoder: msgspec.json.Decoder[T], body: str | bytes) -> T:
    """Raises BadInput for what is not of the decoder's type."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeError) as error:
        raise BadInput(f"not a message of ours: {error}") from error
