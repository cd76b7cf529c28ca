"""Hand-made cases agree with NumPy: shapes, element types, every operation, through the Python client and real processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tilefleet
from tests.acceptance.deployment import QUICK, Place, assert_agrees, place
from tilefleet.blocking import BlockingClient
from tilefleet.errors import BadInput

TILE = (256, 256)
SHAPES = (
    (1, 1, 1), (1, 300, 1), (300, 1, 290), (300, 7, 1), (257, 511, 700), (511, 256, 257), (0, 3, 4), (3, 0, 4), (3, 4, 0),
)  # fmt: skip
DTYPES = ("bool", "int8", "int64", "uint64", "float32", "float64", "complex128")
MORE = [pytest.param(dtype, marks=pytest.mark.thorough) for dtype in ("int16", "int32", "uint8", "uint16", "uint32", "complex64")]
MIXED = (
    ("bool", "int8"), ("int8", "uint8"), ("int64", "uint64"), ("uint32", "int32"), ("int16", "float32"), ("int64", "float32"),
    ("float32", "float64"), ("bool", "complex64"), ("float64", "complex64"), ("uint64", "complex128"),
)  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlockingClient]:
    with place(tmp_path_factory.mktemp("numpy"), f'{QUICK}[local]\nworkers = 2\nmemory = "600 MiB"\n') as here:
        yield from _connected(here)


def _connected(here: Place) -> Iterator[BlockingClient]:
    with tilefleet.connect(here.config) as client:
        yield client


def matrix(rows: int, cols: int, dtype: str, seed: int = 0) -> np.ndarray:
    """Any value of an integer type, so that products wrap around; floats of both signs."""
    rng = np.random.default_rng((rows, cols, seed))
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.integers(0, 2, (rows, cols)).astype(bool)
    if kind.kind in "iu":
        info = np.iinfo(kind)
        return rng.integers(info.min, info.max, (rows, cols), dtype=kind, endpoint=True)
    parts = rng.standard_normal((2, rows, cols))
    return np.asarray(parts[0] + 1j * parts[1] if kind.kind == "c" else parts[0]).astype(kind)


def result(operation: Any) -> np.ndarray:
    operation.wait()
    return np.asarray(operation.result())


@pytest.mark.parametrize("dtype", [*DTYPES, *MORE])
def test_products_of_every_shape(client: BlockingClient, dtype: str) -> None:
    pairs = [(matrix(m, k, dtype), matrix(k, n, dtype, 1)) for m, k, n in SHAPES]
    for (a, b), product in zip(pairs, [client.multiply(a, b, tile=TILE) for a, b in pairs], strict=True):
        assert_agrees(result(product), a @ b, a.shape[1])


@pytest.mark.parametrize("dtypes", MIXED, ids="-".join)
def test_mixed_types_are_promoted(client: BlockingClient, dtypes: tuple[str, str]) -> None:
    a, b, c = matrix(300, 270, dtypes[0]), matrix(270, 260, dtypes[1]), matrix(300, 270, dtypes[1], 2)
    submitted = [client.multiply(a, b, tile=TILE), client.multiply(b.T, a.T, tile=TILE), client.add(a, c), client.subtract(a, c)]
    product, turned, total, difference = map(result, submitted)
    assert_agrees(product, a @ b, 270)
    assert_agrees(turned, b.T @ a.T, 270)
    assert_agrees(total, a + c)
    assert_agrees(difference, a - c)


@pytest.mark.parametrize("dtype", [*DTYPES, *MORE])
def test_sums_copies_and_transposes(client: BlockingClient, dtype: str) -> None:
    shapes = [(1, 300), (257, 511), (0, 5), (5, 0)]
    factor: Any = {"b": 3, "i": -3, "u": 3, "f": 0.25, "c": 1 - 2j}[np.dtype(dtype).kind]
    pairs = [(matrix(*shape, dtype), matrix(*shape, dtype, 1)) for shape in shapes]
    submitted = [
        (
            client.add(a, b.T, transpose_b=True, tile=TILE), client.scale(a, factor), client.transpose(a, tile=(100, 60)),
        )
        for a, b in pairs
    ]  # fmt: skip
    for (a, b), (total, scaled, turned) in zip(pairs, submitted, strict=True):
        assert_agrees(result(total), a + b)
        assert_agrees(result(scaled), factor * a)
        assert_agrees(result(turned), a.T)


@pytest.mark.parametrize(
    ("dtypes", "alpha", "beta"),
    [
        ("int64 int64 int64", 3, -2), ("int8 int8 int8", 2, None), ("int8 int16 float32", 2, 0.5),
        ("float64 float64 float64", -0.5, 2), ("float32 float32 float64", None, 1), ("uint8 uint8 int64", 2, -1),
        ("float32 complex64 complex128", 1 + 2j, 0.5), ("bool bool int32", None, 7), ("float64 float64 int8", 1e-3, None),
    ],
)  # fmt: skip
def test_the_fused_form(client: BlockingClient, dtypes: str, alpha: Any, beta: Any) -> None:
    """``alpha * (op(A) @ op(B)) + beta * op(C)``, promoted step by step, with each of them transposed or not."""
    m, k, n = 257, 511, 300
    kinds = dtypes.split()
    a, b, c = (matrix(*shape, dtype) for shape, dtype in zip(((m, k), (k, n), (m, n)), kinds, strict=True))
    expected = a @ b if alpha is None else alpha * (a @ b)
    expected = expected + (c if beta is None else beta * c)
    ways = [(ta, tb, ta != tb) for ta in (False, True) for tb in (False, True)]
    submitted = [
        client.multiply(
            a.T if ta else a, b.T if tb else b, c=c.T if tc else c, transpose_a=ta, transpose_b=tb, transpose_c=tc,
            alpha=alpha, beta=beta, tile=TILE,
        )
        for ta, tb, tc in ways
    ]  # fmt: skip
    for operation in submitted:
        assert_agrees(result(operation), expected, k, np.result_type(a, b))


def test_nan_and_infinity_are_where_numpy_has_them(client: BlockingClient) -> None:
    a, b = matrix(300, 280, "float64"), matrix(280, 270, "float64", 1)
    a[3, 5], a[7, 0], a[299, 279], b[0, 0], b[100, 269] = np.nan, np.inf, -np.inf, -np.inf, np.nan
    with np.errstate(invalid="ignore"):
        expected, total, scaled = a @ b, a + a * -1, a * 0.0
    product, sums, zeros = client.multiply(a, b, tile=TILE), client.add(a, a * -1), client.scale(a, 0.0)
    assert_agrees(result(product), expected, 280)
    assert_agrees(result(sums), total)
    assert_agrees(result(zeros), scaled)


def test_a_chain_of_operations_and_what_is_read_of_it(client: BlockingClient) -> None:
    """Results are operands; slices read what NumPy's do; verification agrees."""
    a, b = matrix(511, 257, "int64"), matrix(257, 300, "int64", 1)
    product = client.multiply(a, b, tile=TILE)
    product.wait()
    doubled = client.add(product, product)
    lazy, expected = product.result(), a @ b
    for index in [(3, 4), (slice(250, 262), slice(None)), (slice(None, None, 97), 299), (slice(400, 100, -50), slice(1, 9, 2))]:
        np.testing.assert_array_equal(lazy[index], expected[index])
    assert_agrees(result(doubled), 2 * expected)
    assert client.verify(product).wait().verdict


def test_random_depends_on_its_seed_alone(client: BlockingClient) -> None:
    for dtype, low, high in (("int8", -5, 5), ("bool", 0, 2), ("float32", -1, 1), ("complex128", 0, 1), ("uint64", 0, 2**63)):
        kwargs: dict[str, Any] = {"dtype": dtype, "low": low, "high": high, "seed": 11}
        submitted = [client.random((300, 515), **kwargs), client.random((300, 515), tile=(100, 64), **kwargs)]
        one, other = map(result, submitted)
        assert one.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(one, other)
        assert len(np.unique(one)) > 1
        parts = (one.real, one.imag) if one.dtype.kind == "c" else (one,)
        assert all(part.min() >= low and part.max() < high + (one.dtype.kind == "b") for part in parts)


def test_what_numpy_refuses_is_refused(client: BlockingClient) -> None:
    with pytest.raises(BadInput, match="does not subtract bool"):
        client.subtract(np.ones((2, 2), bool), np.ones((2, 2), bool))
    with pytest.raises(BadInput, match="does not fit"):
        client.scale(np.ones((2, 2), np.int8), 300)
    with pytest.raises(BadInput, match="rows of the second"):
        client.multiply(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(BadInput, match="equal shapes"):
        client.add(np.ones((2, 3)), np.ones((1, 3)))
