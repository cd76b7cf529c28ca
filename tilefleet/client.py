"""The client: inspects what a user names, writes the record of the operation to the store, and tells the coordinator.

The rule: everything is checked before anything is written, and the record is written before the message is sent, so a lost
message only delays. The client needs no network path to the coordinator; it may leave and come back.

Memory: an operand that must be staged goes out a few tiles or 8 MiB pieces at a time; nothing else of a matrix is held.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import secrets
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from tilefleet import destination, layout, lookup, ownership, staging
from tilefleet.config import Config, load
from tilefleet.dtypes import Scalar, parse_dtype
from tilefleet.errors import AlreadyExists, BadInput, TilefleetError
from tilefleet.ids import OPERATION_ID_LENGTH, encode
from tilefleet.inspection import inspect
from tilefleet.matrix import MatrixRef, Operand
from tilefleet.messages import Submit
from tilefleet.operation import Operation
from tilefleet.ownership import Owner
from tilefleet.records import Control, OperationRecord, OperationStatus, Output, RandomSpec, to_json
from tilefleet.session import Session
from tilefleet.submission import Request, Shape, Source, record_of, scalar_text, shown, verify_record

if TYPE_CHECKING:
    import numpy as np

    from tilefleet.lazy import LazyMatrix

OutPath = str | os.PathLike[str] | None


def find_config(path: str | Path | None = None) -> Config:
    """The configuration: ``path``, else $TILEFLEET_CONFIG, else ./tilefleet.toml, else the embedded default. Raises BadConfig."""
    chosen = path or os.environ.get("TILEFLEET_CONFIG")
    if chosen:
        return load(Path(chosen).expanduser())
    here = Path("tilefleet.toml")
    return load(here) if here.exists() else Config()


class Client:
    """``async with Client() as client: operation = await client.multiply("a.npy", array)``.

    Operands are local paths, URLs, arrays, LazyMatrix objects or finished operations. Each method that submits returns at
    once with an ``Operation``; it holds the embedded deployment, where that is used, until the client is closed.
    """

    def __init__(self, config: Config | None = None, *, config_path: str | Path | None = None) -> None:
        self.config = config if config is not None else find_config(config_path)
        self.session = Session(self.config)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the embedded deployment back; it goes on until it has nothing to do."""
        await self.session.close()

    async def connect(self) -> None:
        """Hold the deployment and find the queues now, so that the first operation need not."""
        await self.session.connect()

    # ---- submitting --------------------------------------------------------------------------------------------------

    async def submit(self, request: Request) -> Operation:
        """Check a request, stage what the workers cannot see, and hand it over.

        Raises BadInput, NotFound, AlreadyExists or NotAllowed before anything is written.
        """
        started = time.monotonic()
        operation = encode(secrets.token_bytes(OPERATION_ID_LENGTH), OPERATION_ID_LENGTH)
        sources = {
            name: await self._grounded(source, is_transposed, operation, name)
            for name, (source, is_transposed) in request.sources.items()
        }
        operands = {name: source.operand for name, source in sources.items()}
        out = destination.locate_output(request.out, is_overwrite=request.overwrite)
        record = record_of(request, operands, out, operation=operation, submitted_by=submitted_by())
        inputs = [operand.matrix.url for operand in operands.values()]
        await destination.check_output(self.session.stores, out, inputs, self.session.store.url)
        await self.session.connect()
        names = {name: shown(source.operand.matrix.url) for name, source in sources.items() if source.is_upload}
        record = msgspec.structs.replace(await self._staged(record, sources), names=names)
        if not _is_for_client(out, is_local=self.session.is_local):
            return await self._hand_over(record, started)
        # Far workers cannot write a local OUT: the result stays in the store, and Operation.wait fetches it.
        names = names | {"out": shown(out.url or "")}
        own = msgspec.structs.replace(record, out=Output(is_overwrite=out.is_overwrite), names=names)
        return await self._hand_over(own, started, save_to=out.url)

    async def multiply(
        self, a: Source, b: Source, *, out: OutPath = None, overwrite: bool = False,
        transpose_a: bool = False, transpose_b: bool = False, alpha: Scalar | str | None = None,
        beta: Scalar | str | None = None, c: Source | None = None, transpose_c: bool = False,
        tile: Shape | None = None, csv_dtype: str | None = None, command: str = "",
    ) -> Operation:  # fmt: skip
        """``alpha * (op(a) @ op(b)) + beta * op(c)``, promoted step by step as NumPy does; op transposes where asked to."""
        return await self.submit(
            Request(
                kind="multiply", a=a, b=b, c=c, transpose_a=transpose_a, transpose_b=transpose_b, transpose_c=transpose_c,
                alpha=alpha, beta=beta, out=out, overwrite=overwrite, tile=tile, csv_dtype=csv_dtype, command=command,
            )
        )  # fmt: skip

    async def add(
        self, a: Source, b: Source, *, out: OutPath = None, overwrite: bool = False, transpose_a: bool = False,
        transpose_b: bool = False, tile: Shape | None = None, csv_dtype: str | None = None, command: str = "",
    ) -> Operation:  # fmt: skip
        """``op(a) + op(b)`` of equal shapes: there is no broadcasting."""
        return await self.submit(
            Request(
                kind="add", a=a, b=b, transpose_a=transpose_a, transpose_b=transpose_b, out=out, overwrite=overwrite,
                tile=tile, csv_dtype=csv_dtype, command=command,
            )
        )  # fmt: skip

    async def subtract(
        self, a: Source, b: Source, *, out: OutPath = None, overwrite: bool = False, transpose_a: bool = False,
        transpose_b: bool = False, tile: Shape | None = None, csv_dtype: str | None = None, command: str = "",
    ) -> Operation:  # fmt: skip
        """``op(a) - op(b)`` of equal shapes; NumPy does not subtract bool from bool, and neither does this."""
        return await self.submit(
            Request(
                kind="subtract", a=a, b=b, transpose_a=transpose_a, transpose_b=transpose_b, out=out, overwrite=overwrite,
                tile=tile, csv_dtype=csv_dtype, command=command,
            )
        )  # fmt: skip

    async def scale(
        self, a: Source, alpha: Scalar | str, *, out: OutPath = None, overwrite: bool = False, transpose_a: bool = False,
        tile: Shape | None = None, csv_dtype: str | None = None, command: str = "",
    ) -> Operation:  # fmt: skip
        """``alpha * op(a)``, with NumPy's promotion for Python scalars."""
        return await self.submit(
            Request(
                kind="scale", a=a, alpha=alpha, transpose_a=transpose_a, out=out, overwrite=overwrite, tile=tile,
                csv_dtype=csv_dtype, command=command,
            )
        )  # fmt: skip

    async def transpose(
        self, a: Source, *, out: OutPath = None, overwrite: bool = False, tile: Shape | None = None,
        csv_dtype: str | None = None, command: str = "",
    ) -> Operation:  # fmt: skip
        """The transpose of a, written out (not conjugated). Products and sums transpose without this extra pass."""
        return await self.submit(
            Request(kind="transpose", a=a, out=out, overwrite=overwrite, tile=tile, csv_dtype=csv_dtype, command=command)
        )

    async def convert(
        self, a: Source, *, out: OutPath = None, overwrite: bool = False, dtype: str | None = None,
        tile: Shape | None = None, csv_dtype: str | None = None, command: str = "",
    ) -> Operation:  # fmt: skip
        """A copy in another format, with another element type (cast as ``astype`` does) or other tiles; the fleet makes it."""
        return await self.submit(
            Request(
                kind="convert", a=a, out=out, overwrite=overwrite, dtype=dtype, tile=tile, csv_dtype=csv_dtype, command=command
            )
        )  # fmt: skip

    async def random(
        self, shape: Shape, *, out: OutPath = None, overwrite: bool = False, dtype: str = "float64",
        low: Scalar | str = 0, high: Scalar | str | None = None, seed: int | None = None, tile: Shape | None = None,
        command: str = "",
    ) -> Operation:  # fmt: skip
        """Elements uniform in [low, high), the same for a seed whatever the fleet or the tiles; seed None draws one.

        ``high`` None: 10 for integers, so digits 0 to 9; 2 for bool, so both; else 1.
        """
        kind = parse_dtype(dtype, "the random matrix")
        usual_high = {"i": 10, "u": 10, "b": 2}.get(kind.kind, 1)
        spec = RandomSpec(
            shape=(int(shape[0]), int(shape[1])),
            dtype=kind.name,
            low=scalar_text(low, "low") or "0",
            high=scalar_text(usual_high if high is None else high, "high") or "1",
            seed=secrets.randbits(32) if seed is None else seed,
        )
        return await self.submit(Request(kind="random", random=spec, out=out, overwrite=overwrite, tile=tile, command=command))

    async def verify(self, operation: str | Operation, *, command: str = "") -> Operation:
        """Check a finished operation's result against its operands as they are now. The verdict is in the status."""
        started = time.monotonic()
        checked = await self.find(operation) if isinstance(operation, str) else operation
        status = await checked.status()
        if status is None or status.state != "done" or status.result is None:
            raise BadInput(f"operation {checked.id} has no result to verify; see 'tilefleet show {checked.id}'")
        record = verify_record(
            checked.record, status.result, operation=encode(secrets.token_bytes(OPERATION_ID_LENGTH), OPERATION_ID_LENGTH),
            submitted_by=submitted_by(), command=command,
        )  # fmt: skip
        await self.session.connect()
        return await self._hand_over(record, started)

    # ---- finding -----------------------------------------------------------------------------------------------------

    async def operations(self) -> list[tuple[OperationRecord, OperationStatus | None]]:
        """All operations the store knows, newest first, each with its status."""
        return await lookup.operations(self.session)

    async def find(self, prefix: str) -> Operation:
        """The operation whose id begins with ``prefix``; ``last``: the newest of this user from here.

        Raises NotFound when there is none, BadInput when there are several.
        """
        return Operation(self.session, await lookup.find(self.session, prefix, submitted_by()))

    async def control(self) -> Control | None:
        """The coordinator's beacon, with the workers it hears; None when none has run yet."""
        return await self.session.control()

    # ---- matrices ----------------------------------------------------------------------------------------------------

    async def inspect(self, location: str | os.PathLike[str], *, scan: bool = False) -> MatrixRef:
        """Format, shape, dtype and tiles of a matrix. Those of a CSV only with ``scan``: it is then read, piece by piece."""
        from tilefleet import preview

        ref = await inspect(self.session.stores, os.fspath(location))
        return await preview.scanned(self.session.stores, ref) if scan and ref.format == "csv" else ref

    async def open(self, location: str | os.PathLike[str]) -> LazyMatrix:
        """A .zarr or .npy matrix, read as it is used."""
        from tilefleet.lazy import LazyMatrix

        return LazyMatrix(self.session.stores, Operand(await inspect(self.session.stores, os.fspath(location))))

    async def head(self, location: str | os.PathLike[str] | LazyMatrix, rows: int = 6, cols: int = 6) -> np.ndarray:
        """The first rows and columns. Of a CSV, only the first lines are read, and the dtype is what these need."""
        from tilefleet import preview
        from tilefleet.lazy import LazyMatrix

        if isinstance(location, LazyMatrix):
            return await preview.corner(location, rows, cols)
        ref = await inspect(self.session.stores, os.fspath(location))
        if ref.format == "csv":
            return await preview.csv_corner(self.session.stores, ref, rows, cols)
        return await preview.corner(LazyMatrix(self.session.stores, Operand(ref)), rows, cols)

    # ---- inside ------------------------------------------------------------------------------------------------------

    async def _grounded(self, source: Source, is_transposed: bool, operation: str, name: str) -> staging.Grounded:
        if isinstance(source, Operation):
            source = await source.result()
        found = await staging.ground(self.session, source, operation, name)
        return found.transposed() if is_transposed else found

    async def _staged(self, record: OperationRecord, sources: dict[str, staging.Grounded]) -> OperationRecord:
        """The record with its operands where the workers see them. What was copied is removed when that fails."""
        moved: dict[str, Any] = {}
        try:
            for name, source in sources.items():
                operand = await staging.put(self.session, record.id, name, source)
                moved[name] = Operand(operand.matrix, getattr(record, name).is_transposed)
        except BaseException:
            await asyncio.shield(staging.withdraw(self.session, record.id))
            raise
        return msgspec.structs.replace(record, **moved)

    async def _hand_over(self, record: OperationRecord, started: float, save_to: str | None = None) -> Operation:
        store = self.session.store
        await self._claim(record)
        record = msgspec.structs.replace(record, submitted_at=time.time(), submit_s=time.monotonic() - started)
        if not await store.put_new(layout.record(record.id), to_json(record)):
            raise AlreadyExists(f"operation {record.id} exists already; submit again")
        await self.session.tell(Submit(self.config.fleet.name, record.id))
        if record.kind != "verify":  # "last" is the last one that made something: verifying it must not hide it
            await asyncio.to_thread(lookup.remember, self.session, record.id)
        return Operation(self.session, record, save_to=save_to)

    async def _claim(self, record: OperationRecord) -> None:
        """The open mark, then the place of the result: whoever wants the same place must see the mark beside the claim."""
        store, stores, mark = self.session.store, self.session.stores, layout.open_mark(record.id)
        await store.put_new(mark, b"")
        if not destination.is_claimed(record.out):
            return
        try:
            await destination.make_room(stores, record.out, Owner(record.id, store.url))
            if await store.put_new(mark, b""):  # clearing took so long that the coordinator forgot the first one
                await ownership.check(stores.open(str(record.out.url)), record.id)
        except BaseException:
            await asyncio.shield(self._withdraw(record.id))
            raise

    async def _withdraw(self, operation: str) -> None:
        await staging.withdraw(self.session, operation)
        with suppress(TilefleetError):
            await self.session.store.delete([layout.open_mark(operation)])


def submitted_by() -> str:
    """Who submits from where, as records name it: ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _is_for_client(out: Output, *, is_local: bool) -> bool:
    return out.url is not None and out.url.startswith("file:") and not is_local
