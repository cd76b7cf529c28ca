"""Random blocks: the same for ever, whatever the tiles."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.kernels.examples import DTYPES
from tilefleet.errors import BadInput
from tilefleet.matrix import Grid, Rect
from workerd.kernels.randomness import random_block

WHOLE = Rect(0, 300, 0, 520)


def limits(dtype: np.dtype) -> tuple[str, str]:
    return ("0", "2") if dtype.kind == "b" else ("0", "100")


def block(rect: Rect, dtype: np.dtype, seed: int = 11, shape: tuple[int, int] = (300, 520)) -> np.ndarray:
    return random_block(rect, shape, dtype, *limits(dtype), seed)


def digest(x: np.ndarray) -> str:
    return hashlib.sha256(x.astype(x.dtype.newbyteorder("<")).tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_golden_hashes(dtype: np.dtype) -> None:
    assert digest(block(WHOLE, dtype)) == GOLDEN[dtype.name]


@pytest.mark.parametrize(("low", "high", "dtype"), [("-9223372036854775808", "9223372036854775808", "int64"),
                                                     ("0", "18446744073709551616", "uint64"),
                                                     ("-5000000000", "7000000001", "int64"),
                                                     ("-1.5", "2.25", "float32"), ("-1-2j", "1+3j", "complex128")])  # fmt: skip
def test_golden_hashes_of_other_ranges(low: str, high: str, dtype: str) -> None:
    assert digest(random_block(WHOLE, (300, 520), np.dtype(dtype), low, high, 3)) == GOLDEN[f"{low} {high}"]


@settings(max_examples=30, deadline=None)
@given(tile=st.tuples(st.integers(1, 300), st.integers(1, 400)), dtype=st.sampled_from(DTYPES))
def test_any_cut_gives_the_same_matrix(tile: tuple[int, int], dtype: np.dtype) -> None:
    tile = (max(tile[0], 40), max(tile[1], 40))
    grid = Grid((300, 520), tile)
    joined = np.empty((300, 520), dtype)
    for i, j in grid.tiles_in(WHOLE):
        rect = grid.rect(i, j)
        joined[rect.slices_within(WHOLE)] = block(rect, dtype)
    np.testing.assert_array_equal(joined, block(WHOLE, dtype))


def test_a_larger_matrix_agrees_on_the_common_corner_and_seeds_and_cells_differ() -> None:
    dtype = np.dtype(np.float64)
    small, large = block(Rect(0, 30, 0, 40), dtype, shape=(30, 40)), block(WHOLE, dtype)
    np.testing.assert_array_equal(small, large[:30, :40])
    assert not np.isin(block(WHOLE, dtype, seed=12), large).any()
    assert len(np.unique(large)) == large.size


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_elements_are_uniform_in_their_range(dtype: np.dtype) -> None:
    x = block(WHOLE, dtype)
    parts = [x.real, x.imag] if dtype.kind == "c" else [x]
    for part in parts:
        top = 2 if dtype.kind == "b" else 100
        counts, _ = np.histogram(part.astype(np.float64), bins=2 if dtype.kind == "b" else 10, range=(0, top))
        assert (abs(counts / x.size - 1 / len(counts)) < 0.01).all()


def test_integers_of_every_width_reach_both_ends() -> None:
    x = random_block(WHOLE, (300, 520), np.dtype("int8"), "-128", "128", 1)
    assert (x.min(), x.max()) == (-128, 127)
    y = random_block(WHOLE, (300, 520), np.dtype("int64"), str(-(2**62)), str(2**62), 1)
    assert abs(float(y.mean())) < 2**62 * 0.01 and y.min() < -0.999 * 2**62 and y.max() > 0.999 * 2**62
    one = random_block(Rect(0, 4, 0, 4), (4, 4), np.dtype("uint64"), str(2**64 - 1), str(2**64), 1)
    assert (one == np.uint64(2**64 - 1)).all()


def test_floats_stay_below_the_upper_end() -> None:
    high = np.nextafter(np.float32(1), np.float32(2))
    x = random_block(WHOLE, (300, 520), np.dtype("float32"), "1", repr(float(high)), 1)
    assert (x == 1).all()
    wide = random_block(WHOLE, (300, 520), np.dtype("float64"), "-1.7e308", "1.7e308", 1)
    assert np.isfinite(wide).all() and wide.min() < -1.6e308 and wide.max() > 1.6e308


@pytest.mark.parametrize(
    ("low", "high", "dtype", "sentence"),
    [("1", "1", "int32", "leave nothing"), ("2", "1", "float64", "leave nothing"), ("0", "0.5", "int32", "whole numbers"),
     ("0", "257", "uint8", "holds 0 to 255"), ("-1", "2", "bool", "holds 0 to 1"), ("0", "1e39", "float32", "beyond"),
     ("0", "1j", "float64", "are real"), ("a", "1", "float64", "not a number"), ("nan", "1", "int8", "whole numbers"),
     ("0", "1+0j", "complex64", "leave nothing")],
)  # fmt: skip
def test_ranges_that_cannot_be(low: str, high: str, dtype: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        random_block(Rect(0, 1, 0, 1), (1, 1), np.dtype(dtype), low, high, 0)


GOLDEN = {
    "-1-2j 1+3j": "096f5592315cd461",
    "-1.5 2.25": "910c71902f79993c",
    "-5000000000 7000000001": "28319650ede9c4f1",
    "-9223372036854775808 9223372036854775808": "5b001ad7fda3862b",
    "0 18446744073709551616": "16e79ec4cef77eeb",
    "bool": "19544b0feacefd71",
    "complex128": "1162cce761a7c0d4",
    "complex64": "efb110f9eca31994",
    "float32": "92519bf7f887d990",
    "float64": "71ef56561a774e32",
    "int16": "dee29a044b2d191a",
    "int32": "c16d11b222a2ac2b",
    "int64": "993184b5fee75869",
    "int8": "7b6e812804de640e",
    "uint16": "dee29a044b2d191a",
    "uint32": "c16d11b222a2ac2b",
    "uint64": "993184b5fee75869",
    "uint8": "7b6e812804de640e",
}
