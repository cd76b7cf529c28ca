"""Arrays by URL, for peers that go through zarr: paths, and ``s3://`` over obstore, the fastest client that zarr has."""

from __future__ import annotations

import os
from typing import Any


def store_of(url: str, *, is_read_only: bool = False) -> Any:
    """What zarr takes for a URL."""
    if not url.startswith("s3://"):
        return url
    from obstore.store import S3Store
    from zarr.storage import ObjectStore

    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    backend = S3Store(
        bucket, prefix=prefix, endpoint=os.environ["AWS_ENDPOINT_URL_S3"], region="us-east-1",
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"], secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        virtual_hosted_style_request=False, client_options={"allow_http": True},
    )  # fmt: skip
    return ObjectStore(backend, read_only=is_read_only)


def open_array(url: str) -> Any:
    """An array to read."""
    import zarr

    return zarr.open_array(store_of(url, is_read_only=True), mode="r", zarr_format=3)


def create_array(url: str, shape: tuple[int, int], dtype: Any) -> Any:
    """A new array in the layout of the bench."""
    import numpy as np

    from benchmarks import matrices

    return matrices.create(store_of(url), shape, np.dtype(dtype).name)
