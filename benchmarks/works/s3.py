"""The same product with tiles in S3, over the wire to a stand-in; and S3 clients alone, in MB/s and CPU-seconds for a GB."""

from __future__ import annotations

from dataclasses import replace

from benchmarks import matrices
from benchmarks.children import PeerFailedError
from benchmarks.peers.opening import store_of
from benchmarks.rounds import Case, in_turn, interleave
from benchmarks.standin import BUCKET, s3
from benchmarks.works import Bench, Outcome, Work
from benchmarks.works.products import product

PEERS = ("tilefleet", "numpy", "dask-threads", "dask-cluster", "cubed")
QUICK_PEERS = ("tilefleet", "dask-threads", "cubed")
CLIENTS = ("client-store", "client-obstore", "client-boto3", "client-aioboto3", "client-s3fs")


def _product(bench: Bench) -> Outcome:
    n = bench.sizes[0] if bench.sizes else 2048 if bench.is_quick else 8192
    operation = replace(product(n, n, n, "float64"), name=f"float64 {n}² in S3")
    with s3() as variables:
        urls = [f"s3://{BUCKET}/{matrix.name}.zarr" for matrix in (operation.a, operation.b)]
        for matrix, url in zip((operation.a, operation.b), urls, strict=True):
            matrices.fill(matrix, store_of(url))
        peers = bench.chosen(QUICK_PEERS if bench.is_quick else PEERS)
        children, failed = bench.pool.only(peers, {"state": "s3"}, variables)
        case = interleave(operation, children, bench.rounds, bench.say, (urls[0], urls[1]), f"s3://{BUCKET}")
        bench.pool.only(())
    case.failed = failed | case.failed
    return Outcome([case])


def _clients(bench: Bench) -> Outcome:
    n = 4 if bench.is_quick else 16
    cases = [Case(kind, {"objects": n, "at_once": 4, "object_bytes": 32 << 20}) for kind in ("put", "get")]
    with s3() as variables:
        children, failed = bench.pool.only(bench.chosen(CLIENTS), None, variables)
        for number in range(0 if bench.is_quick else -1, bench.rounds):
            for child in in_turn(children, number):
                for case in cases:
                    if child.name in case.failed:
                        continue
                    try:
                        run = child.do(case.name, n=n)
                    except PeerFailedError as error:
                        case.failed[child.name] = str(error)
                        continue
                    if number >= 0:
                        case.add(child.name, run)
        bench.pool.only(())
    for case in cases:
        case.failed |= failed
    return Outcome(cases)


WORKS = (
    Work("s3", "float64 product from S3 to S3, on a stand-in over the wire; Freivalds", _product),
    Work("s3-clients", "S3 clients alone: 32 MiB objects, four at a time; lengths", _clients),
)
