"""Small results of jobs: kept in the store, and sent with the completion."""

from __future__ import annotations

import math
import sys

import msgspec

from tilefleet.dtypes import DtypeName
from tilefleet.wire import Wire, decoded


def finite(residual: float) -> float:
    """JSON has no inf and no NaN, which msgspec sends as null, that is as "not checked": the largest float stands for both."""
    return residual if math.isfinite(residual) else sys.float_info.max


class CsvFacts(Wire, tag="csv", frozen=True):
    """What a scan found: lines beginning in each piece of its bytes, columns (0 when there is no line), widest type."""

    rows: tuple[int, ...]
    cols: int
    dtype: DtypeName


class CheckFacts(Wire, tag="check", frozen=True):
    """``worst``: largest residual as a fraction of what rounding may cause (products); ``mismatches``: elements that differ."""

    worst: float = 0.0
    mismatches: int = 0
    first_row: int = -1

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "worst", finite(self.worst))


class BytesFact(Wire, tag="bytes", frozen=True):
    """Length of what a job wrote."""

    n_bytes: int


Facts = CsvFacts | CheckFacts | BytesFact

_FACTS: msgspec.json.Decoder[Facts] = msgspec.json.Decoder(Facts)


def decode_facts(body: bytes) -> Facts:
    """Raises BadInput for anything that is not a fact of ours."""
    return decoded(_FACTS, body)
