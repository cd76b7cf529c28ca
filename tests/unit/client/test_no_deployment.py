"""What a client does without any deployment: reading, looking, finding its configuration, and ending well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.unit.client.played import A
from tilefleet.client import Client, find_config
from tilefleet.config import Config
from tilefleet.errors import BadConfig, BadInput, NotFound


async def test_reading_needs_no_deployment(tmp_path: Path) -> None:
    async with Client(Config()) as client:
        assert await client.operations() == []
        assert await client.control() is None
        with pytest.raises(NotFound):
            await client.find("last")
        np.save(tmp_path / "a.npy", A)
        assert (await client.inspect("a.npy")).shape == (3, 4)
        assert np.array_equal(await client.head("a.npy", 2, 3), A[:2, :3])
        assert np.array_equal(np.asarray(await client.open(tmp_path / "a.npy")), A)
        assert np.array_equal(await client.head((await client.open("a.npy")).T, 2, 9), A.T[:2])
        with pytest.raises(BadInput, match="columns of the first"):  # and neither does a refusal
            await client.multiply("a.npy", "a.npy")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("name", ["m.csv", "m.csv.gz"])
async def test_the_head_and_the_size_of_a_csv(tmp_path: Path, name: str) -> None:
    values = np.arange(3000.0).reshape(1000, 3) + 0.5
    np.savetxt(tmp_path / name, values, delimiter=",", fmt="%.1f")
    async with Client(Config()) as client:
        assert np.array_equal(await client.head(name, 4, 2), values[:4, :2])
        assert np.array_equal(await client.head(name, 2000, 9), values)
        assert (await client.inspect(name)).shape is None
        ref = await client.inspect(name, scan=True)
        assert (ref.shape, ref.dtype) == ((1000, 3), "float64")


async def test_a_csv_that_is_none_says_where(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("1,2\n3,4\n\n5,x\n")
    async with Client(Config()) as client:
        assert (await client.head("m.csv", 2, 2)).tolist() == [[1, 2], [3, 4]]
        for look in (client.head("m.csv", 3, 2), client.inspect("m.csv", scan=True)):
            with pytest.raises(BadInput, match=r"m\.csv, line 4, column 2: 'x' is not a number"):
                await look


def test_a_script_that_ends_right_after_its_last_answer_ends_well(tmp_path: Path) -> None:
    script = """
import asyncio, tilefleet
async def main():
    async with tilefleet.Client(tilefleet.Config()) as client:
        for index in range(5):
            await client.session.store.put(f"key{index}", bytes(100_000))
        await client.session.store.get("key1")
asyncio.run(main())
"""
    for _ in range(5):  # without the pause at exit, one in five aborts
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60, cwd=tmp_path)


def test_the_config_that_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_config() == Config()
    for name in ("tilefleet", "other", "third"):
        (tmp_path / f"{name}.toml").write_text(f'[fleet]\nname = "{name}"\n')
    assert find_config().fleet.name == "tilefleet"
    monkeypatch.setenv("TILEFLEET_CONFIG", "other.toml")
    assert find_config().fleet.name == "other"
    assert find_config("third.toml").fleet.name == "third"
    with pytest.raises(BadConfig, match=r"absent\.toml"):
        find_config("absent.toml")
