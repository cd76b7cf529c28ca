"""What nodes are told: a worker what concerns it, a coordinator on a node nothing that is only on the person's machine."""

from __future__ import annotations

import getpass
from pathlib import Path

from coordinator.fleet.setup.bootstrap import planned
from coordinator.fleet.setup.installing import FromHere
from tilefleet.config import Config, FleetSection, StoreSection, parse
from tilefleet.fleet_config import HostsSection, NodesSection, SshSection


def config(environment_file: str = "") -> Config:
    return Config(
        fleet=FleetSection(name="lab", kind="remote"),
        store=StoreSection(url="s3://bucket/tiles"),
        nodes=NodesSection(provider="hosts", coordinator="node"),
        ssh=SshSection(key_file="~/.ssh/laptop", known_hosts="known_hosts", jump="bastion"),
        hosts=HostsSection(addresses=("10.0.0.11",), coordinator="10.0.0.11", environment_file=environment_file),
    )


def test_a_coordinator_logs_in_with_its_own_key_as_the_person_does() -> None:
    told, mistakes = parse(planned(config(), "n2", "coordinator").settings)
    assert mistakes == []
    assert told.ssh == SshSection(user=getpass.getuser(), jump="bastion", agent=False)
    assert told.hosts == config().hosts


def test_a_worker_is_told_nothing_of_how_nodes_are_reached() -> None:
    told, _ = parse(planned(config(), "n1").settings)
    assert (told.ssh, told.hosts, told.nodes) == (SshSection(), HostsSection(), NodesSection())


def test_a_keeper_plans_for_a_coordinator_what_the_person_planned() -> None:
    told, _ = parse(planned(config(), "n2", "coordinator").settings)
    assert planned(told, "n2", "coordinator") == planned(config(), "n2", "coordinator")


def test_a_coordinator_that_keeps_to_a_budget_is_not_ended_by_a_lifetime() -> None:
    nodes = NodesSection(provider="ec2", coordinator="node", max_hours=72)
    fleet = Config(fleet=config().fleet, store=config().store, nodes=nodes)
    assert planned(fleet, "n1", "coordinator").lifetime_s == 0
    assert planned(fleet, "n1", "coordinator").dead_man_s == 1800
    assert planned(fleet, "n2").lifetime_s == 86400


def test_a_keeper_without_the_environment_file_claims_no_settings(tmp_path: Path) -> None:
    absent = str(tmp_path / "keys")
    assert FromHere(config(absent), is_keeper=True).settings("worker") == ""
    (tmp_path / "keys").write_text("AWS_REGION=eu-central-1\n", encoding="utf-8")
    settings = {FromHere(config(absent), is_keeper=is_keeper).settings("worker") for is_keeper in (False, True)}
    assert len(settings) == 1
    assert "" not in settings
