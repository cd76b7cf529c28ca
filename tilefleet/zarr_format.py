"""Zarr v3 metadata of our arrays, and what other people's metadata says about theirs.

The rule: our arrays are the plainest Zarr v3 there is (regular grid, little-endian bytes, crc32c), so that every reader
opens them; of foreign ones only those that lie just as plainly are read as raw bytes, and all others through zarr-python.
https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html
"""

from __future__ import annotations

import math
import struct
from typing import Any, Literal

import msgspec

from tilefleet.dtypes import dtype_name, item_bytes, kind_of
from tilefleet.errors import BadInput
from tilefleet.matrix import MatrixRef, default_tile
from tilefleet.version import __version__

METADATA_KEY = "zarr.json"
METADATA_KEY_V2 = ".zarray"
CRC32C_BYTES = 4

Layout = Literal["raw", "raw+crc32c", "codec"]


class _Named(msgspec.Struct):
    name: str
    configuration: dict[str, Any] = {}


class _ArrayV3(msgspec.Struct):
    shape: list[int]
    data_type: Any
    chunk_grid: _Named
    chunk_key_encoding: _Named | str
    codecs: list[_Named | str]
    fill_value: Any = None
    attributes: dict[str, Any] = {}
    storage_transformers: list[Any] = []


class _ArrayV2(msgspec.Struct):
    shape: list[int]
    chunks: list[int]
    dtype: Any


class _Node(msgspec.Struct):
    zarr_format: int
    node_type: str = "array"


def metadata_json(ref: MatrixRef, operation: str) -> bytes:
    """The ``zarr.json`` of an array of ours (shape, dtype and tile of ``ref``); attributes name the operation."""
    if ref.shape is None or ref.dtype is None or ref.tile is None:
        raise ValueError(f"{ref.url} has no shape, dtype or tile yet")
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": ref.shape,
        "data_type": ref.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": ref.tile}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": _zero(ref.dtype),
        "codecs": [_bytes_codec(ref.dtype), {"name": "crc32c"}],
        "attributes": {"tilefleet": {"operation": operation, "version": __version__, "complete": True}},
        "storage_transformers": [],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def operation_of(metadata: bytes) -> str | None:
    """The operation that wrote an array of ours; None for a foreign one or for what is no metadata at all."""
    try:
        attributes = msgspec.json.decode(metadata).get("attributes", {})
        return str(attributes["tilefleet"]["operation"])
    except (msgspec.DecodeError, RecursionError, UnicodeError, AttributeError, KeyError, TypeError):
        return None


def describe(metadata: bytes, url: str) -> MatrixRef:
    """The matrix that a ``zarr.json`` or ``.zarray`` describes; its tiles are below ``url``.

    Raises BadInput for what is not an array's metadata, not two-dimensional, or of a type tilefleet does not compute with.
    """
    node = _decoded(metadata, _Node, url)
    if node.node_type == "group":
        raise group_error(url)
    if node.zarr_format == 2:
        return _describe_v2(_decoded(metadata, _ArrayV2, url), url)
    if node.zarr_format != 3:
        raise BadInput(f"{url} is Zarr format {node.zarr_format}; tilefleet reads formats 2 and 3")
    return _describe_v3(_decoded(metadata, _ArrayV3, url), url)


def group_error(url: str) -> BadInput:
    """What to say when a Zarr group is given where an array should be."""
    return BadInput(f"{url} is a Zarr group, which holds arrays; name one array in it, such as {url.rstrip('/')}/NAME")


def check_shape(shape: Any, url: str) -> tuple[int, int]:
    """The shape as a pair. Raises BadInput, saying what to do, when it is not that of a matrix."""
    if any(not isinstance(length, int) or isinstance(length, bool) or not 0 <= length < 2**53 for length in shape):
        raise BadInput(f"{url} claims the impossible shape {shape!r}; it is damaged")
    if len(shape) == 1:
        raise BadInput(f"{url} has one dimension; reshape it to a column of shape ({shape[0]}, 1) or a row (1, {shape[0]})")
    if len(shape) != 2:
        raise BadInput(f"{url} has {len(shape)} dimensions; a matrix has two: select or reshape to two first")
    return (shape[0], shape[1])


def _describe_v3(array: _ArrayV3, url: str) -> MatrixRef:
    shape = check_shape(array.shape, url)
    name = array.data_type if isinstance(array.data_type, str) else _name_of(array.data_type)
    dtype = dtype_name(name, url)
    tile = _regular_chunks(array.chunk_grid)
    layout: Layout = _layout_v3(array, dtype)
    fill_value = _fill_text(array.fill_value, dtype)
    if tile is None or fill_value is None:
        layout = "codec"
    mark = array.attributes.get("tilefleet")
    return MatrixRef(
        url=url,
        format="zarr",
        shape=shape,
        dtype=dtype,
        tile=tile or default_tile(shape, item_bytes(dtype)),
        layout=layout,
        is_ours=layout == "raw+crc32c" and isinstance(mark, dict) and mark.get("complete") is True,
        fill_value=fill_value or "0",
    )


def _describe_v2(array: _ArrayV2, url: str) -> MatrixRef:
    shape = check_shape(array.shape, url)
    name = array.dtype if isinstance(array.dtype, str) else "structured"
    dtype = dtype_name(name, url)
    tile = _pair(array.chunks) or default_tile(shape, item_bytes(dtype))
    return MatrixRef(url=url, format="zarr", shape=shape, dtype=dtype, tile=tile, layout="codec")


def _layout_v3(array: _ArrayV3, dtype: str) -> Layout:
    codecs = [_named(codec) for codec in array.codecs]
    key_encoding = _named(array.chunk_key_encoding)
    is_plain = (
        not array.storage_transformers
        and key_encoding.name == "default"
        and key_encoding.configuration.get("separator", "/") == "/"
        and len(codecs) > 0
        and codecs[0].name == "bytes"
        and (item_bytes(dtype) == 1 or codecs[0].configuration.get("endian") == "little")
    )
    if is_plain and len(codecs) == 1:
        return "raw"
    if is_plain and len(codecs) == 2 and codecs[1].name == "crc32c":
        return "raw+crc32c"
    return "codec"


def _regular_chunks(grid: _Named) -> tuple[int, int] | None:
    return _pair(grid.configuration.get("chunk_shape")) if grid.name == "regular" else None


def _pair(lengths: Any) -> tuple[int, int] | None:
    is_pair = isinstance(lengths, list) and len(lengths) == 2 and all(isinstance(n, int) and n > 0 for n in lengths)
    return (lengths[0], lengths[1]) if is_pair else None


def _named(extension: _Named | str) -> _Named:
    """Zarr 3.1 lets an extension without configuration be written as its bare name."""
    return _Named(extension) if isinstance(extension, str) else extension


def _name_of(data_type: Any) -> str:
    return str(data_type.get("name", data_type)) if isinstance(data_type, dict) else str(data_type)


def _bytes_codec(dtype: str) -> dict[str, Any]:
    if item_bytes(dtype) == 1:
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "little"}}


def _zero(dtype: str) -> Any:
    return {"b": False, "i": 0, "u": 0, "f": 0.0, "c": [0.0, 0.0]}[kind_of(dtype)]


def _fill_text(value: Any, dtype: str) -> str | None:
    """A fill value as ``parse_scalar`` reads it; None when it is of a kind that only zarr-python should interpret."""
    kind = kind_of(dtype)
    if kind == "c":
        parts = [_fill_float(part, item_bytes(dtype) // 2) for part in value] if isinstance(value, list) else []
        return repr(complex(parts[0], parts[1])) if len(parts) == 2 and None not in parts else None  # type: ignore[arg-type]
    if kind == "f":
        number = _fill_float(value, item_bytes(dtype))
        return None if number is None else repr(number)
    if kind == "b":
        return str(int(value)) if isinstance(value, bool) else None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _fill_float(value: Any, itemsize: int) -> float | None:
    names = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    if isinstance(value, str) and value.startswith("0x") and len(value) == 2 + 2 * itemsize:
        return float(struct.unpack({4: ">f", 8: ">d"}[itemsize], bytes.fromhex(value[2:]))[0])  # the bits, most significant first
    if isinstance(value, str):
        return names.get(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer that no float holds
        return None


def _decoded(metadata: bytes, kind: Any, url: str) -> Any:
    try:
        return msgspec.json.decode(metadata, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeError) as error:
        raise BadInput(f"the metadata of {url} is not that of a Zarr array: {error}") from error
