"""The doors: what reads bytes that somebody else wrote, and goes on with what it read as our programs do.

The rule: a door answers, or raises a ``TilefleetError``; anything else is a bug. What it answers is used once more, so that an
input that gets through does no harm behind the door either.
"""

from __future__ import annotations

import asyncio
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
import numpy as np

from coordinator.cli.dead import body_text
from coordinator.core.cost import FleetFacts
from coordinator.core.plans import Known, Settings, next_part, plan, read_plan
from coordinator.runtime.dead_letters import examined
from tests.unit.golden.examples import EXAMPLES, encoded
from tilefleet import dtypes, ids, layout, messages, quantities, submission
from tilefleet.config import StoreSection, parse
from tilefleet.errors import BadInput, printable
from tilefleet.facts import decode_facts
from tilefleet.footprint import peak_bytes
from tilefleet.formats import csv, csv_reading, npy
from tilefleet.matrix import tile_of_key
from tilefleet.queues import Rejected
from tilefleet.records import Control, DeadLetter, OperationRecord, OperationStatus, from_json
from tilefleet.store import Stores, file_url
from tilefleet.zarr_format import describe, metadata_json, operation_of

ROOT = Path(__file__).resolve().parents[2]
FLEET = FleetFacts(n_workers=3, memory_bytes=1 << 30)
SETTINGS = Settings("s3://fleet/store")
MOST_ELEMENTS = 4096  # of text that is parsed
MOST_PIECE_BYTES = 8 * 2**20  # of what is unpacked


class Door(NamedTuple):
    """``open`` takes any bytes; ``seeds`` are good ones, to begin from."""

    open: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


def text_of(data: bytes) -> str:
    """As SQS hands a body on: text, whatever was in it."""
    return data.decode("utf-8", "surrogateescape")


# ---- messages and records


def client_message(data: bytes) -> object:
    return messages.encode(messages.decode_client(text_of(data)))


def worker_message(data: bytes) -> object:
    return messages.encode(messages.decode_worker(text_of(data)))


def job(data: bytes) -> object:
    """What a worker does first with a job: how much memory it will need."""
    decoded = messages.decode_job(text_of(data))
    return messages.encode(decoded), _needs(decoded.work)


def _needs(work: Any) -> int:
    try:
        return peak_bytes(work)
    except (TypeError, ValueError, ArithmeticError) as error:  # as ``workerd.attempt`` takes it: a job that fails for good
        raise BadInput(f"a job that makes no sense: {error}") from error


def facts(data: bytes) -> object:
    return decode_facts(data)


def rejected(data: bytes) -> object:
    letter, _ = examined(text_of(data), "demo", "demo-jobs-dead", 0.0)
    return Rejected.of(text_of(data)), printable(letter.reason), body_text(letter.body)


def record(data: bytes) -> object:
    """What a client wrote, or somebody's editor: the planner plans it, or says what is wrong."""
    found = from_json(data, OperationRecord, "record.json")
    known = Known()
    part = next_part(found, frozenset())
    return submission.result_type(found), plan(part, found, known, FLEET, SETTINGS) if part is not None else None


def status(data: bytes) -> object:
    return from_json(data, OperationStatus, "status.json")


def control(data: bytes) -> object:
    return from_json(data, Control, "control.json")


def saved_plan(data: bytes) -> object:
    found = read_plan(data, "plan.json")
    return [(stage.name, stage.n_jobs, stage.job_of_key("c/0/0")) for stage in found.stages]


def dead_letter(data: bytes) -> object:
    return from_json(data, DeadLetter, "dead.json")


# ---- configuration and small texts


def config(data: bytes) -> object:
    try:
        return parse(data.decode())
    except UnicodeDecodeError as error:  # ``load`` says so
        return str(error)


def names(data: bytes) -> object:
    """Everything that is a short text: types, numbers, sizes, times, ids, keys."""
    text = text_of(data)
    found: list[object] = [ids.is_operation_id(text), ids.is_prefix(text), layout.is_own(text), tile_of_key(text)]
    for read in (dtypes.parse_dtype, dtypes.parse_scalar, quantities.parse_bytes, quantities.parse_seconds):
        try:
            found.append(read(text))
        except (BadInput, ValueError) as error:  # quantities are read for options and config, which say it in their words
            found.append(str(error))
    return found


def places(data: bytes) -> object:
    """A URL or path, as far as it goes without looking there."""
    text = text_of(data)
    stores = Stores(StoreSection(endpoint_url="http://127.0.0.1:9"))
    store, key = stores.locate(text)
    return stores.open(text).url, store.url_of(key), submission.output_of(text)


# ---- files


def npy_header(data: bytes) -> object:
    return npy.parse_header(data)


def zarr_metadata(data: bytes) -> object:
    return operation_of(data), describe(data, "file:///m.zarr")


def csv_text(data: bytes) -> object:
    """Looked at, then parsed by what was found; what parses is written, and read again as the same."""
    try:
        found = csv.scan(data)
        if found.cols == 0 or found.cols * len(csv.row_starts(data)) > MOST_ELEMENTS:
            return found
        dtype = np.dtype(found.dtype)
        block = csv.parse(data, found.cols, dtype)
        again = csv.parse(csv.encode(block), found.cols, dtype)
    except csv.CsvError as error:
        return str(error)
    np.testing.assert_array_equal(block, again)
    return block.shape


def csv_gz(data: bytes) -> object:
    """Unpacked in pieces of bounded size, however much comes out."""
    return asyncio.run(_unpacked(data))


async def _unpacked(data: bytes) -> int:
    with TemporaryDirectory() as directory:
        store = Stores(StoreSection()).open(file_url(Path(directory)))
        await store.put("a.gz", data)
        n_bytes = 0
        async for piece in csv_reading.unpacked(store, "a.gz"):
            assert len(piece) <= MOST_PIECE_BYTES
            n_bytes += len(piece)
            if n_bytes > 2**26:
                break
        return n_bytes


# ---- the table


def _golden(*beginnings: str) -> tuple[bytes, ...]:
    found = tuple(encoded(example) for name, example in EXAMPLES.items() if name.startswith(beginnings))
    assert found, beginnings
    return found


def _saved(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def _npys() -> tuple[bytes, ...]:
    arrays: list[np.ndarray] = [np.zeros((2, 3), dtype) for dtype in ("f8", ">i4", "?", "c16")]
    arrays += [np.asfortranarray(np.zeros((4, 2))), np.zeros(3), np.array([[None]], object)]
    return tuple(_saved(array, allow_pickle=True) for array in arrays)


def _zarrs() -> tuple[bytes, ...]:
    from tests.unit.golden.examples import OUT

    v2 = {"zarr_format": 2, "shape": [3, 4], "chunks": [2, 2], "dtype": "<f8", "compressor": None, "fill_value": "NaN",
          "order": "C", "filters": None}  # fmt: skip
    return (metadata_json(OUT, "0123456789ab"), msgspec.json.encode(v2))


CSVS = (
    b"1,2,3\n4,5,6\n", b"1.5,-2e10\r\nnan,inf\r\n", b"1+2j,(3-4j)\n5,6j\n", b'"1","2"\n"3","4"\n', b"true,false\n0,1\n",
    b"18446744073709551615,-1\n", b"1;2\n", b"\xef\xbb\xbf1,2\n", b"1,2\n\n3,4", b" 1 , 2 \n",
)  # fmt: skip
TEXTS = (
    b"float64", b">i4", b"complex128", b"1e-3", b"1+2j", b"64 MiB", b"1.5GiB", b"20 s", b"1h30m", b"0123456789ab", b"last",
    b"operations/0123456789ab/record.json", b"matrices/0123456789ab/c/0/12", b"dead/message-ab.json",
)  # fmt: skip
PLACES = (
    b"a.npy", b"./x/../b.csv.gz", b"s3://bucket/key/a.zarr", b"file:///tmp/a%20b.npy", b"s3://bucket", b"https://host/a.npy",
    b"~/a.zarr", b"/tmp/a#1.npy", b"file://host/a.npy", b"S3://Bucket/a.npy?x=1#y",
)  # fmt: skip


def doors() -> dict[str, Door]:
    """By name."""
    configs = tuple(path.read_bytes() for path in sorted((ROOT / "config").glob("*.toml")))
    return {
        "client message": Door(client_message, _golden("submit", "cancel")),
        "worker message": Door(worker_message, _golden("hello", "heartbeat", "bye", "done", "failed")),
        "job": Door(job, _golden("job-")),
        "facts": Door(facts, _golden("facts", "done-check")),
        "rejected": Door(rejected, (b'{"reason": "it is nonsense", "body": "x"}', *_golden("job-gemm"))),
        "record": Door(record, _golden("record")),
        "status": Door(status, _golden("status")),
        "control": Door(control, _golden("control")),
        "plan": Door(saved_plan, tuple(_plans())),
        "dead letter": Door(dead_letter, _golden("dead_letter")),
        "config": Door(config, configs),
        "names": Door(names, TEXTS),
        "places": Door(places, PLACES),
        "npy": Door(npy_header, _npys()),
        "zarr": Door(zarr_metadata, _zarrs()),
        "csv": Door(csv_text, CSVS),
        "csv.gz": Door(csv_gz, tuple(gzip.compress(text) for text in (*CSVS, bytes(10**7)))),
    }


DAMAGED_PLAN = (
    b'{"part": "main", "stages": [{"type": "elementwise", "name": "add", "phase": "compute", "block": [2, 2], "terms": [], '
    b'"out": {"url": "file:///x", "format": "zarr", "shape": [4, 4], "dtype": "float64"}}]}'
)


def _plans() -> list[bytes]:
    from tests.unit.coordinator.examples import plan_all
    from tests.unit.coordinator.examples import record as record_of

    made = [plan_all(record_of("multiply")), plan_all(record_of("add", forms=("csv", "npy")))]
    return [msgspec.json.encode(part) for parts in made for part in parts]
