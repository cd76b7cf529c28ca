"""Why a node cannot be reached: one sentence each, with what was seen and what to do about it.

NotAllowed is for what trying again does not mend; Unreachable for what may pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coordinator.fleet.connections.known_hosts import SSH_PORT, fingerprint
from tilefleet.errors import DoesNotFit, NotAllowed, Unreachable
from tilefleet.quantities import format_bytes


class KeyRefused(NotAllowed):
    """None of our keys opens the account: final, unless the machine is still authorizing them."""


class UnknownName(Unreachable):
    """There is no such name: trying again does not spell it better."""

    is_retryable = False


class Destination(NamedTuple):
    """Where a connection goes, and which keys the host may prove."""

    node: str
    """Name of the node; "the bastion" for ``ssh.jump``."""
    address: str
    port: int
    user: str
    host_keys: tuple[str, ...]
    known_hosts: str = ""
    """File that the host keys are from, when people keep it themselves."""

    @property
    def who(self) -> str:
        return f"{self.node} ({self.address}{f', port {self.port}' if self.port != SSH_PORT else ''})"


def unknown_name(to: Destination, *, is_final: bool) -> Unreachable:
    kind = UnknownName if is_final else Unreachable
    return kind(f"{to.node}: the name {to.address} does not resolve; check its spelling, and the DNS of this machine")


def refused(to: Destination, tried_s: float) -> Unreachable:
    return Unreachable(
        f"{to.who} refuses connections to port {to.port}{_tried(tried_s)}: no sshd runs there, or a firewall turns us away"
    )


def silent(to: Destination, tried_s: float) -> Unreachable:
    return Unreachable(
        f"{to.who} does not answer on port {to.port}{_tried(tried_s)}: it is switched off, or a firewall or security group drops "
        "what we send (ec2.ssh_from must contain the public address of this machine)"
    )


def no_route(to: Destination, tried_s: float, why: str) -> Unreachable:
    return Unreachable(
        f"there is no way to {to.who}{_tried(tried_s)}: {why}; check the network of this machine, a VPN or ssh.jump"
    )


def hanging(to: Destination, tried_s: float) -> Unreachable:
    return Unreachable(
        f"{to.who} takes connections on port {to.port} and then says nothing{_tried(tried_s)}: its sshd hangs, or something else "
        "listens there"
    )


def hung_up(to: Destination, tried_s: float, why: str) -> Unreachable:
    return Unreachable(f"{to.who} ends the connection before we are logged in{_tried(tried_s)}: {why}")


def beyond_the_bastion(to: Destination, tried_s: float, why: str) -> Unreachable:
    return Unreachable(f"the bastion cannot reach {to.who}{_tried(tried_s)}: {why}")


def unknown_host_key(to: Destination) -> NotAllowed:
    where = f" in {to.known_hosts}" if to.known_hosts else ""
    how = f"; connect once by hand, compare what it shows, and say yes: ssh -p {to.port} {to.user}@{to.address}" if where else ""
    return NotAllowed(f"the host key of {to.who} is not known{where}, and no unknown one is ever accepted{how}")


def wrong_host_key(to: Destination, seen: str) -> NotAllowed:
    shown = _shown(seen) if seen else "one of a kind that is not understood"
    if to.known_hosts:
        way = (
            "if it was installed anew, forget its old key and connect once by hand: "
            f"ssh-keygen -f {to.known_hosts} -R '{_entry(to)}'"
        )
    else:
        way = 'its address may belong to another machine by now: look at "tilefleet fleet status"'
    return NotAllowed(
        f"{to.who} proves another host key than the one that is known: {shown} instead of "
        f"{' or '.join(_shown(key) for key in to.host_keys)}; nothing was sent to it; {way}"
    )


def key_refused(to: Destination, offered: Sequence[str], said: str = "") -> KeyRefused:
    if not offered:
        return KeyRefused(
            f"{to.who} wants a key, and there is none: no ssh.key_file, no key in ~/.ssh, none in an ssh-agent; make one with "
            "ssh-keygen -t ed25519 or name one as ssh.key_file"
        )
    words = f" (it says: {said})" if said else ""
    return KeyRefused(
        f"{to.who} lets {to.user} in with none of these keys: {', '.join(offered)}{words}; check ssh.user and "
        f"ssh.key_file, or add the public half to ~{to.user}/.ssh/authorized_keys there"
    )


def no_shell(to: Destination, said: str) -> NotAllowed:
    words = f": it says {said!r}" if said else ""
    return NotAllowed(f"{to.who} logs {to.user} in and then runs no commands{words}; name a user with a shell as ssh.user")


def no_sudo(to: Destination, said: str) -> NotAllowed:
    return NotAllowed(
        f"{to.user} of {to.who} may not become root without a password ({said or 'sudo failed'}); allow it there with a line "
        f'"{to.user} ALL=(ALL) NOPASSWD:ALL" in /etc/sudoers.d/tilefleet, or name root as ssh.user'
    )


def gone(to: Destination, why: str, last_lines: str = "") -> Unreachable:
    return Unreachable(f"the connection to {to.who} broke: {why}{_said(last_lines)}")


def too_slow(to: Destination, deadline_s: float, last_lines: str = "") -> Unreachable:
    return Unreachable(f"a command on {to.who} did not end within {deadline_s:.4g} s and was ended{_said(last_lines)}")


def disk_full(to: Destination, remote: str, needed_bytes: int, free_bytes: int | None = None) -> DoesNotFit:
    free = "its disk is full" if free_bytes is None else f"{format_bytes(free_bytes)} are free there"
    return DoesNotFit(
        f"{remote} does not fit on {to.who}: {format_bytes(needed_bytes)} are needed and {free}; make room, or give its machine "
        "a larger disk (ec2.volume)"
    )


def damaged(to: Destination, remote: str) -> Unreachable:
    return Unreachable(
        f"{remote} arrived on {to.who} with another SHA-256 than it was sent with, twice; its disk or memory is at fault"
    )


def not_written(to: Destination, remote: str, last_lines: str) -> NotAllowed:
    return NotAllowed(f"{remote} cannot be written on {to.who}{_said(last_lines)}")


def not_managed(to: Destination, tried_s: float, status: str) -> Unreachable:
    seen = f"was last seen as {status!r}" if status else "has not registered"
    return Unreachable(
        f"{to.who} {seen} with Systems Manager{_tried(tried_s)}: its image needs the SSM agent, its role the policy "
        "AmazonSSMManagedInstanceCore (config/iam/node.json has it), and its subnet a way to the service"
    )


def _shown(key: str) -> str:
    return f"{key.split(maxsplit=1)[0]} {fingerprint(key)}"


def _entry(to: Destination) -> str:
    return to.address if to.port == SSH_PORT else f"[{to.address}]:{to.port}"


def _tried(tried_s: float) -> str:
    return f" (tried for {tried_s:.0f} s)" if tried_s >= 1 else ""


def _said(last_lines: str) -> str:
    return f"; its last lines:\n{last_lines}" if last_lines else ""
