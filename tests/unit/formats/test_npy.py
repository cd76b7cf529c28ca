"""npy headers: what NumPy writes is understood, what it does not write is refused."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilefleet.dtypes import SUPPORTED
from tilefleet.errors import BadInput
from tilefleet.formats import npy


def saved(array: Any, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), version=version)
    return file.getvalue()


def with_header(text: str) -> bytes:
    return npy.MAGIC + b"\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_headers_of_numpy_are_understood(name: str, version: tuple[int, int]) -> None:
    for order in "CF":
        for dtype in {np.dtype(name), np.dtype(name).newbyteorder(">")}:
            array = np.ones((3, 5), dtype, order=order)  # type: ignore[call-overload]
            data = saved(array, version)
            header = npy.parse_header(data)
            assert header.shape == (3, 5)
            assert header.dtype == np.dtype(name).newbyteorder("<")
            assert header.is_fortran_order == (order == "F")
            assert header.is_big_endian == (dtype.byteorder == ">")
            assert len(data) - header.data_offset_bytes == array.nbytes


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**12), st.integers(0, 10**12), st.sampled_from(SUPPORTED))
def test_our_header_is_byte_for_byte_that_of_numpy(rows: int, cols: int, name: str) -> None:
    file = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(name))
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": (rows, cols)})
    header = npy.header_bytes((rows, cols), np.dtype(name))
    assert header == file.getvalue()
    assert len(header) % 64 == 0
    assert npy.parse_header(header)[:2] == ((rows, cols), np.dtype(name).name)


def test_numpy_loads_what_we_write() -> None:
    array = np.arange(6, dtype="int16").reshape(2, 3)
    loaded = np.load(io.BytesIO(npy.header_bytes((2, 3), array.dtype) + array.tobytes()), allow_pickle=False)
    assert (loaded == array).all()


def test_python_2_shapes_are_understood() -> None:
    assert npy.parse_header(with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (3L, 4L), }\n")).shape == (3, 4)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "not in npy format"),
        (b"PK\x03\x04", "not in npy format"),
        (npy.MAGIC, "of npy version 0"),
        (npy.MAGIC + b"\x04\x00\x00\x00", "of npy version 4"),
        (npy.MAGIC + b"\x01\x00\x10", "ends inside its header"),
        (npy.MAGIC + b"\x01\x00\x76\x00{'descr'", "ends inside its header"),
        (npy.MAGIC + b"\x02\x00\xff\xff\xff\xff{", "claims a header of 4294967295 bytes"),
        (saved(np.array([[None, 1]], object)), "pickled Python objects, which are never loaded"),
        (saved(np.zeros((2, 2), [("a", "f8")])), "records with named fields"),
        (saved(np.zeros((2, 2), "f2")), "element type 'float16'"),
        (saved(np.zeros((2, 2), "M8[s]")), "does not compute with"),
        (saved(np.array([["a", "b"]])), "does not compute with"),
        (saved(np.zeros(5)), r"reshape it to a column of shape \(5, 1\)"),
        (saved(np.zeros(())), "has 0 dimensions"),
        (saved(np.zeros((2, 2, 2))), "has 3 dimensions"),
        (with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 4), }\n"), "impossible shape"),
        (with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (True, 4), }\n"), "impossible shape"),
        (with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 10000000000000000000), }\n"), "impossible shape"),
        (with_header("{'descr': '<f8', 'fortran_order': 1, 'shape': (1, 4), }\n"), "damaged npy header"),
        (with_header("{'descr': '<f8', 'fortran_order': False}\n"), "damaged npy header"),
        (with_header("__import__('os').getcwd()\n"), "damaged npy header"),
        (with_header("(" * 5000 + "\n"), "damaged npy header"),
        (with_header("\n"), "damaged npy header"),
    ],
)
def test_anything_else_gets_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(BadInput, match=f"^a.npy .*{sentence}"):
        npy.parse_header(data, "a.npy")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 199))
def test_damage_never_raises_anything_but_bad_input(noise: bytes, at: int) -> None:
    data = bytearray(saved(np.ones((2, 3))))
    data[at : at + len(noise)] = noise
    try:
        header = npy.parse_header(bytes(data), "a.npy")
    except BadInput:
        return
    assert header.dtype in SUPPORTED
