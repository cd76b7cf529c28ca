"""What a node of another kind needs: its own markers count, not ours."""

from __future__ import annotations

import pytest

from coordinator.fleet.setup.release import bundled, requires
from coordinator.fleet.setup.requirements import KNOWN_GOOD, Needed, Target, below, pinned, pins
from tilefleet.errors import NotFound

CONSTRAINTS = """
# known-good
numpy==2.4.6; python_version < "3.12"
numpy==2.5.5; python_version >= "3.12"  # the newest
Some_Package==1.0
"""
OLD, NEW = Target("3.11", "x86_64"), Target("3.13", "aarch64")


def test_a_pin_holds_where_its_marker_does() -> None:
    assert pins(CONSTRAINTS, OLD) == {"numpy": "2.4.6", "some-package": "1.0"}
    assert pins(CONSTRAINTS, NEW) == {"numpy": "2.5.5", "some-package": "1.0"}


def test_markers_are_those_of_the_node() -> None:
    requires = [
        "typing-extensions; python_version < '3.13'",
        "pywin32; sys_platform == 'win32'",
        "greenlet; platform_machine == 'aarch64'",
        "Always>=1",
    ]
    assert [each.name for each in below(Needed("a"), requires, OLD)] == ["typing-extensions", "always"]
    assert [each.name for each in below(Needed("a"), requires, NEW)] == ["greenlet", "always"]


def test_extras_only_where_somebody_asked_for_them() -> None:
    requires = ["moto[server]>=5; extra == 'local'", "numpy"]
    assert list(below(Needed("a"), requires, OLD)) == [Needed("numpy")]
    asked = Needed("a", frozenset({"local"}))
    assert list(below(asked, requires, OLD)) == [Needed("moto", frozenset({"server"})), Needed("numpy")]


def test_what_has_no_version_is_named() -> None:
    with pytest.raises(NotFound, match=r"constraints.txt has no version of surprise"):
        pinned("surprise", {"numpy": "2"})


@pytest.mark.parametrize("python", KNOWN_GOOD)
def test_our_own_list_pins_all_that_we_depend_on(python: str) -> None:
    target = Target(python, "x86_64")
    known = pins(bundled("constraints.txt").read_text(encoding="utf-8"), target)
    assert {each.name for each in below(Needed("tilefleet"), requires(), target)} <= known.keys()


def test_wheels_for_older_systems_run_on_newer_ones() -> None:
    platforms = NEW.platforms()
    assert platforms[0] == "manylinux_2_28_aarch64"
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(platforms)
