"""Which packages a release needs on another machine than this one: versions from our known-good list, names by closure.

Pure. pip evaluates environment markers for the Python that it runs on, not for the one that it downloads for, so it cannot be
asked; with every version pinned there is nothing to resolve, and following ``Requires-Dist`` under the other machine's
markers gives exactly what it needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from packaging.markers import Environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tilefleet.errors import NotFound

Architecture = Literal["x86_64", "aarch64"]
KNOWN_GOOD = ("3.13", "3.12", "3.11")
"""Versions of Python that the list is known to work with, the best first."""

# Debian 12, Ubuntu 22.04, Amazon Linux 2023 and everything newer have glibc 2.34 or newer; wheels are built for less.
_GLIBC = ("2_28", "2_27", "2_26", "2_24", "2_17", "2_12", "2_5")
_LEGACY = ("manylinux2014", "manylinux2010", "manylinux1")


class Target(NamedTuple):
    """A kind of node."""

    python: str
    """``3.11``."""
    architecture: Architecture

    def platforms(self) -> list[str]:
        """Tags of the wheels that run there, the best first."""
        return [f"manylinux_{glibc}_{self.architecture}" for glibc in _GLIBC] + [f"{old}_{self.architecture}" for old in _LEGACY]

    def environment(self) -> Environment:
        """What markers such as ``python_version < "3.12"`` are about."""
        return Environment(
            implementation_name="cpython",
            implementation_version=f"{self.python}.0",
            os_name="posix",
            platform_machine=self.architecture,
            platform_python_implementation="CPython",
            platform_release="",
            platform_system="Linux",
            platform_version="",
            python_full_version=f"{self.python}.0",
            python_version=self.python,
            sys_platform="linux",
        )

    def __str__(self) -> str:
        return f"Python {self.python} on {self.architecture}"


def pins(constraints: str, target: Target) -> dict[str, str]:
    """Version by name, of a constraints file's lines that hold for the target."""
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in constraints.splitlines()]
    found = [Requirement(line) for line in lines if line]
    return {
        canonicalize_name(each.name): next(iter(each.specifier)).version for each in found if _applies(each, target, frozenset())
    }


class Needed(NamedTuple):
    """A package, with the extras that somebody asked for."""

    name: str
    extras: frozenset[str] = frozenset()


def below(package: Needed, requires: Iterable[str], target: Target) -> Iterator[Needed]:
    """What a package needs there by its ``Requires-Dist``."""
    for line in requires:
        requirement = Requirement(line)
        if _applies(requirement, target, package.extras):
            yield Needed(canonicalize_name(requirement.name), frozenset(requirement.extras))


def pinned(name: str, pins: dict[str, str]) -> str:
    """``name==version``. Raises NotFound when the list does not have it."""
    if name not in pins:
        raise NotFound(f"constraints.txt has no version of {name}, which tilefleet's dependencies need: add one")
    return f"{name}=={pins[name]}"


def _applies(requirement: Requirement, target: Target, extras: frozenset[str]) -> bool:
    if requirement.marker is None:
        return True
    environment: dict[str, str] = dict(target.environment())  # type: ignore[arg-type]
    return any(requirement.marker.evaluate(environment | {"extra": extra}) for extra in extras or {""})
