"""Metadata: ours opens everywhere, theirs is understood or refused with a sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr import codecs

from tilefleet.dtypes import SUPPORTED, parse_scalar
from tilefleet.errors import BadInput
from tilefleet.matrix import MatrixRef
from tilefleet.zarr_format import describe, metadata_json, operation_of


def ref_of(name: str = "float64") -> MatrixRef:
    return MatrixRef(url="file:///m", format="zarr", shape=(5, 7), dtype=name, tile=(2, 3), is_ours=True)


def made(path: Path, **options: Any) -> bytes:
    """Metadata as zarr-python writes it."""
    arguments: dict[str, Any] = {"shape": (5, 7), "chunks": (2, 3), "dtype": "float64", "compressors": None} | options
    zarr.create_array(path / "made.zarr", overwrite=True, **arguments)
    name = ".zarray" if options.get("zarr_format") == 2 else "zarr.json"
    return (path / "made.zarr" / name).read_bytes()


@pytest.mark.parametrize("name", SUPPORTED)
def test_ours_is_described_as_ours_and_opens_in_zarr_python(name: str, tmp_path: Path) -> None:
    data = metadata_json(ref_of(name), "op")
    ref = describe(data, "file:///m")
    assert (ref.shape, ref.dtype, ref.tile, ref.layout, ref.is_ours) == ((5, 7), name, (2, 3), "raw+crc32c", True)
    assert parse_scalar(ref.fill_value) == 0
    assert operation_of(data) == "op"
    (tmp_path / "zarr.json").write_bytes(data)
    array = zarr.open_array(tmp_path, mode="r")
    assert (array.shape, array.chunks, array.dtype) == ((5, 7), (2, 3), np.dtype(name))
    assert array.fill_value == 0
    assert array.attrs["tilefleet"]["complete"] is True  # type: ignore[index,call-overload]


@pytest.mark.parametrize("name", SUPPORTED)
def test_plain_foreign_arrays_are_raw(name: str, tmp_path: Path) -> None:
    plain = describe(made(tmp_path, dtype=name), "u")
    assert (plain.layout, plain.is_ours, plain.dtype, plain.tile) == ("raw", False, name, (2, 3))
    summed = describe(made(tmp_path, dtype=name, compressors=codecs.Crc32cCodec()), "u")
    assert (summed.layout, summed.is_ours) == ("raw+crc32c", False)


@pytest.mark.parametrize(
    ("dtype", "fill", "text"),
    [
        ("float64", 2.5, "2.5"),
        ("float32", -1, "-1.0"),
        ("float64", math.inf, "inf"),
        ("float64", -math.inf, "-inf"),
        ("int64", -(2**63), str(-(2**63))),
        ("uint8", 255, "255"),
        ("bool", True, "1"),
        ("complex64", 1 + 2j, "(1+2j)"),
        ("complex128", complex(0, math.inf), "infj"),
    ],
)
def test_fill_values(tmp_path: Path, dtype: str, fill: Any, text: str) -> None:
    ref = describe(made(tmp_path, dtype=dtype, fill_value=fill), "u")
    assert (ref.layout, ref.fill_value) == ("raw", text)
    assert np.full((), parse_scalar(ref.fill_value), dtype) == fill


def test_nan_and_bit_patterns_are_fill_values(tmp_path: Path) -> None:
    document = json.loads(made(tmp_path, fill_value=math.nan))
    for fill in (document["fill_value"], "0x7ff8000000000000"):
        ref = describe(json.dumps(document | {"fill_value": fill}).encode(), "u")
        assert (ref.layout, ref.fill_value) == ("raw", "nan")
    assert describe(json.dumps(document | {"fill_value": "0x3ff0000000000000"}).encode(), "u").fill_value == "1.0"
    assert describe(json.dumps(document | {"fill_value": "strange"}).encode(), "u").layout == "codec"


@pytest.mark.parametrize(
    "options",
    [
        {"compressors": codecs.ZstdCodec()},
        {"compressors": codecs.GzipCodec()},
        {"compressors": codecs.BloscCodec()},
        {"compressors": [codecs.Crc32cCodec(), codecs.ZstdCodec()]},
        {"shards": (4, 6)},
        {"serializer": codecs.BytesCodec(endian="big")},
        {"filters": codecs.TransposeCodec(order=(1, 0))},
        {"chunk_key_encoding": {"name": "v2", "separator": "."}},
        {"chunk_key_encoding": {"name": "default", "separator": "."}},
        {"zarr_format": 2},
        {"zarr_format": 2, "order": "F"},
        {"zarr_format": 2, "dtype": ">f4"},
    ],
)
def test_everything_else_goes_through_zarr_python(tmp_path: Path, options: dict[str, Any]) -> None:
    ref = describe(made(tmp_path, **options), "u")
    assert (ref.layout, ref.is_ours, ref.shape) == ("codec", False, (5, 7))
    assert ref.tile == options.get("shards", (2, 3))


def test_other_grids_and_transformers_go_through_zarr_python(tmp_path: Path) -> None:
    document = json.loads(made(tmp_path))
    changes: list[dict[str, Any]] = [
        {"chunk_grid": {"name": "rectilinear", "configuration": {"chunk_shapes": [[2, 3], [3, 4]]}}},
        {"storage_transformers": [{"name": "indirection"}]},
        {"codecs": []},
    ]
    for change in changes:
        assert describe(json.dumps(document | change).encode(), "u").layout == "codec"


def test_bare_names_are_extensions_too(tmp_path: Path) -> None:
    document = json.loads(made(tmp_path, dtype="int8"))
    plain = document | {"codecs": ["bytes", "crc32c"], "chunk_key_encoding": "default"}
    assert describe(json.dumps(plain).encode(), "u").layout == "raw+crc32c"


def test_only_complete_and_plain_arrays_are_ours() -> None:
    document = json.loads(metadata_json(ref_of(), "op"))
    document["attributes"]["tilefleet"]["complete"] = False
    assert not describe(json.dumps(document).encode(), "u").is_ours
    document = json.loads(metadata_json(ref_of(), "op"))
    document["codecs"].append({"name": "zstd", "configuration": {"level": 0}})
    assert not describe(json.dumps(document).encode(), "u").is_ours


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"shape": [5]}, r"reshape it to a column of shape \(5, 1\) or a row \(1, 5\)"),
        ({"shape": []}, "has 0 dimensions"),
        ({"shape": [1, 2, 3]}, "has 3 dimensions"),
        ({"shape": [-1, 2]}, "impossible shape"),
        ({"data_type": "float16"}, "element type 'float16'"),
        ({"data_type": "string"}, "element type 'string'"),
        ({"data_type": {"name": "numpy.datetime64", "configuration": {"unit": "s"}}}, "element type 'numpy.datetime64'"),
        ({"data_type": {"name": "structured", "configuration": {}}}, "element type 'structured'"),
        ({"node_type": "group"}, "is a Zarr group.*name one array in it, such as u/NAME"),
        ({"zarr_format": 4}, "Zarr format 4"),
        ({"shape": "x"}, "is not that of a Zarr array"),
    ],
)
def test_what_is_no_matrix_gets_a_sentence(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        describe(json.dumps(json.loads(made(tmp_path)) | change).encode(), "u")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"zarr_format": 3}', b"\xff", b"[" * 100_000])
def test_what_is_no_metadata_gets_a_sentence(data: bytes) -> None:
    with pytest.raises(BadInput, match="the metadata of u is not that of a Zarr array"):
        describe(data, "u")
    assert operation_of(data) is None


def test_a_reference_without_shape_has_no_metadata() -> None:
    with pytest.raises(ValueError, match="no shape"):
        metadata_json(MatrixRef(url="u", format="csv"), "op")
