"""Requests: what can be computed, what the result is by NumPy's rules, and the sentences for everything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefleet import staging
from tilefleet.dtypes import SUPPORTED
from tilefleet.errors import BadInput
from tilefleet.matrix import MatrixRef, Operand
from tilefleet.records import Output, RandomSpec
from tilefleet.submission import Request, output_of, record_of, result_type, scalar_text, shown, verify_record

OP = "0123456789ab"
dtypes = st.sampled_from(SUPPORTED)
lengths = st.integers(0, 5)


def npy(name: str, shape: tuple[int, int] | None, dtype: str | None = "float64") -> MatrixRef:
    return MatrixRef(f"file:///data/{name}", "npy", shape, dtype)


def record(kind: str, operands: dict[str, Operand], **options: Any) -> Any:
    given_sources = {name: operand.matrix for name, operand in operands.items()}
    return record_of(Request(kind=kind, **given_sources, **options), operands, Output(), operation=OP)  # type: ignore[arg-type]


def refusal(kind: str, operands: dict[str, Operand], **options: Any) -> str:
    with pytest.raises(BadInput) as caught:
        record(kind, operands, **options)
    return str(caught.value)


@given(lengths, lengths, lengths, dtypes, dtypes, dtypes, st.booleans(), st.booleans())
def test_the_result_of_a_product_is_numpys(
    m: int, k: int, n: int, a: str, b: str, c: str, is_a_transposed: bool, is_b_transposed: bool
) -> None:
    operands = {
        "a": Operand(npy("a.npy", (k, m) if is_a_transposed else (m, k), a), is_a_transposed),
        "b": Operand(npy("b.npy", (n, k) if is_b_transposed else (k, n), b), is_b_transposed),
        "c": Operand(npy("c.npy", (m, n), c)),
    }
    expected = 2 * (np.ones((m, k), a) @ np.ones((k, n), b)) + 0.5 * np.ones((m, n), c)
    assert result_type(record("multiply", operands, alpha=2, beta=0.5)) == (expected.shape, expected.dtype.name)


@given(dtypes, dtypes, st.sampled_from(["add", "subtract"]))
def test_the_result_of_a_sum_is_numpys(a: str, b: str, kind: str) -> None:
    operands = {"a": Operand(npy("a.npy", (2, 3), a)), "b": Operand(npy("b.npy", (2, 3), b))}
    left, right = np.ones((2, 3), a), np.ones((2, 3), b)
    if kind == "subtract" and a == b == "bool":
        assert "bool" in refusal(kind, operands)
    else:
        expected = left + right if kind == "add" else left - right
        assert result_type(record(kind, operands)) == ((2, 3), expected.dtype.name)


@given(dtypes, st.sampled_from([3, -1, 0.5, 1 + 2j, 300, 10**30]))
def test_the_result_of_scaling_is_numpys(dtype: str, alpha: complex) -> None:
    operands = {"a": Operand(npy("a.npy", (2, 3), dtype))}
    try:
        expected = np.ones((2, 3), dtype) * alpha
    except OverflowError:
        assert "does not fit" in refusal("scale", operands, alpha=alpha)
        return
    if expected.dtype != object:
        assert result_type(record("scale", operands, alpha=alpha)) == ((2, 3), expected.dtype.name)


def test_shapes_that_do_not_match_name_both_files_both_shapes_and_the_way_out() -> None:
    operands = {"a": Operand(npy("a.npy", (3, 4))), "b": Operand(npy("b.npy", (6, 4)))}
    assert refusal("multiply", operands) == (
        "/data/a.npy is 3×4 and /data/b.npy is 6×4: the columns of the first (4) must equal the rows of the second (6)"
        "; did you mean to transpose the second (--transpose-b)?"
    )
    operands["b"] = Operand(npy("b.npy", (3, 4)))
    operands["a"] = Operand(npy("a.npy", (3, 5)))
    assert refusal("multiply", operands).endswith("did you mean to transpose the first (--transpose-a)?")
    assert "the transpose of /data/a.npy is 5×3" in refusal(
        "multiply", {"a": Operand(npy("a.npy", (3, 5)), True), "b": Operand(npy("b.npy", (4, 2)))}
    )


def test_sums_do_not_broadcast() -> None:
    sentence = refusal("add", {"a": Operand(npy("a.npy", (3, 4))), "b": Operand(npy("b.npy", (1, 4)))})
    assert "3×4" in sentence
    assert "1×4" in sentence
    assert "no broadcasting" in sentence


def test_c_must_have_the_shape_of_the_product() -> None:
    operands = {name: Operand(npy(f"{name}.npy", (3, 3))) for name in "ab"} | {"c": Operand(npy("c.npy", (3, 1)))}
    assert refusal("multiply", operands) == ("/data/c.npy is 3×1 but the product it is added to is 3×3; the shapes must be equal")


def test_a_csv_passes_until_its_scan_and_is_then_checked_by_the_same_function() -> None:
    csv = MatrixRef("file:///data/a.csv", "csv")
    operands = {"a": Operand(csv), "b": Operand(npy("b.npy", (3, 4)))}
    before = record("multiply", operands)
    assert result_type(before) == (None, None)
    scanned = {"a": Operand(MatrixRef("file:///data/a.csv", "csv", (2, 5), "int64")), "b": operands["b"]}
    assert "/data/a.csv is 2×5" in refusal("multiply", scanned)
    typed = record("add", {"a": Operand(csv), "b": operands["b"]}, csv_dtype="complex64")
    assert result_type(typed) == ((3, 4), "complex128")


def test_transpose_is_a_copy_of_the_transposed_operand() -> None:
    made = record("transpose", {"a": Operand(npy("a.npy", (3, 4)))})
    assert made.a.is_transposed
    assert result_type(made).shape == (4, 3)


@pytest.mark.parametrize(
    ("kind", "names", "options", "said"),
    [
        ("multiply", "a", {}, "multiply needs matrix b"),
        ("add", "abc", {}, "add takes no matrix c"),
        ("add", "ab", {"alpha": 2}, "takes no factor alpha"),
        ("scale", "a", {}, "scale needs its factor"),
        ("scale", "a", {"alpha": "two"}, "'two' is not a number"),
        ("scale", "a", {"alpha": True}, "write 1"),
        ("multiply", "ab", {"beta": 2}, "beta was given without a matrix c"),
        ("multiply", "ab", {"tile": (0, 4)}, "two positive numbers"),
        ("multiply", "ab", {"csv_dtype": "float16"}, "float16"),
        ("convert", "a", {"dtype": "float16"}, "float16"),
        ("transpose", "a", {"dtype": "int8"}, "transpose takes no element type; convert its result"),
        ("random", "", {}, "random needs a shape"),
    ],
)
def test_requests_that_make_no_sense(kind: str, names: str, options: dict[str, Any], said: str) -> None:
    assert said in refusal(kind, {name: Operand(npy(f"{name}.npy", (3, 3))) for name in names}, **options)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (RandomSpec((2, -1), "float64", "0", "1", 0), "not one of a matrix"),
        (RandomSpec((2, 2), "object", "0", "1", 0), "object"),
        (RandomSpec((2, 2), "int8", "0", "300", 0), "int8"),
        (RandomSpec((2, 2), "float64", "1", "0", 0), "low must be below high"),
        (RandomSpec((2, 2), "float64", "0", "1", -1), "seed"),
    ],
)
def test_random_specs_that_cannot_be_drawn(spec: RandomSpec, said: str) -> None:
    assert said in refusal("random", {}, random=spec)


def test_random_has_the_shape_and_dtype_of_its_spec() -> None:
    assert result_type(record("random", {}, random=RandomSpec((2, 0), "uint8", "0", "256", 7))) == ((2, 0), "uint8")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("file:///x/c.zarr", ("zarr", False)),
        ("s3://b/c.zarr/", ("zarr", False)),
        ("file:///x/C.NPY", ("npy", False)),
        ("s3://b/c.csv", ("csv", False)),
        ("s3://b/c.csv.gz", ("csv", True)),
    ],
)
def test_the_name_of_an_output_says_its_format(url: str, expected: tuple[str, bool]) -> None:
    made = output_of(url)
    assert (made.format, made.is_gzip) == expected


def test_an_output_without_a_known_ending_is_refused() -> None:
    with pytest.raises(BadInput, match=r"\.zarr, \.npy, \.csv or \.csv\.gz"):
        output_of("file:///x/c.txt")


@given(st.one_of(st.integers(), st.floats(allow_nan=False), st.complex_numbers(allow_nan=False)))
def test_factors_survive_the_record(value: complex) -> None:
    from tilefleet.dtypes import parse_scalar

    text = scalar_text(value, "alpha")
    assert text is not None
    assert parse_scalar(text) == value
    assert scalar_text(np.float64(0.5), "alpha") == "0.5"


def test_matrices_are_shown_as_people_know_them() -> None:
    assert shown("file:///data/my%20matrix.npy") == "/data/my matrix.npy"
    assert shown(f"s3://bucket/fleet/staging/{OP}/b") == "operand b"
    assert shown("file:///home/me/staging/a.npy") == "/home/me/staging/a.npy"


def test_a_verification_names_operands_and_result_and_is_not_verified_itself() -> None:
    product = record("multiply", {"a": Operand(npy("a.npy", (3, 4))), "b": Operand(npy("b.npy", (4, 5)))})
    made = verify_record(product, npy("c.npy", (3, 5)), operation="b" * 12, submitted_by="me@here")
    assert (made.kind, made.verifies, made.a, made.checked) == ("verify", OP, product.a, npy("c.npy", (3, 5)))
    assert result_type(made).shape == (3, 5)
    with pytest.raises(BadInput, match="itself a verification"):
        verify_record(made, npy("c.npy", (3, 5)), operation="c" * 12, submitted_by="me@here")


def test_a_vector_is_told_in_the_singular() -> None:
    with pytest.raises(BadInput, match=r"matrix b has 1 dimension, not 2"):
        staging._array(np.ones(3), "b")
    with pytest.raises(BadInput, match=r"matrix b has 3 dimensions, not 2"):
        staging._array(np.ones((1, 2, 3)), "b")
