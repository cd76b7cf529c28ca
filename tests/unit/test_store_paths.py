"""File names as people give them: what is put under a URL is the file of that very name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tilefleet.errors import BadInput, NotFound
from tilefleet.store import Stores, file_url, path_of, shown

NAMES = [
    "a b",
    "é ü",
    "a#b",
    "a#1",
    "100%",
    "a%41",
    "a%2Fb",
    "a?b=c",
    "a&b;c",
    "[x]",
    "a*b",
    "~a",
    "it's",
    'say "x"',
    "a\\b",
    "日本",
    "a:b",
]


@pytest.mark.parametrize("name", NAMES)
async def test_files_of_any_name(stores: Stores, tmp_path: Path, name: str) -> None:
    path = tmp_path / name / f"{name}.csv"
    path.parent.mkdir()
    path.write_bytes(b"1\n")
    url = file_url(path)
    assert path_of(url) == path
    assert shown(url) == str(path)
    store, key = stores.locate(url)
    assert bytes(await store.get(key)) == b"1\n"
    assert store.url_of(key) == url
    assert store.shown(key) == str(path)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name != "a#1"]
)  # "#1" ends the names of obstore's own temporary files
async def test_directories_of_any_name_as_stores(stores: Stores, tmp_path: Path, name: str) -> None:
    store = stores.open(file_url(tmp_path / name))
    await store.at(name).put(f"c/{name}", b"x")
    assert (tmp_path / name / name / "c" / name).read_bytes() == b"x"
    again = stores.open(store.url_of(name))
    assert [entry.key async for entry in again.entries()] == [f"c/{name}"]
    assert bytes(await again.get(f"c/{name}")) == b"x"


async def test_a_control_character_gets_a_sentence(stores: Stores, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has a character that names in the store must not have; rename it"):
        await stores.open(file_url(tmp_path)).get("a\tb")


async def test_a_file_where_a_directory_is_named_is_not_found(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(NotFound, match=f"there is no {tmp_path}/file/zarr.json"):
        await stores.open(file_url(tmp_path / "file")).get("zarr.json")


def test_s3_urls_are_shown_as_they_are() -> None:
    assert shown("s3://bucket/a b%41") == "s3://bucket/a b%41"
