"""A far fleet: S3 for the tiles, SQS for the words, daemons started by hand, and a client whose disk they cannot see."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
import zarr
from botocore.config import Config

from tests.acceptance.deployment import Place, assert_agrees, until
from tests.acceptance.fleet import Fleet, fleet, fleet_config
from tests.conftest import Server

A = np.random.default_rng(1).integers(-1000, 1000, (700, 300))
B = np.random.default_rng(2).standard_normal((300, 257))


@pytest.fixture(scope="module", params=[pytest.param("moto", marks=pytest.mark.thorough), "seaweedfs"])
def far(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, moto_server: Server) -> Iterator[Fleet]:
    """Tiles on moto, or on SeaweedFS, which checks signatures; the queues are moto's."""
    store = moto_server if request.param == "moto" else request.getfixturevalue("seaweedfs_server")
    bucket = store.new_bucket()
    with fleet(tmp_path_factory.mktemp("fleet"), fleet_config(store, moto_server, bucket), "w1", "w2") as made:
        here = made.client.directory
        np.save(here / "a.npy", A)
        np.savetxt(here / "a.csv", A, fmt="%d", delimiter=",")
        zarr.create_array(here / "b.zarr", shape=B.shape, dtype=B.dtype, chunks=(100, 100))[:] = B
        yield made


def objects(here: Place) -> set[str]:
    """Keys below the fleet's prefix."""
    settings = here.config.store
    bucket, prefix = settings.url.removeprefix("s3://").split("/", 1)
    s3 = boto3.client(
        "s3", endpoint_url=settings.endpoint_url, region_name="us-east-1", config=Config(s3={"addressing_style": "path"})
    )
    try:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        return {item["Key"].removeprefix(f"{prefix}/") for page in pages for item in page.get("Contents", [])}
    finally:
        s3.close()


@pytest.mark.parametrize(("left", "out"), [("a.npy", "c.npy"), ("a.csv", "c.csv"), ("a.npy", "c.zarr")])
def test_files_go_up_and_the_result_comes_down(far: Fleet, left: str, out: str) -> None:
    here = far.client
    here.output("multiply", left, "b.zarr", "-o", out, "--overwrite")
    assert_agrees(loaded(here.directory / out), A @ B, 300)


def loaded(path: Path) -> np.ndarray:
    if path.suffix == ".zarr":
        return np.asarray(zarr.open_array(path, mode="r")[:])
    return np.asarray(np.load(path) if path.suffix == ".npy" else np.loadtxt(path, delimiter=","))


@pytest.mark.thorough
def test_from_s3_to_s3(far: Fleet) -> None:
    here = far.client
    root = f"{here.config.store.url.rsplit('/', 1)[0]}/user"
    here.output("convert", "a.csv", f"{root}/a.zarr")
    here.output("convert", "b.zarr", f"{root}/b.npy")
    for out in ("c.zarr", "c.npy", "c.csv.gz"):
        here.output("multiply", f"{root}/a.zarr", f"{root}/b.npy", "-o", f"{root}/{out}")
        assert here.run("multiply", f"{root}/a.zarr", f"{root}/b.npy", "-o", f"{root}/{out}").returncode == 11
        fetched = f"fetched-{out.removesuffix('.gz').replace('.', '-')}.npy"
        here.output("convert", f"{root}/{out}", fetched)
        assert_agrees(np.load(here.directory / fetched), A @ B, 300)
    assert here.json("info", f"{root}/c.zarr")["shape"] == [700, 257]


@pytest.mark.thorough
def test_one_place_in_s3_is_one_operations(far: Fleet) -> None:
    """Same shape, same tiles, same keys: the values tell whose they are."""
    here = far.client
    out = here.user_url("contested.zarr")
    here.output("convert", "a.npy", out)
    here.output("scale", "a.npy", "2", "-o", out, "--overwrite")
    here.output("convert", out, "contested.npy", "--overwrite")
    np.testing.assert_array_equal(np.load(here.directory / "contested.npy"), A * 2)

    far.daemons["coordinator"].send_signal(signal.SIGSTOP)
    first = here.output("scale", "a.npy", "5", "-o", out, "--overwrite", "--no-wait")
    for more in ([], ["--overwrite"]):
        refused = here.run("scale", "a.npy", "3", "-o", out, *more)
        assert refused.returncode == 11
        assert f"is being written by operation {first}" in " ".join(refused.stderr.split())
    far.daemons["coordinator"].send_signal(signal.SIGCONT)
    assert here.run("watch", first, "--progress", "none").returncode == 0
    here.output("convert", out, "contested.npy", "--overwrite")
    np.testing.assert_array_equal(np.load(here.directory / "contested.npy"), A * 5)
    until(lambda: f"open/{first}" not in objects(here), "the first one is cleaned up after")
    here.output("scale", "a.npy", "3", "-o", out, "--overwrite")
    here.output("convert", out, "contested.npy", "--overwrite")
    np.testing.assert_array_equal(np.load(here.directory / "contested.npy"), A * 3)


@pytest.mark.thorough
def test_kept_by_the_fleet(far: Fleet) -> None:
    """get, verify and delete; what was staged for it and in between is gone before."""
    here = far.client
    operation = here.json("add", "a.npy", "a.csv")["id"]
    here.output("get", operation, "sum.npy", "--overwrite")
    assert_agrees(np.load(here.directory / "sum.npy"), A + A)
    assert here.json("verify", operation)["verdict"]
    here.output("delete", operation)
    until(lambda: not [key for key in objects(here) if operation in key], "nothing of it is left in the store")
    until(lambda: not [key for key in objects(here) if key.startswith("open/")], "no operation is open")


@pytest.mark.thorough
def test_a_worker_and_then_the_coordinator_are_killed(far: Fleet) -> None:
    here = far.client
    operation = here.output("multiply", "a.npy", "a.npy", "--transpose-b", "--no-wait")
    assert far.stop("w2", signal.SIGKILL) == -signal.SIGKILL
    assert far.stop("coordinator", signal.SIGKILL) == -signal.SIGKILL
    far.start("coordinator", "coordinator")
    far.start("workerd", "w2", "--name", "w2")
    assert here.run("watch", operation, "--progress", "none").returncode == 0
    here.output("get", operation, "gram.npy", "--overwrite")
    assert_agrees(np.load(here.directory / "gram.npy"), A @ A.T)


@pytest.mark.thorough
def test_drained(far: Fleet) -> None:
    """The last test of each fleet: SIGTERM, and every daemon leaves with status 0, its log says so."""
    assert [far.stop(name) for name in ("w1", "w2", "coordinator")] == [0, 0, 0]
    assert '"drained"' in far.log("w1").read_text()
    assert '"stopped"' in far.log("coordinator").read_text()


@pytest.mark.thorough
def test_one_leads_and_the_other_takes_over(tmp_path: Path, moto_server: Server) -> None:
    config = fleet_config(moto_server, moto_server, moto_server.new_bucket())
    with fleet(tmp_path, config, "w1") as made:
        here = made.client
        until(lambda: "lead_taken" in made.log("coordinator").read_text(), "the first one leads")
        made.start("coordinator", "second")
        until(lambda: "standing_by" in made.log("second").read_text(), "the second one stands by")
        here.output("random", "300x300", "x.npy", "--seed", "1")
        assert "lead_taken" not in made.log("second").read_text()
        operation = here.output("random", "6000x4000", "y.zarr", "--seed", "1", "--no-wait")
        made.stop("coordinator", signal.SIGKILL)
        until(lambda: "lead_taken" in made.log("second").read_text(), "the second one leads")
        assert here.run("watch", operation, "--progress", "none").returncode == 0
        here.output("random", "300x300", "z.npy", "--seed", "1")
        np.testing.assert_array_equal(np.load(here.directory / "z.npy"), np.load(here.directory / "x.npy"))
        made.start("coordinator", "third")
        until(lambda: "standing_by" in made.log("third").read_text(), "the third one stands by")
        assert made.stop("second") == 0
        until(lambda: "lead_taken" in made.log("third").read_text(), "the third one leads after the second resigned")
