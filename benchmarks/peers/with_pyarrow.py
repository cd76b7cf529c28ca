"""pyarrow's CSV reader, on all cores, and its writer, which uses one. What is read is a table in memory, and written from one."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.contract import Step, Told
from benchmarks.peers.opening import open_array

BLOCK_BYTES = 8 << 20


class WithPyarrow:
    def __init__(self) -> None:
        self._table: tuple[str, Any] = ("", None)

    def warm(self) -> None:
        import pyarrow.csv  # noqa: F401 - so that its import is not timed
        import zarr  # noqa: F401 - as above

    def do(self, step: Step) -> Told:
        if step.kind == "load":  # not measured: the table that is written next
            self._load(step.a)
        elif step.kind == "write":
            import pyarrow.csv

            pyarrow.csv.write_csv(self._table[1], step.out, pyarrow.csv.WriteOptions(include_header=False))
        else:
            read(step.a)
        return Told()

    def _load(self, url: str) -> None:
        import pyarrow as pa

        if self._table[0] != url:
            data = open_array(url)[:]
            self._table = (url, pa.table([pa.array(column) for column in data.T.copy()], [str(i) for i in range(data.shape[1])]))

    def processes(self) -> list[int]:
        return []

    def close(self) -> None: ...


def read(path: str) -> Any:
    """A file of floats without a header, as a table."""
    import pyarrow.csv

    return pyarrow.csv.read_csv(
        path,
        pyarrow.csv.ReadOptions(autogenerate_column_names=True, block_size=BLOCK_BYTES, use_threads=True),
    )


def make(_name: str, _options: dict[str, Any]) -> WithPyarrow:
    return WithPyarrow()
