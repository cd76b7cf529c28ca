"""The main job at a size that matters: multiply and add 2000 × 2000 random integers 0–9 on two real workers.

Runs the very commands a user would type, on an embedded deployment of its own in ``.demo/``, and ends with the times beside
NumPy's on this machine. The coursework this began with took 935 s for the same job.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent.parent / ".demo"
TILEFLEET = Path(sys.executable).with_name("tilefleet")
COURSEWORK_S, COURSEWORK_NUMPY_S = 935, 35  # both operations: on its fleet, and with NumPy on one laptop
console = Console(highlight=False)


def main() -> int:
    """Run the demonstration; the exit code of the first command that fails, else 0."""
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    console.print("Two workers, a coordinator and an SQS stand-in start as processes of their own; tiles lie in .demo/.\n")
    try:
        for command in COMMANDS:
            run(command)
        show_times()
    except subprocess.CalledProcessError as error:
        return error.returncode
    except KeyboardInterrupt:
        return 130
    finally:
        run("local down", is_shown=False)
    console.print("\nNow your own data, with .csv, .npy or .zarr files in any mix:")
    console.print("  .venv/bin/tilefleet multiply mine.csv yours.npy -o ours.csv")
    console.print("  .venv/bin/tilefleet --help", style="dim")
    return 0


COMMANDS = (
    "local up",
    "random 2000x2000 a.zarr --dtype int64 --low 0 --high 10 --seed 1",
    "random 2000x2000 b.zarr --dtype int64 --low 0 --high 10 --seed 2",
    "multiply a.zarr b.zarr -o product.zarr --compare numpy",
    "verify last",
    "add a.zarr b.zarr -o sum.csv --compare numpy",
    "head sum.csv",
    "list",
)


def run(arguments: str, *, is_shown: bool = True) -> None:
    """One command, as typed, with this terminal."""
    if is_shown:
        console.print(f"[bold cyan]$ tilefleet {arguments}[/]")
    subprocess.run([TILEFLEET, *shlex.split(arguments)], cwd=HERE, env=environment(), check=is_shown)  # noqa: S603
    if is_shown:
        console.print()


def environment() -> dict[str, str]:
    """The user's environment, with a state directory of the demonstration's own and no configuration of theirs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TILEFLEET_")}
    return kept | {"TILEFLEET_STATE": str(HERE / "state")}


def show_times() -> None:
    """What each operation took, everything included, beside the coursework."""
    table = Table("2000 × 2000, integers 0–9", "here", "the coursework", "its NumPy", title="Everything included")
    total_s = 0.0
    for operation in reversed(json.loads(read("list --json"))["operations"]):
        if operation["kind"] in ("multiply", "add"):
            total_s += operation["phases_s"]["total"]
            table.add_row(operation["kind"], f"{operation['phases_s']['total']:.2f} s")
    table.add_row("both", f"{total_s:.2f} s", f"{COURSEWORK_S} s", f"{COURSEWORK_NUMPY_S} s", style="bold")
    console.print(table)


def read(arguments: str) -> str:
    """What a command prints."""
    command = [str(TILEFLEET), *shlex.split(arguments)]
    return subprocess.run(command, cwd=HERE, env=environment(), check=True, capture_output=True, text=True).stdout  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
