"""S3 clients alone, on 32 MiB objects, four at a time: ours, and what it could have been built on. Tuned as their docs say.

``put`` writes ``n`` objects, ``get`` reads them; what is read is touched nowhere, as the clients alone are compared.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.peers.contract import Step, Told

OBJECT_BYTES = 32 << 20
AT_ONCE = 4
BUCKET = "bench"


class WithClient:
    """One of them, over a function that makes its ``get`` and ``put``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._data = np.random.default_rng(1).integers(0, 256, OBJECT_BYTES, np.uint8)
        self._loop = asyncio.new_event_loop()

    def warm(self) -> None:
        self._client = self._loop.run_until_complete(_CLIENTS[self._name]())

    def do(self, step: Step) -> Told:
        keys = [f"objects/{self._name}-{index}" for index in range(step.more["n"])]
        self._loop.run_until_complete(self._all(step.kind, keys))
        return Told(facts={"bytes": OBJECT_BYTES * len(keys)})

    async def _all(self, kind: str, keys: list[str]) -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(key: str) -> None:
            async with slots:
                if kind == "put":
                    await self._client.put(key, self._data)
                elif (n := len(memoryview(await self._client.get(key)).cast("B"))) != OBJECT_BYTES:
                    raise ValueError(f"{key} has {n} bytes")

        await asyncio.gather(*map(one, keys))

    def processes(self) -> list[int]:
        return []

    def close(self) -> None:
        os._exit(0)  # obstore's threads must not meet the end of the interpreter


class _Obstore:
    def __init__(self) -> None:
        from benchmarks.peers.opening import store_of

        self._store = store_of(f"s3://{BUCKET}").store

    async def get(self, key: str) -> Any:
        import obstore

        return await (await obstore.get_async(self._store, key)).bytes_async()

    async def put(self, key: str, data: np.ndarray) -> None:
        import obstore

        await obstore.put_async(self._store, key, data, use_multipart=False)


class _Boto3:
    def __init__(self) -> None:
        import boto3
        from botocore.config import Config

        self._s3 = boto3.client("s3", config=Config(max_pool_connections=AT_ONCE, **_TUNED))
        self._threads = ThreadPoolExecutor(AT_ONCE)
        self._free = [bytearray(OBJECT_BYTES) for _ in range(AT_ONCE)]

    async def get(self, key: str) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._get, key)

    def _get(self, key: str) -> Any:
        buffer = self._free.pop()
        try:
            body = self._s3.get_object(Bucket=BUCKET, Key=key)["Body"]
            view, at = memoryview(buffer), 0
            while n := body.readinto(view[at:]):
                at += n
            return view[:at]
        finally:
            self._free.append(buffer)

    async def put(self, key: str, data: np.ndarray) -> None:
        def put() -> None:
            self._s3.put_object(Bucket=BUCKET, Key=key, Body=data.tobytes())

        await asyncio.get_running_loop().run_in_executor(self._threads, put)


class _Aioboto3:
    def __init__(self, s3: Any) -> None:
        self._s3 = s3

    async def get(self, key: str) -> Any:
        return await (await self._s3.get_object(Bucket=BUCKET, Key=key))["Body"].read()

    async def put(self, key: str, data: np.ndarray) -> None:
        await self._s3.put_object(Bucket=BUCKET, Key=key, Body=data.tobytes())


class _S3fs:
    def __init__(self) -> None:
        import s3fs

        self._fs = s3fs.S3FileSystem(asynchronous=True, config_kwargs=_TUNED, fixed_upload_size=True, skip_instance_cache=True)

    async def get(self, key: str) -> Any:
        return await self._fs._cat_file(f"{BUCKET}/{key}")

    async def put(self, key: str, data: np.ndarray) -> None:
        await self._fs._pipe_file(f"{BUCKET}/{key}", data.tobytes(), chunksize=2 * OBJECT_BYTES)


_TUNED: dict[str, Any] = {
    "s3": {"addressing_style": "path", "payload_signing_enabled": False},
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}


async def _store() -> Any:
    from tilefleet.config import StoreSection
    from tilefleet.store import Stores

    return Stores(StoreSection(endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"])).open(f"s3://{BUCKET}")


async def _obstore() -> Any:
    return _Obstore()


async def _boto3() -> Any:
    return _Boto3()


async def _aioboto3() -> Any:
    import aioboto3
    from aiobotocore.config import AioConfig

    return _Aioboto3(await aioboto3.Session().client("s3", config=AioConfig(**_TUNED)).__aenter__())


async def _s3fs() -> Any:
    return _S3fs()


_CLIENTS = {"client-store": _store, "client-obstore": _obstore, "client-boto3": _boto3, "client-aioboto3": _aioboto3,
            "client-s3fs": _s3fs}  # fmt: skip


def make(name: str, _options: dict[str, Any]) -> WithClient:
    return WithClient(name)
