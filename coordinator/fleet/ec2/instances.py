"""Instances as EC2 describes them, as machines of ours; and ending, stopping and starting them.

The rule: only instances that carry the fleet's tag are touched, whatever ids are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coordinator.fleet.ec2 import tags
from coordinator.fleet.ec2.account import Account, until
from coordinator.fleet.records import Machine, MachineState
from tilefleet.errors import BadInput, DoesNotFit

LEAVES_WITHIN_S = 120.0  # from TerminateInstances to an instance that is no longer running: seconds
STOPS_WITHIN_S = 300.0  # a clean shut-down of the system; EC2 forces it after some minutes
STARTS_WITHIN_S = 300.0
GONE = ("shutting-down", "terminated")

_STATES: dict[str, MachineState] = {
    "pending": "starting", "running": "running", "stopping": "stopping", "stopped": "stopped",
    "shutting-down": "gone", "terminated": "gone",
}  # fmt: skip
_TAKEN_BACK = {"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"}
_OWN_ID = Path("/var/lib/cloud/data/instance-id")  # cloud-init's, on every image that we know


def own_id(file: Path = _OWN_ID) -> str:
    """The id of the instance this runs on; empty elsewhere."""
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


async def of_fleet(account: Account, fleet: str) -> list[Any]:
    """EC2's descriptions of the fleet's instances, those that are gone included as long as EC2 shows them."""
    return await described(account, (f"tag:{tags.FLEET}", [fleet]))


async def described(account: Account, *filters: tuple[str, Sequence[str]]) -> list[Any]:
    """Descriptions of instances by filters."""
    reservations = await account.list("ec2", "describe_instances", "Reservations", Filters=tags.wanted(*filters))
    return [instance for reservation in reservations for instance in reservation["Instances"]]


def machine(instance: Any, user: str, *, is_inside: bool = False) -> Machine:
    """A machine of ours. ``is_inside``: from within its network, where the private address is the way. Pure."""
    its = tags.read(instance.get("Tags"))
    public = instance.get("PublicIpAddress") or ""
    private = instance.get("PrivateIpAddress") or ""
    state = instance["State"]["Name"]
    return Machine(
        id=instance["InstanceId"],
        node=its.get(tags.NODE, instance["InstanceId"]),
        state=_STATES.get(state, "gone"),
        role="coordinator" if its.get(tags.ROLE) == "coordinator" else "worker",
        address="" if state in GONE else (private if is_inside else public or private),
        user=user,
        kind=instance.get("InstanceType", ""),
        zone=instance.get("Placement", {}).get("AvailabilityZone", ""),
        market="spot" if instance.get("InstanceLifecycle") == "spot" else "on-demand",
        architecture="arm64" if instance.get("Architecture") == "arm64" else "x86_64",
        launched_at=instance["LaunchTime"].timestamp(),
        reason=_reason(instance, state),
    )


def _reason(instance: Any, state: str) -> str:
    """Why it is not running; EC2 keeps old reasons on instances that were started again."""
    if state in {"pending", "running"}:
        return ""
    reason = instance.get("StateReason", {})
    if reason.get("Code") in _TAKEN_BACK:
        return f"EC2 took the spot instance back ({reason['Code']})"
    said = str(reason.get("Message", ""))
    return said or str(instance.get("StateTransitionReason", ""))


async def terminate(account: Account, fleet: str, ids: Sequence[str], *, wholly: bool = False) -> None:
    """End instances and wait until they are no longer running; ``wholly``: until nothing of them is in use any more."""
    own = [one["InstanceId"] for one in await _own(account, fleet, ids) if one["State"]["Name"] != "terminated"]
    if not own:
        return
    await account.call("ec2", "terminate_instances", InstanceIds=own)
    ended = ("terminated",) if wholly else GONE

    async def is_done() -> bool:
        return all(one["State"]["Name"] in ended for one in await _own(account, fleet, own))

    for_s = STOPS_WITHIN_S if wholly else LEAVES_WITHIN_S
    await until(is_done, for_s=for_s, sentence=f"{_these(own)} did not end within {for_s:.0f} s; try again")


async def stop(account: Account, fleet: str, ids: Sequence[str]) -> None:
    """Stop instances, and wait until they are. Raises BadInput for spot ones, after the others stopped."""
    own = await _own(account, fleet, ids)
    spot = [one["InstanceId"] for one in own if one.get("InstanceLifecycle") == "spot"]
    able = [one["InstanceId"] for one in own if one["InstanceId"] not in spot and one["State"]["Name"] in {"running", "pending"}]
    if able:
        await account.call("ec2", "stop_instances", InstanceIds=able)
        await _wait(account, fleet, able, "stopped", STOPS_WITHIN_S)
    if spot:
        raise BadInput(f"{_these(spot)} cannot be stopped, being spot; only ended ('tilefleet fleet down')")


async def check_cap(
    account: Account, cap: int, wanted: str, n_more: int = 1, *, just_made: Sequence[str] = (), instead: str = "launched"
) -> None:
    """Raises DoesNotFit when so many more would be over the cap (0: none); all that run count, ours or not.

    ``just_made``: instances that EC2 may not show yet."""
    if not cap:
        return
    states = {one["InstanceId"]: one["State"]["Name"] for one in await described(account)}
    states = dict.fromkeys(just_made, "pending") | states
    count = sum(state in {"pending", "running"} for state in states.values())
    if count + n_more > cap:
        were = "was" if n_more == 1 else "were"
        raise DoesNotFit(
            f"{wanted} {were} not {instead}: {count} instances run in {account.region} already, and ec2.max_instances is "
            f"{cap}; end some, or raise it if the account may have more"
        )


async def start(account: Account, fleet: str, ids: Sequence[str], *, cap: int = 0) -> None:
    """Start stopped instances, and wait until they run. Raises DoesNotFit when more than ``cap`` would run then, with ours and
    all others of the account in the region."""
    able = [one["InstanceId"] for one in await _own(account, fleet, ids) if one["State"]["Name"] in {"stopped", "stopping"}]
    if not able:
        return
    await _wait(account, fleet, able, "stopped", STOPS_WITHIN_S)  # one that is still stopping cannot be started
    await check_cap(account, cap, _these(able), len(able), instead="started")
    await account.call("ec2", "start_instances", InstanceIds=able)
    await _wait(account, fleet, able, "running", STARTS_WITHIN_S)


async def _wait(account: Account, fleet: str, ids: Sequence[str], state: str, for_s: float) -> None:
    async def is_done() -> bool:
        found = await _own(account, fleet, ids)
        if ended := [one["InstanceId"] for one in found if one["State"]["Name"] in GONE]:
            raise BadInput(f"{_these(ended)} ended while it was waited for")
        return all(one["State"]["Name"] == state for one in found)

    await until(is_done, for_s=for_s, sentence=f"{_these(ids)} did not reach the state {state} within {for_s:.0f} s; try again")


async def _own(account: Account, fleet: str, ids: Sequence[str]) -> list[Any]:
    """Those of the instances that are the fleet's. A filter, unlike a list of ids, may name one that is not there."""
    found: list[Any] = []
    for start_ in range(0, len(ids), 200):  # values of a filter
        found += await described(account, (f"tag:{tags.FLEET}", [fleet]), ("instance-id", list(ids[start_ : start_ + 200])))
    return found


def _these(ids: Sequence[str]) -> str:
    return f"the instance {ids[0]}" if len(ids) == 1 else f"the instances {', '.join(ids)}"
