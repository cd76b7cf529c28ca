"""What goes around SSH without a network: addresses, which nodes are meant, the command line of ssh, what a command prints."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.fleet.connections.addresses import Address, parse_address
from coordinator.fleet.connections.by_hand import session_words, ssh_words
from coordinator.fleet.connections.choosing import chosen
from coordinator.fleet.connections.remote_command import KEPT_BYTES, Output, command_line
from coordinator.fleet.records import Machine, NodeRecord
from tilefleet.errors import BadConfig, NotFound, Unreachable
from tilefleet.fleet_config import SshSection

MACHINES = [
    Machine("i-2", "n10", "running", address="10.0.0.10"),
    Machine("i-1", "n2", "running", address="10.0.0.2"),
    Machine("i-3", "n3", "gone", reason="terminated by spot"),
    Machine("i-9", "n9", "running", address="10.0.0.9"),
]
RECORDS = [NodeRecord("n2", "i-1"), NodeRecord("n3", "i-3", ended_at=5.0), NodeRecord("n10", "i-2")]


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("alpha", Address("alpha")),
            (" 10.0.0.1 ", Address("10.0.0.1")),
            ("me@alpha.example.org", Address("alpha.example.org", 22, "me")),
            ("me@10.0.0.1:2222", Address("10.0.0.1", 2222, "me")),
            ("[fe80::1%eth0]:2222", Address("fe80::1%eth0", 2222)),
            ("me@[::1]", Address("::1", 22, "me")),
            ("fe80::1", Address("fe80::1")),
        ],
    )
    def test_all_forms(self, text: str, expected: Address) -> None:
        assert parse_address(text, "hosts.addresses") == expected

    @pytest.mark.parametrize("text", ["", "@alpha", "alpha:", "alpha:0", "alpha:70000", "a b", "me@", "-oProxyCommand=x", "a;b"])
    def test_what_is_none_names_its_setting(self, text: str) -> None:
        with pytest.raises(BadConfig, match=r"ssh\.jump: .* is no address"):
            parse_address(text, "ssh.jump")

    @given(st.text())
    def test_nothing_that_is_taken_is_an_option(self, text: str) -> None:
        try:
            address = parse_address(text, "x")
        except BadConfig:
            return
        assert not address.host.startswith("-")
        assert not address.user.startswith("-")


class TestWhichNodes:
    def test_without_names_all_that_run_and_are_set_up_in_order(self) -> None:
        assert [target.record.name for target in chosen(MACHINES, RECORDS, [])] == ["n2", "n10"]

    @pytest.mark.parametrize("name", ["n10", "i-2", "10.0.0.10"])
    def test_by_name_machine_or_address(self, name: str) -> None:
        assert [target.record.name for target in chosen(MACHINES, RECORDS, [name])] == ["n10"]

    def test_a_node_that_is_named_twice_is_meant_once(self) -> None:
        assert [target.record.name for target in chosen(MACHINES, RECORDS, ["n10", "n2", "i-2"])] == ["n2", "n10"]

    def test_an_unknown_name_is_answered_with_those_there_are(self) -> None:
        with pytest.raises(NotFound, match="no node 'n7'; it has n2, n10"):
            chosen(MACHINES, RECORDS, ["n2", "n7"])

    def test_a_node_that_does_not_run_says_why(self) -> None:
        with pytest.raises(Unreachable, match=r"node n3 \(i-3\) is gone: terminated by spot"):
            chosen(MACHINES, RECORDS, ["n3"])
        with pytest.raises(Unreachable, match=r"node n9 \(i-9\) is not set up yet"):
            chosen(MACHINES, RECORDS, ["n9"])

    def test_a_fleet_where_nothing_runs_says_how_to_start(self) -> None:
        with pytest.raises(Unreachable, match="fleet up"):
            chosen([], RECORDS, [])


class TestSshByHand:
    def test_it_is_as_strict_as_we_are(self) -> None:
        machine = Machine("i-1", "n1", "running", address="10.0.0.1", port=2222, user="ec2-user")
        words = ssh_words(
            machine, SshSection(agent=False), known_hosts=Path("/a b/known"), key=Path("/a b/key"), words=["ls", "-l"]
        )
        assert shlex.join(words) == (
            "ssh -o StrictHostKeyChecking=yes -o 'UserKnownHostsFile=\"/a b/known\"' -o GlobalKnownHostsFile=/dev/null "
            "-o ServerAliveInterval=5 -i '/a b/key' -o IdentityAgent=none -p 2222 -l ec2-user -- 10.0.0.1 ls -l"
        )

    def test_a_bastion_has_to_prove_its_key_too(self) -> None:
        machine = Machine("i-1", "n1", "running", address="10.0.0.1", user="ec2-user")
        settings = SshSection(jump="me@bastion:2200", known_hosts="/known")
        words = ssh_words(machine, settings, known_hosts=Path("/fleet"), key=None, words=[])
        proxy = next(word for word in words if word.startswith("ProxyCommand="))
        assert proxy == (
            "ProxyCommand=ssh -o StrictHostKeyChecking=yes -o 'UserKnownHostsFile=\"/known\"' -o GlobalKnownHostsFile=/dev/null "
            "-p 2200 -l me -W '[%h]:%p' -- bastion"
        )

    def test_a_session_by_systems_manager(self) -> None:
        machine = Machine("i-1", "n1", "running")
        assert session_words(machine, "us-east-1", []) == shlex.split("aws ssm start-session --target i-1 --region us-east-1")
        assert session_words(machine, "us-east-1", ["ls", "-l"])[-1] == '{"command": ["ls -l"]}'


class TestOutput:
    @given(st.lists(st.binary(max_size=40), max_size=30))
    def test_lines_do_not_depend_on_how_they_arrive(self, pieces: list[bytes]) -> None:
        whole: list[str] = []
        parted: list[str] = []
        one, many = Output(whole.append), Output(parted.append)
        one.feed(b"".join(pieces))
        for piece in pieces:
            many.feed(piece)
        assert one.close() == many.close() == b"".join(pieces).decode(errors="replace")
        assert whole == parted

    @given(st.lists(st.integers(0, KEPT_BYTES), max_size=8))
    def test_the_end_of_it_is_kept(self, sizes: list[int]) -> None:
        output, everything = Output(), b""
        for number, size in enumerate(sizes):
            output.feed(bytes([97 + number]) * size)
            everything += bytes([97 + number]) * size
        assert output.close() == everything[-KEPT_BYTES:].decode()

    def test_a_line_without_an_end_is_said_at_the_end(self) -> None:
        lines: list[str] = []
        output = Output(lines.append)
        output.feed(b"one\r\ntwo")
        assert lines == ["one"]
        output.close()
        assert lines == ["one", "two"]

    def test_root_needs_no_sudo(self) -> None:
        assert command_line(b"", 0, 5, needs_sudo=False).startswith("/bin/sh -c ")
        assert command_line(b"", 0, 5, needs_sudo=True).startswith("sudo -n -- /bin/sh -c ")
