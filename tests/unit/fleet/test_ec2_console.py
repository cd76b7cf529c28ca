"""Host keys as instances publish them."""

from __future__ import annotations

from coordinator.fleet.ec2 import console

ED = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG2nVhKJ0bq0w5mT3Y3L6oXo5V8c1mYk0m1yL7l1Q2aB"
EC = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGk="
BOOT = f"""[   14.9] cloud-init[1213]: Cloud-init v. 23.1
<14>Nov 22 21:03:01 cloud-init: #############################################################
ci-info: no authorized SSH keys fingerprints found for user ec2-user.
-----BEGIN SSH HOST KEY KEYS-----
{EC} root@ip-10-0-0-4
{ED} root@ip-10-0-0-4
-----END SSH HOST KEY KEYS-----
[   15.3] cloud-init[1213]: finished
"""


def test_an_object_has_one_key_in_a_line() -> None:
    assert console.keys_in_object(f"{EC}\n{ED} a comment\n\nrubbish\nssh-ed25519 short\n") == (EC, ED)


def test_a_console_has_them_between_marks() -> None:
    assert console.keys_on_console(BOOT) == (EC, ED)


def test_lines_of_a_console_may_have_prefixes() -> None:
    prefixed = "\r\n".join(f"[   17.{n}] cloud-init[891]: {line}" for n, line in enumerate(BOOT.splitlines()))
    assert console.keys_on_console(prefixed) == (EC, ED)


def test_the_newest_boot_counts() -> None:
    assert console.keys_on_console(BOOT.replace("AAAAC3", "AAAAC4") + BOOT) == (EC, ED)


def test_a_block_that_is_not_whole_says_nothing() -> None:
    assert console.keys_on_console("") == ()
    assert console.keys_on_console(BOOT.split("-----END", maxsplit=1)[0]) == ()
    assert console.keys_on_console(BOOT.split("-----BEGIN SSH HOST KEY KEYS-----")[1]) == ()


def test_a_second_boot_in_the_middle_leaves_the_first_ones_block() -> None:
    assert console.keys_on_console(BOOT + BOOT.split("-----END", maxsplit=1)[0]) == (EC, ED)


def test_keys_outside_the_marks_are_nobodys_word() -> None:
    assert console.keys_on_console(f"{ED}\n{BOOT.replace(ED, '')}{ED}\n") == (EC,)
