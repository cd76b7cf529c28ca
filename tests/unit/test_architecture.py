"""The shape of the code: who may import whom, and how large a module may be."""

from __future__ import annotations

import ast
import functools
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("tilefleet", "coordinator", "workerd")
MAX_LINES = 400

# Who may touch the libraries that reach the network (import-linter has the rules between our own modules).
ADAPTERS = {
    "aioboto3": {"tilefleet.aws"},
    "botocore": {"tilefleet.aws", "tilefleet.credentials"},
    "boto3": set(),
    "obstore": {"tilefleet.store", "tilefleet.reading", "tilefleet.writing"},
    "asyncssh": {"coordinator.fleet.connections.ssh", "coordinator.fleet.connections.ssh_login"},
    "moto": {"coordinator.runtime.standin"},
    "pickle": set(),
}


def _modules() -> dict[str, Path]:
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


@functools.cache
def _imported(path: Path) -> frozenset[str]:
    """Top-level names of everything a module imports, also inside its functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
    return frozenset(names)


def test_import_contracts_are_kept() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command is not None
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_is_long() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in _modules().items()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_module_is_named_for_nothing() -> None:
    assert not {
        name for name in _modules() if name.rsplit(".", 1)[-1] in {"utils", "util", "helpers", "misc", "common", "manager"}
    }


def test_every_module_says_its_rule() -> None:
    silent = [
        name for name, path in _modules().items() if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


@pytest.mark.parametrize("library", ADAPTERS)
def test_a_library_that_reaches_out_stays_in_its_adapter(library: str) -> None:
    importers = {name for name, path in _modules().items() if library in _imported(path)}
    assert importers <= ADAPTERS[library]


def test_no_import_cycles_not_even_lazy_ones() -> None:
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    while imports:
        imported = set().union(*imports.values())
        inside = {module: targets & imports.keys() for module, targets in imports.items()}
        kept = {module: targets for module, targets in inside.items() if targets and module in imported}
        if kept == imports:
            break
        imports = kept
    assert {module: sorted(targets) for module, targets in imports.items()} == {}
