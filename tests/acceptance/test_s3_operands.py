"""The embedded deployment with operands and outputs in S3: the user's own credentials and endpoint, nobody's configuration."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.config import Config

from tests.acceptance.deployment import QUICK, Place, assert_agrees, place
from tests.conftest import Server
from tilefleet.config import StoreSection
from tilefleet.inspection import inspect
from tilefleet.matrix import Rect
from tilefleet.reading import Reader
from tilefleet.store import Stores, settle

A = np.random.default_rng(1).standard_normal((300, 200))
B = np.random.default_rng(2).integers(-9, 9, (200, 150))
ONE_WORKER = "[local]\nworkers = 1\n"
NOT_ALLOWED, NOT_FOUND = 5, 4


def client_of(server: Server) -> Any:
    path_style = Config(s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=server.endpoint_url, region_name="us-east-1", config=path_style)


def put(server: Server, bucket: str, key: str, data: bytes) -> None:
    s3 = client_of(server)
    s3.put_object(Bucket=bucket, Key=key, Body=data)
    s3.close()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def found(server: Server, url: str) -> np.ndarray:
    async def read() -> np.ndarray:
        stores = Stores(StoreSection(endpoint_url=server.endpoint_url))
        ref = await inspect(stores, url)
        assert ref.shape is not None
        values = await Reader(stores).read(ref, Rect(0, ref.shape[0], 0, ref.shape[1]))
        await settle()
        return np.array(values)

    return asyncio.run(read())


MOTO = pytest.param("moto by AWS_ENDPOINT_URL_S3", marks=pytest.mark.thorough)


@pytest.fixture(params=[MOTO, "seaweedfs by store.endpoint_url"])
def server(request: pytest.FixtureRequest) -> Server:
    made: Server = request.getfixturevalue(f"{request.param.split()[0]}_server")
    return made


@pytest.fixture
def here(server: Server, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Credentials are those of the tests' environment; the endpoint comes from it, or from the configuration."""
    is_of_environment = "AWS_ENDPOINT_URL_S3" in request.node.callspec.params["server"]
    config = QUICK + ONE_WORKER + ("" if is_of_environment else f'[store]\nendpoint_url = "{server.endpoint_url}"\n')
    environment = {"AWS_ENDPOINT_URL_S3": server.endpoint_url} if is_of_environment else {}
    with place(tmp_path, config, environment) as made:
        np.save(tmp_path / "b.npy", B)
        yield made


def test_operands_and_outputs_in_s3(here: Place, server: Server) -> None:
    bucket = server.new_bucket()
    put(server, bucket, "in/a.npy", npy(A))
    here.output("multiply", f"s3://{bucket}/in/a.npy", "b.npy", "-o", f"s3://{bucket}/out/c.npy")
    assert_agrees(found(server, f"s3://{bucket}/out/c.npy"), A @ B, 200)
    here.output("multiply", f"s3://{bucket}/in/a.npy", "b.npy", "-o", f"s3://{bucket}/out/c.zarr")
    assert_agrees(found(server, f"s3://{bucket}/out/c.zarr"), A @ B, 200)
    here.output("transpose", f"s3://{bucket}/out/c.zarr", "-o", "t.npy")
    assert_agrees(np.load(here.directory / "t.npy"), (A @ B).T, 200)
    put(server, bucket, "in/b.csv", "\n".join(",".join(map(str, row)) for row in B.tolist()).encode())
    here.output("scale", f"s3://{bucket}/in/b.csv", "2", "-o", "b2.npy")
    assert_agrees(np.load(here.directory / "b2.npy"), 2 * B)


@pytest.mark.thorough
def test_a_bucket_that_does_not_exist(here: Place) -> None:
    for command in (
        ["transpose", "s3://no-such-bucket-here/a.npy"], ["transpose", "s3://no-such-bucket-here/a.zarr"],
        ["transpose", "b.npy", "-o", "s3://no-such-bucket-here/c.zarr"],
        ["transpose", "b.npy", "-o", "s3://no-such-bucket-here/c.npy"],
    ):  # fmt: skip
        ended = here.run(*command)
        assert ended.returncode == NOT_FOUND, ended.stderr
        assert "the bucket of s3://no-such-bucket-here/" in ended.stderr
        assert "<" not in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    assert not here.processes(), "nothing was started for what cannot be computed"


def test_without_credentials_it_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    with place(tmp_path, ONE_WORKER, nobody) as here:
        np.save(tmp_path / "b.npy", B)
        for command in (["transpose", "s3://bucket/a.npy"], ["transpose", "b.npy", "-o", "s3://bucket/c.zarr"]):
            ended = here.run(*command)
            assert ended.returncode == NOT_ALLOWED, ended.stderr
            assert "there are no AWS credentials" in ended.stderr
            assert len(ended.stderr.splitlines()) == 1
        assert not here.processes()
        ended = here.run("transpose", "s3://bucket/a.npy", environment={"AWS_PROFILE": "nobody"})
        assert (ended.returncode, len(ended.stderr.splitlines())) == (NOT_ALLOWED, 1)
        assert "nobody" in ended.stderr
