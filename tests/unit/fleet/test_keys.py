"""The fleet's own key pair, and host keys as known_hosts files have them."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.fleet.connections.keys import key_in_use, make_pair, public_line, write_known_hosts
from coordinator.fleet.connections.known_hosts import fingerprint, host_keys_of, matching, written
from coordinator.fleet.files import FleetFiles
from coordinator.fleet.records import Machine, NodeRecord
from tilefleet.errors import NotAllowed, NotFound
from tilefleet.fleet_config import SshSection

KEYS = [asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip() for _ in range(3)]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FleetFiles:
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path))
    return FleetFiles("lab")


class TestThePair:
    def test_it_is_made_once_for_us_alone_and_says_whose_it_is(self, files: FleetFiles) -> None:
        line = make_pair(files, "lab")
        assert line.startswith("ssh-ed25519 AAAA")
        assert line.endswith(" tilefleet lab")
        assert files.private_key.stat().st_mode & 0o777 == 0o600
        assert make_pair(files, "lab") == line == public_line(files)

    def test_openssh_takes_it(self, files: FleetFiles) -> None:
        line = make_pair(files, "lab")
        shown = subprocess.run(["ssh-keygen", "-y", "-f", files.private_key], check=True, capture_output=True, text=True).stdout
        assert line.startswith(shown.strip())

    def test_two_who_make_it_at_once_have_the_same(self, files: FleetFiles) -> None:
        with ThreadPoolExecutor(8) as pool:
            lines = set(pool.map(lambda _: make_pair(files, "lab"), range(8)))
        assert len(lines) == 1
        assert sorted(path.name for path in files.root.iterdir()) == ["id_ed25519", "id_ed25519.pub"]

    def test_the_public_half_is_written_again_when_it_is_lost(self, files: FleetFiles) -> None:
        line = make_pair(files, "lab")
        files.public_key.unlink()
        assert public_line(files) == ""
        assert make_pair(files, "lab") == line == public_line(files)

    def test_what_is_no_key_is_not_replaced(self, files: FleetFiles) -> None:
        files.make()
        files.private_key.write_text("hello", encoding="utf-8")
        with pytest.raises(NotAllowed, match="is no private key"):
            make_pair(files, "lab")
        assert files.private_key.read_text(encoding="utf-8") == "hello"

    def test_a_key_that_was_named_goes_before_it(self, files: FleetFiles) -> None:
        assert key_in_use(files, SshSection()) is None
        make_pair(files, "lab")
        assert key_in_use(files, SshSection()) == files.private_key
        assert key_in_use(files, SshSection(key_file="/keys/labsuser.pem")) == Path("/keys/labsuser.pem")


class TestKnownHosts:
    def test_what_is_pinned_is_what_ssh_reads(self, files: FleetFiles) -> None:
        far = Machine("i-1", "n1", "running", address="10.0.0.7")
        odd = Machine("i-2", "n2", "running", address="example.org", port=2222)
        off = Machine("i-3", "n3", "stopped")
        pinned = [
            (machine, NodeRecord(machine.node, machine.id, host_keys=(key,)))
            for machine, key in zip((far, odd, off), KEYS, strict=True)
        ]
        write_known_hosts(files, pinned)
        assert files.known_hosts.read_text(encoding="utf-8") == f"10.0.0.7 {KEYS[0]} n1\n[example.org]:2222 {KEYS[1]} n2\n"
        assert _found_by_openssh(files.known_hosts, "[example.org]:2222")
        assert host_keys_of(files.known_hosts, "example.org", 2222) == (KEYS[1],)

    def test_fingerprints_are_those_of_openssh(self) -> None:
        assert fingerprint(KEYS[0]) == asyncssh.import_public_key(KEYS[0]).get_fingerprint()

    def test_names_patterns_and_ports(self) -> None:
        text = "\n".join(
            [
                "# a comment",
                f"alpha,10.0.0.1 {KEYS[0]} comment",
                f"*.example.org,!bad.example.org {KEYS[1]}",
                f"[alpha]:2222 {KEYS[2]}",
                "alpha ssh-ed25519",
                "alpha ssh-ed25519 not-base64!",
            ]
        )
        assert matching(text, "alpha") == matching(text, "ALPHA") == matching(text, "10.0.0.1") == (KEYS[0],)
        assert matching(text, "good.example.org") == (KEYS[1],)
        assert matching(text, "bad.example.org") == matching(text, "beta") == matching(text, "10.0.0.11") == ()
        assert matching(text, "alpha", 2222) == (KEYS[2],)
        assert matching(text, "alpha", 2223) == ()

    def test_a_revoked_key_is_not_trusted_wherever_it_stands(self) -> None:
        text = f"alpha {KEYS[0]}\nalpha {KEYS[1]}\n@revoked * {KEYS[0]}\n"
        assert matching(text, "alpha") == (KEYS[1],)

    def test_an_authority_is_no_host_key(self) -> None:
        assert matching(f"@cert-authority * {KEYS[0]}\n", "alpha") == ()

    def test_hashed_names_are_found_as_openssh_hashes_them(self, tmp_path: Path) -> None:
        path = tmp_path / "known_hosts"
        path.write_text(f"alpha {KEYS[0]}\n[beta]:2222 {KEYS[1]}\n", encoding="utf-8")
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
        assert "alpha" not in path.read_text(encoding="utf-8")
        assert host_keys_of(path, "alpha") == (KEYS[0],)
        assert host_keys_of(path, "beta", 2222) == (KEYS[1],)
        assert host_keys_of(path, "beta") == ()

    @given(
        st.text().map(lambda text: " ".join(text.splitlines())), st.text(st.characters(codec="ascii"), min_size=1, max_size=20)
    )
    def test_what_nobody_understands_is_passed_over(self, text: str, host: str) -> None:
        assert matching(f"{text}\n", host) == ()
        assert matching(f"|1|{text} {KEYS[0]}\n", host) == ()

    def test_an_ipv6_address_stands_in_brackets_with_its_port(self) -> None:
        assert written("FE80::1") == "fe80::1"
        assert written("fe80::1", 2222) == "[fe80::1]:2222"
        assert matching(f"[fe80::1]:2222 {KEYS[0]}\n", "fe80::1", 2222) == (KEYS[0],)

    def test_a_file_that_is_not_there_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="connect to each once by hand"):
            host_keys_of(tmp_path / "none", "alpha")


def _found_by_openssh(path: Path, host: str) -> bool:
    return subprocess.run(["ssh-keygen", "-F", host, "-f", path], check=False, capture_output=True).returncode == 0
