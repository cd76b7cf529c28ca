"""What fuzzing found, once: each input was trouble before."""

from __future__ import annotations

import json

import pytest

from tests.fuzz.doors import DAMAGED_PLAN, doors
from tests.fuzz.trial import trouble_with
from tests.unit.golden.examples import EXAMPLES, encoded

ARRAY = (
    b'{"zarr_format": 3, "node_type": "array", "shape": [4, 4], "data_type": "float64", "chunk_grid": {"name": "regular", '
    b'"configuration": {"chunk_shape": [2, 2]}}, "chunk_key_encoding": {"name": "default"}, "codecs": [{"name": "bytes", '
    b'"configuration": {"endian": "little"}}], "fill_value": FILL}'
)
OTHER_TYPE = json.loads(encoded(EXAMPLES["job-gemm"]))
OTHER_TYPE["work"]["epilogue"]["c"]["matrix"]["dtype"] = "complex256"
FOUND = [
    ("names", b"012t64", "NumPy parses it as Python"),
    ("names", b"T", "a type that NumPy has but can't turn round"),
    ("names", b"a", "a type that NumPy warns of"),
    ("zarr", b'{"zarr_format": 3, "\xeb": 1}', "no UTF-8"),
    ("zarr", ARRAY.replace(b"FILL", b"9" * 400), "a fill value that no float holds"),
    ("places", b"s3://b[[[/a.npy", "a bracket where a host stands"),
    ("places", b"file:/\xff\xfe/a.npy", "a name that is no UTF-8"),
    ("places", b"file:///\r\nmp/a", "a name with a line in it"),
    ("client message", b'{"type": "s\xe2\x80\xaebmit"}', "a sign that turns the direction of a terminal"),
    ("config", b"a = " + b"[" * 5000, "nested deeper than Python goes"),
    ("csv", b"1," + b"9" * 100_000 + b"x\n", "a number that is long, and none"),
    ("csv", b"1" + b" " * 300_000 + b"2\n", "many blanks in the middle of a field"),
    ("csv", b'1,"' + b" " * 300_000 + b"1\n", "many blanks after a quote that nothing closes"),
    ("job", json.dumps(OTHER_TYPE).encode(), "a type that NumPy has and we don't"),
    ("plan", DAMAGED_PLAN, "a plan whose matrix has no tiles; it ended the coordinator"),
]


@pytest.mark.parametrize(("door", "data"), [pytest.param(door, data, id=why) for door, data, why in FOUND])
def test_what_was_found_is_mended(door: str, data: bytes) -> None:
    assert trouble_with(doors()[door], data) is None
