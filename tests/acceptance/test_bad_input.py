"""Whatever is wrong is said in one clear sentence with its own exit code; nothing half-made is left, and others go on."""

from __future__ import annotations

import gzip
import os
import pickle
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest

from tests.acceptance.deployment import QUICK, Place, place, until
from tests.acceptance.disks import small_disk
from tests.conftest import Server

CONFIG = f'{QUICK}[local]\nworkers = 2\nmemory = "400 MiB"\n'
NOT_OURS = ("this is not JSON", '{"type": "launch", "v": 1}', '{"type": "job", "v": 99}', "[]")
BAD_INPUT, NOT_FOUND, NOT_ALLOWED, DOES_NOT_FIT, UNREACHABLE, BAD_CONFIG, EXISTS = 3, 4, 5, 6, 7, 10, 11


class Trap:
    """Says so when somebody unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("unpickled").touch, ())


def lay_out(directory: Path) -> None:
    """Good matrices, and bad ones of every kind."""
    np.save(directory / "a.npy", np.arange(12).reshape(3, 4))
    np.save(directory / "b.npy", np.arange(20.0).reshape(4, 5))
    (directory / "ragged.csv").write_text("1,2,3\n4,5,6\n7,8\n9,10,11\n")
    (directory / "letters.csv").write_text("1,2,3,4\n5,6,seven,8\n9,10,11,12\n")
    (directory / "late.csv").write_text("1,2,3,4\n" * 5000 + "1,2,3,4x\n")
    (directory / "empty-cell.csv").write_text("1,2,3,4\n5,,7,8\n")
    (directory / "cut.csv.gz").write_bytes(gzip.compress(b"1,2,3,4\n" * 5000)[:40])
    (directory / "not.csv.gz").write_bytes(b"1,2,3\n")
    (directory / "truncated.npy").write_bytes((directory / "a.npy").read_bytes()[:-8])
    (directory / "text.npy").write_text("1,2,3\n4,5,6\n")
    (directory / "a.txt").write_text("1,2,3\n")
    (directory / "nothing.npy").write_bytes(b"")
    np.save(directory / "vector.npy", np.arange(5))
    np.save(directory / "words.npy", np.array([["a", "b"]]))
    np.save(directory / "halves.npy", np.ones((4, 4), np.float16))
    objects = np.empty((1, 1), object)
    objects[0, 0] = Trap()
    np.save(directory / "objects.npy", objects, allow_pickle=True)
    (directory / "pickle.npy").write_bytes(pickle.dumps(Trap()))
    (directory / "folder.npy").mkdir()
    (directory / "hollow.zarr").mkdir()
    (directory / "locked").mkdir()
    (directory / "taken.npy").write_bytes(b"mine")
    np.save(directory / "wide.npy", np.ones((2, 4_000_000), np.int8))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("bad"), CONFIG) as made:
        lay_out(made.directory)
        made.output("local", "up")
        yield made


def refused(here: Place, arguments: str, code: int, *says: str, environment: dict[str, str] | None = None) -> str:
    """Run a command that must fail with that code, in one sentence that says all of this; nothing may be left of it."""
    before = sorted(path.name for path in here.directory.iterdir())
    ended = here.run(*arguments.split(), environment=environment)
    assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("tilefleet: ")]
    assert len(lines) == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    for part in says:
        assert part in lines[0], f"{part!r} is not said in: {lines[0]}"
    assert sorted(path.name for path in here.directory.iterdir()) == before, "something was left behind"
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("multiply a.npy a.npy -o x.npy", BAD_INPUT, ("3×4", "--transpose-b")),
        ("add a.npy b.npy -o x.npy", BAD_INPUT, ("3×4", "4×5", "equal shapes")),
        ("multiply a.npy b.npy --beta 2 --add-to a.npy -o x.npy", BAD_INPUT, ("3×4", "3×5")),
        ("multiply ragged.csv b.npy -o x.npy", BAD_INPUT, ("ragged.csv", "line 3", "2", "3")),
        ("multiply letters.csv b.npy -o x.npy", BAD_INPUT, ("letters.csv", "line 2", "column 3", "seven")),
        ("convert late.csv x.zarr", BAD_INPUT, ("late.csv", "line 5001", "column 4", "4x")),
        ("convert empty-cell.csv x.zarr", BAD_INPUT, ("empty-cell.csv", "line 2", "column 2")),
        ("convert letters.csv x.npy --dtype int64", BAD_INPUT, ("letters.csv", "line 2", "column 3", "seven")),
        ("convert cut.csv.gz x.npy", BAD_INPUT, ("cut.csv.gz",)),
        ("convert not.csv.gz x.npy", BAD_INPUT, ("not.csv.gz", "gzip")),
        ("transpose truncated.npy -o x.npy", BAD_INPUT, ("truncated.npy",)),
        ("transpose text.npy -o x.npy", BAD_INPUT, ("text.npy",)),
        ("transpose nothing.npy -o x.npy", BAD_INPUT, ("nothing.npy",)),
        ("transpose vector.npy -o x.npy", BAD_INPUT, ("vector.npy", "dimension")),
        ("transpose words.npy -o x.npy", BAD_INPUT, ("words.npy", "element type")),
        ("transpose halves.npy -o x.npy", BAD_INPUT, ("halves.npy", "float16")),
        ("transpose objects.npy -o x.npy", BAD_INPUT, ("objects.npy",)),
        ("transpose pickle.npy -o x.npy", BAD_INPUT, ("pickle.npy",)),
        ("transpose a.txt -o x.npy", BAD_INPUT, ("a.txt", ".npy")),
        ("transpose a.npy -o x.txt", BAD_INPUT, ("x.txt", ".npy")),
        ("transpose absent.npy -o x.npy", NOT_FOUND, ("absent.npy",)),
        ("transpose folder.npy -o x.npy", BAD_INPUT, ("folder.npy",)),
        ("transpose hollow.zarr -o x.npy", BAD_INPUT, ("hollow.zarr",)),
        ("transpose a.npy -o no/such/x.npy", NOT_FOUND, ("no/such",)),
        ("transpose a.npy -o taken.npy", EXISTS, ("taken.npy", "--overwrite")),
        ("add a.npy a.npy -o a.npy --overwrite", BAD_INPUT, ("a.npy", "input")),
        ("scale a.npy three -o x.npy", BAD_INPUT, ("three",)),
        ("random 3by4 x.npy", BAD_INPUT, ("3by4", "2000x3000")),
        ("random 3x4 x.npy --low 5 --high 5", BAD_INPUT, ("low", "high")),
        ("random 3x4 x.npy --dtype decimal", BAD_INPUT, ("decimal", "float64")),
        ("show zzzzzzzzzzzz", NOT_FOUND, ("zzzzzzzzzzzz",)),
        ("get nonsense x.npy", BAD_INPUT, ("nonsense",)),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_one_sentence(here: Place, arguments: str, code: int, says: tuple[str, ...]) -> None:
    refused(here, arguments, code, *says)


def test_the_others_went_on(here: Place) -> None:
    """After all of the above: nothing was unpickled, nothing is open, and a product is what it should be."""
    assert not (here.directory / "unpickled").exists()
    here.output("multiply", "a.npy", "b.npy", "-o", "good.npy")
    a, b = np.load(here.directory / "a.npy"), np.load(here.directory / "b.npy")
    np.testing.assert_array_equal(np.load(here.directory / "good.npy"), a @ b)
    (here.directory / "good.npy").unlink()
    for one in here.json("list")["operations"]:
        here.assert_clean(one["id"])
        assert one["state"] in ("done", "failed")


def test_an_ambiguous_beginning(here: Place) -> None:
    """Ids have 32 letters to begin with: of the operations so far, two begin alike."""
    names = [one["id"] for one in here.json("list")["operations"]]
    while len({name[0] for name in names}) == len(names):
        names.append(here.output("transpose", "a.npy", "--no-wait"))
    first = next(name[0] for name in names if sum(other[0] == name[0] for other in names) > 1)
    refused(here, f"show {first}", BAD_INPUT, repr(first)[1:-1])


def test_memory_that_cannot_fit(here: Place) -> None:
    """One row of text is wider than a worker may hold: the sentence says how much would do."""
    said = refused(here, "convert wide.npy x.csv", DOES_NOT_FIT, "MiB", "memory")
    assert "local.memory" in said


def test_a_directory_one_may_not_write(here: Place) -> None:
    (here.directory / "locked").chmod(0o500)
    if os.access(here.directory / "locked", os.W_OK):
        subprocess.run(["chattr", "+i", here.directory / "locked"], check=False)
    try:
        if os.access(here.directory / "locked", os.W_OK):
            pytest.skip("root writes everywhere, and this file system has no immutable flag")
        refused(here, "transpose a.npy -o locked/x.npy", NOT_ALLOWED, "locked")
    finally:
        subprocess.run(["chattr", "-i", here.directory / "locked"], check=False, capture_output=True)


def test_a_configuration_with_mistakes(here: Place) -> None:
    path = here.directory / "wrong.toml"
    path.write_text('[fleet]\nnmae = "x"\n[queues]\nlease = "1 h"\n[wrong]\n')
    said = refused(here, "list --config wrong.toml", BAD_CONFIG, "wrong.toml")
    assert "nmae" in said
    checked = here.run("config", "check", "wrong.toml")
    assert checked.returncode == BAD_CONFIG
    for word in ("nmae", "lease", "wrong"):
        assert word in checked.stdout + checked.stderr


def test_messages_that_are_not_ours(here: Place) -> None:
    """In each queue: to the dead letters, with the reason; the daemons go on."""
    deployment, before = here.deployment, here.deployment.children
    with closing(
        boto3.client(
            "sqs", endpoint_url=deployment.endpoint_url, region_name="us-east-1",
            aws_access_key_id=deployment.access_key, aws_secret_access_key=deployment.secret_key,
        )
    ) as sqs:  # fmt: skip
        for queue in ("operations", "jobs", "completions"):
            url = sqs.get_queue_url(QueueName=f"local-{queue}")["QueueUrl"]
            for body in NOT_OURS:
                sqs.send_message(QueueUrl=url, MessageBody=body)
        until(partial(_all_are_kept, here), "they are among the dead letters")
    refusals = [line for name in ("coordinator", "w1", "w2") for line in here.log(name) if line.get("body") in NOT_OURS]
    for queue in ("local-operations", "local-jobs", "local-completions"):
        assert any(line["queue"] == queue and (line.get("error") or line.get("reason")) for line in refusals)
    test_the_others_went_on(here)
    assert here.deployment.children == before


def _all_are_kept(here: Place) -> bool:
    """Each, from each queue."""
    letters = here.json("dead", "list")["letters"]
    found = {(letter["queue"], letter["body"]) for letter in letters if letter["reason"]}
    return found >= {(f"local-{queue}-dead", body) for queue in ("operations", "jobs", "completions") for body in NOT_OURS}


# ---- far stores


@pytest.fixture
def far(tmp_path: Path, moto_server: Server) -> Iterator[Place]:
    with place(tmp_path, remote(moto_server, moto_server.new_bucket())) as made:
        lay_out(made.directory)
        yield made


def remote(server: Server, bucket: str) -> str:
    return f"""
[fleet]
name = "nobody"
kind = "remote"
[store]
url = "s3://{bucket}/fleet"
endpoint_url = "{server.endpoint_url}"
region = "us-east-1"
[queues]
endpoint_url = "{server.endpoint_url}"
region = "us-east-1"
"""


def test_buckets_objects_and_queues_that_do_not_exist(far: Place) -> None:
    refused(far, "transpose s3://no-such-bucket-here/a.npy", NOT_FOUND, "no-such-bucket-here")
    bucket = far.config.store.url.split("/")[2]
    refused(far, f"transpose s3://{bucket}/a.npy", NOT_FOUND, f"s3://{bucket}/a.npy")
    refused(far, "transpose a.npy", NOT_FOUND, "the queue nobody-", "does not exist")  # whichever is missed first


def test_credentials_that_are_absent(far: Place) -> None:
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    refused(far, "transpose s3://bucket/a.npy", NOT_ALLOWED, "credentials", environment=nobody)


def test_nobody_answers(far: Place) -> None:
    text = (far.directory / "tilefleet.toml").read_text().replace(far.config.store.endpoint_url, "http://127.0.0.1:9")
    (far.directory / "tilefleet.toml").write_text(text + '[log]\nlevel = "info"\n')
    refused(far, "list", UNREACHABLE, "127.0.0.1:9")


def test_credentials_that_are_wrong(tmp_path: Path, seaweedfs_server: Server) -> None:
    bucket = seaweedfs_server.new_bucket()
    with place(tmp_path, remote(seaweedfs_server, bucket), {"AWS_SECRET_ACCESS_KEY": "wrong"}) as here:
        refused(here, f"transpose s3://{bucket}/a.npy", NOT_ALLOWED, bucket)
        refused(here, "list", NOT_ALLOWED, bucket)


# ---- a full disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 48) as made:
        yield made


@pytest.mark.thorough
def test_a_store_that_is_full(tmp_path: Path, disk: Path) -> None:
    """A result larger than the disk fails in a sentence and leaves the room as it was; a small one fits afterwards."""
    (tmp_path / "work").mkdir()
    with place(tmp_path / "work", CONFIG, {"TILEFLEET_STATE": str(disk / "state")}) as here:
        here.files = type(here.files)(disk / "state")
        here.output("local", "up")
        ended = here.run("random", "3000x3000", str(disk / "large.zarr"), "--seed", "1")
        assert ended.returncode == DOES_NOT_FIT, ended.stderr
        assert "Traceback" not in ended.stderr
        assert "full" in ended.stderr or "space" in ended.stderr
        until(lambda: {path.name for path in disk.iterdir()} == {"state"}, "what was half-made is gone")
        here.output("random", "300x300", str(disk / "small.zarr"), "--seed", "1")
        for one in here.json("list")["operations"]:
            here.assert_clean(one["id"])
