"""The peers: one module each, with one class that does a ``Step``; ``host`` runs it in a process of its own."""

from __future__ import annotations

NAMES = {
    "numpy": "with_numpy", "dask-threads": "with_dask", "dask-cluster": "with_dask", "cubed": "with_cubed", "ray": "with_ray",
    "tilefleet": "with_tilefleet", "coursework": "with_coursework", "copy": "with_copies", "pyarrow": "with_pyarrow",
    "client-store": "with_clients", "client-obstore": "with_clients", "client-boto3": "with_clients",
    "client-aioboto3": "with_clients", "client-s3fs": "with_clients",
}  # fmt: skip
"""Peer → module below ``benchmarks.peers``; each has ``make(name, options) -> Peer``."""
