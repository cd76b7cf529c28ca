"""What ``fleet up`` says before it does anything."""

from __future__ import annotations

from typing import get_args

import msgspec

from coordinator.fleet.deciding.foresight import SAID, foresee, lines
from coordinator.fleet.deciding.reconcile import Action, Drain, Launch, SetUp, Start
from tilefleet.config import Config, FleetSection, StoreSection
from tilefleet.fleet_config import Ec2Section, NodesSection

EC2 = Config(
    fleet=FleetSection(name="demo", kind="remote"), store=StoreSection(url="s3://tiles/here"), nodes=NodesSection(provider="ec2")
)
HOSTS = msgspec.structs.replace(EC2, nodes=NodesSection(provider="hosts"))


def test_every_action_has_words() -> None:
    assert SAID.keys() == set(get_args(Action))


def test_actions_are_collected_by_what_is_done() -> None:
    found = foresee([Launch("n1"), Launch("n2"), SetUp("n3"), Start("n4"), Drain("n5")], [], HOSTS, ["queue"])
    assert found.nodes == {
        "launch": ("n1", "n2"), "set up": ("n3",), "switch on": ("n4",), "drain, then take down": ("n5",),
    }  # fmt: skip
    assert (found.n_launched, found.n_started) == (2, 1)
    assert "launch: n1, n2" in lines(found)


def test_coordinators_are_counted_as_they_are_paid_for_otherwise() -> None:
    found = foresee([Launch("n1", "coordinator"), Launch("n2")], [], EC2, [])
    assert (found.n_launched, found.n_coordinators) == (2, 1)


def test_all_that_will_be_updated_is_said_though_reconcile_names_one_at_a_time() -> None:
    assert foresee([], ["n1", "n2"], HOSTS, ["queue"]).nodes == {"update": ("n1", "n2")}


def test_what_is_there_is_not_made_again() -> None:
    assert foresee([], [], HOSTS, ["queue"]).things == ()
    missing = foresee([], [], EC2, ["queue", "security group", "launch template"]).things
    assert [thing.split()[0] for thing in missing] == ["bucket", "role"]


def test_what_is_given_is_not_made() -> None:
    given = msgspec.structs.replace(EC2, ec2=Ec2Section(instance_profile="LabInstanceProfile", security_group="sg-1"))
    said = " ".join(foresee([], [], given, []).things)
    assert "role" not in said
    assert "security group" not in said


def test_many_nodes_are_not_all_listed() -> None:
    found = foresee([Launch(f"n{number}") for number in range(1, 101)], [], HOSTS, ["queue"])
    assert lines(found) == ["launch: n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11, n12 and 88 more"]
