"""Tiles on disk, read and written in place, are byte for byte those that go through the object store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilefleet import local_tiles
from tilefleet.local_tiles import WrongChecksum, WrongLength, create_tile, read_rows, read_tile
from tilefleet.matrix import MatrixRef
from tilefleet.writing import encode_tile

SHAPE = (37, 53)


def ref_of(dtype: str, layout: Literal["raw", "raw+crc32c"] = "raw+crc32c") -> MatrixRef:
    return MatrixRef("file:///m.zarr", "zarr", (1000, 1000), dtype, SHAPE, layout=layout)


def elements(rows: int, cols: int, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(rows * cols).integers(0, 2 if dtype == "bool" else 100, (rows, cols)).astype(dtype)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_part_of_a_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    monkeypatch.setattr(local_tiles, "STEP_BYTES", data.draw(st.sampled_from([1, 1000, 4000, 2**19])))
    dtype = data.draw(st.sampled_from(["bool", "int8", "uint16", "float32", "float64", "complex128"]))
    ref = ref_of(dtype, data.draw(st.sampled_from(["raw", "raw+crc32c"])))
    tile = elements(*SHAPE, dtype)
    path = tmp_path / "0"
    path.write_bytes(encode_tile(ref, tile).tobytes())
    rows, cols = (sorted(data.draw(st.sets(st.integers(0, size), min_size=2, max_size=2))) for size in SHAPE)
    within = slice(*rows), slice(*cols)
    wide = np.zeros((rows[1] - rows[0], data.draw(st.integers(0, 9)) + cols[1] - cols[0]), dtype)
    part = wide[:, : cols[1] - cols[0]]
    read_tile(path, ref, within, part)
    assert np.array_equal(part, tile[within])
    assert not wide[:, part.shape[1] :].any()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_tile_is_written_as_through_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    monkeypatch.setattr(local_tiles, "STEP_BYTES", data.draw(st.sampled_from([1, 1000, 4000, 2**19])))
    dtype = data.draw(st.sampled_from(["bool", "int8", "uint16", "float32", "float64", "complex128"]))
    ref = ref_of(dtype, data.draw(st.sampled_from(["raw", "raw+crc32c"])))
    block = elements(SHAPE[0] + 3, SHAPE[1] + 3, dtype)
    part = block[: data.draw(st.integers(1, SHAPE[0])), : data.draw(st.integers(1, SHAPE[1]))]
    path = tmp_path / f"{data.draw(st.integers(0, 10**9))}" / "c" / "0"
    written = create_tile(path, ref, [part])
    expected = encode_tile(ref, part).tobytes()
    if written is not None:
        assert written == len(expected)
        assert path.read_bytes() == expected
    assert [each.name for each in path.parent.iterdir()] == ["0"]


def test_the_first_writer_wins(tmp_path: Path) -> None:
    ref = ref_of("float64")
    assert create_tile(tmp_path / "0", ref, [elements(*SHAPE)]) == 37 * 53 * 8 + 4
    before = (tmp_path / "0").read_bytes()
    assert create_tile(tmp_path / "0", ref, [elements(*SHAPE) + 1]) is None
    assert (tmp_path / "0").read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["0"]


def test_what_a_killed_attempt_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "0#1").write_bytes(b"half")
    assert create_tile(tmp_path / "0", ref_of("float64"), [elements(*SHAPE)]) is not None
    assert sorted(each.name for each in tmp_path.iterdir()) == ["0", "0#1"]


@pytest.mark.parametrize("at", [0, 5000, 37 * 53 * 8 - 1, 37 * 53 * 8 + 3])
def test_a_bit_that_flipped_is_found_wherever_it_is(tmp_path: Path, at: int) -> None:
    ref = ref_of("float64")
    body = encode_tile(ref, elements(*SHAPE))
    body[at] ^= 1
    (tmp_path / "0").write_bytes(body.tobytes())
    for within in ((slice(0, 37), slice(0, 53)), (slice(3, 4), slice(50, 53))):
        part = np.empty((within[0].stop - within[0].start, within[1].stop - within[1].start))
        with pytest.raises(WrongChecksum):
            read_tile(tmp_path / "0", ref, within, part)


def test_another_length_is_found(tmp_path: Path) -> None:
    ref = ref_of("float64")
    (tmp_path / "0").write_bytes(encode_tile(ref, elements(*SHAPE)).tobytes() + b"1")
    with pytest.raises(WrongLength) as error:
        read_tile(tmp_path / "0", ref, (slice(0, 37), slice(0, 53)), np.empty(SHAPE))
    assert error.value.args == (37 * 53 * 8 + 5, 37 * 53 * 8 + 4)


def test_rows_of_a_file(tmp_path: Path) -> None:
    a = elements(20, 30)
    (tmp_path / "a").write_bytes(b"head" + a.tobytes())
    out = np.zeros((5, 12))
    read_rows(tmp_path / "a", [4 + 8 * (30 * row + 7) for row in range(3, 8)], out[:, :9])
    assert np.array_equal(out[:, :9], a[3:8, 7:16])
    whole = np.zeros((5, 30))
    read_rows(tmp_path / "a", [4 + 8 * 30 * 3], whole)
    assert np.array_equal(whole, a[3:8])
    with pytest.raises(WrongLength):
        read_rows(tmp_path / "a", [4 + 8 * 30 * 16], whole)


def test_a_file_system_that_gives_and_takes_less_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref, tile = ref_of("float64"), elements(*SHAPE)
    preadv, write = os.preadv, os.write

    def a_little_read(fd: int, buffers: Any, offset: int) -> int:
        return preadv(fd, [memoryview(buffers[0]).cast("B")[:1000]], offset)

    def a_little_written(fd: int, buffers: Any) -> int:
        return write(fd, memoryview(buffers[0]).cast("B")[:1000])

    monkeypatch.setattr(os, "preadv", a_little_read)
    monkeypatch.setattr(os, "writev", a_little_written)
    create_tile(tmp_path / "0", ref, [tile])
    assert (tmp_path / "0").read_bytes() == encode_tile(ref, tile).tobytes()
    part = np.zeros((37, 20))
    read_tile(tmp_path / "0", ref, (slice(0, 37), slice(10, 30)), part)
    assert np.array_equal(part, tile[:, 10:30])
