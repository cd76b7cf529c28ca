"""Where an operation's matrices lie, and the stages that bring a finished result to its name.

The rule: nothing half-made stands under a result's name. Tiles go to a place owned by the operation (or, in S3, straight
below OUT, where they are no array before ``zarr.json`` is written); publishing comes last and is one job.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec
import numpy as np

from coordinator.core import cost
from coordinator.core.cost import FleetFacts
from coordinator.core.stages import ExportStage, PublishStage, Stage
from tilefleet import layout
from tilefleet.footprint import peak_bytes
from tilefleet.formats.npy import header_bytes
from tilefleet.matrix import MatrixRef, Rect, ceil_div, default_tile
from tilefleet.messages import Export, Publish
from tilefleet.records import OperationRecord

PART_BYTES = 32 * 2**20  # of elements in one encoded band: some 60 MB of text for float64


class Places(NamedTuple):
    """URLs of one operation in the deployment's store."""

    store_url: str
    operation: str

    def _url(self, key: str) -> str:
        return f"{self.store_url.rstrip('/')}/{key}"

    def operand(self, name: str) -> str:
        return self._url(layout.operand(self.operation, name))

    def facts(self, stage: str) -> str:
        return self._url(layout.facts(self.operation, stage))

    def parts(self) -> str:
        return self._url(layout.parts(self.operation))

    def partial(self) -> str:
        return self._url(layout.partial(self.operation))

    def kept(self) -> str:
        """The result nobody named a place for."""
        return self._url(layout.result(self.operation))

    def tiles(self, url: str, like: MatrixRef) -> MatrixRef:
        """A matrix of ours at ``url`` with the shape and dtype of another."""
        if like.shape is None or like.dtype is None:
            raise ValueError(f"{like.url} has no shape yet")
        tile = default_tile(like.shape, np.dtype(like.dtype).itemsize)
        return MatrixRef(url, "zarr", like.shape, like.dtype, tile, is_ours=True)

    def result(self, record: OperationRecord, shape: tuple[int, int], dtype: str, tile: tuple[int, int]) -> MatrixRef:
        """Where the jobs write the tiles of the result."""
        out = record.out
        if out.url is None:
            url = self.kept()
        elif out.format != "zarr":
            url = self._url(f"{layout.operation(self.operation)}/result")
        else:
            url = staged(out.url, self.operation) if out.url.startswith("file:") else out.url
        return MatrixRef(url, "zarr", shape, dtype, tile, is_ours=True)


def staged(url: str, operation: str) -> str:
    """The hidden sibling of a local OUT.zarr that becomes it by a rename."""
    above, _, name = url.rstrip("/").rpartition("/")
    return f"{above}/.{name}.partial-{operation}"


class Published(NamedTuple):
    """The last stages, and what the user will find."""

    stages: tuple[Stage, ...]
    result: MatrixRef


def result_stages(
    record: OperationRecord, tiles: MatrixRef, after: tuple[str, ...], places: Places, fleet: FleetFacts
) -> Published:
    """Encode and join for a file; write ``zarr.json`` for an array. ``tiles`` may be an operand (``convert``)."""
    out = record.out
    if out.url is None or out.format == "zarr":
        final = msgspec.structs.replace(tiles, url=out.url or tiles.url)
        publish = Publish(
            final, record.id, staged_url=tiles.url if tiles.url != final.url else None, is_overwrite=out.is_overwrite
        )
        return Published(
            (PublishStage(name="publish", phase="commit", after=after, publish=publish, facts_url=places.facts("publish")),),
            final,
        )
    export = _export_stage(record, tiles, after, places, fleet)
    final = _file_ref(record, tiles)
    publish = Publish(final, record.id, places.parts(), export.n_jobs, is_overwrite=out.is_overwrite)
    stage = PublishStage(name="publish", phase="commit", after=("export",), publish=publish, facts_url=places.facts("publish"))
    return Published((export, stage), final)


def _export_stage(
    record: OperationRecord, tiles: MatrixRef, after: tuple[str, ...], places: Places, fleet: FleetFacts
) -> ExportStage:
    shape, dtype = tiles.shape or (0, 0), np.dtype(tiles.dtype)
    tile_rows = tiles.tile[0] if tiles.tile else 256
    encoding: Literal["npy", "csv"] = "csv" if record.out.format == "csv" else "npy"
    wanted = PART_BYTES // max(1, shape[1] * dtype.itemsize)
    spread = ceil_div(shape[0], 2 * fleet.n_workers)
    rows = max(1, min(max(wanted, 1), max(spread, 1)) // tile_rows * tile_rows or min(tile_rows, max(wanted, 1)))
    while rows > 1 and _export_peak(tiles, rows, encoding) > fleet.job_bytes:
        rows = max(1, rows // 2)
    stage = ExportStage(
        name="export", phase="export", after=after, n_rows=shape[0], n_cols=shape[1], band_rows=rows, facts_url=places.parts(),
        source=tiles, format=encoding, peak_bytes=_export_peak(tiles, rows, encoding),
    )  # fmt: skip
    bytes_per_s = 1e8 if encoding == "csv" else fleet.bytes_per_s
    return msgspec.structs.replace(stage, job_s=cost.JOB_OVERHEAD_S + rows * shape[1] * dtype.itemsize * 2 / bytes_per_s)


def _export_peak(tiles: MatrixRef, rows: int, encoding: Literal["npy", "csv"]) -> int:
    shape = tiles.shape or (0, 0)
    return peak_bytes(Export(tiles, Rect(0, min(rows, shape[0]), 0, shape[1]), encoding, ""))


def _file_ref(record: OperationRecord, tiles: MatrixRef) -> MatrixRef:
    shape, dtype = tiles.shape or (0, 0), np.dtype(tiles.dtype)
    url = record.out.url or ""
    if record.out.format == "csv":
        return MatrixRef(url, "csv", shape, dtype.name, is_gzip=record.out.is_gzip)
    offset = len(header_bytes(shape, dtype))
    size = offset + shape[0] * shape[1] * dtype.itemsize
    return MatrixRef(url, "npy", shape, dtype.name, size_bytes=size, data_offset_bytes=offset)
