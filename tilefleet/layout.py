"""Where things lie in the object store: every key of a deployment, as pure functions.

::

    operations/<op>/record.json            written once by the client, before its message
    operations/<op>/cancel.json            written once by whoever cancels
    operations/<op>/plan/<part>.json       written once by the leader: ``gunzip``, ``scan``, then ``main``
    operations/<op>/status/<epoch>.json    rewritten by the leader of that epoch; readers believe the highest
    operations/<op>/facts/<stage>/<index>.json
    operations/<op>/parts/<index>          encoded bands of a file that is going out
    operations/<op>/partial/<p>/           partial products of a split-k multiplication (Zarr arrays)
    operations/<op>/input/<name>/          an operand as tiles, when it came as a file
    open/<op>                              an operation that has not ended, or not been cleaned up after
    matrices/<op>/                         the result, when the user named no place for it (a Zarr array)
    staging/<op>/<name>                    a local file that a far fleet cannot see
    dead/<op or "message">-<hash>.json     a job that died, or a message that nobody could read or took up
    leader/<epoch>                         created by the coordinator that takes the lead
    control/<epoch>.json                   the leader's beacon and orders, rewritten every few seconds
    probe-<8 letters and digits>           for seconds, to measure the store and what is allowed in it
    fleet/fleet.json                       written once by the first ``fleet up``
    fleet/turns/<number>                   who wants to change the fleet's machines: the lowest that lives may
    fleet/nodes/<node>.json                a node: its machine, its pinned host keys, how far its set-up is
    fleet/hostkeys/<machine>               public host keys, written by the node itself when it boots
    fleet/artefacts/<digest>/<file>        what nodes are set up from, where they fetch it themselves

and below an OUT.zarr in S3::

    tilefleet/owner/<number>               whose array it is: the highest number counts
"""

from __future__ import annotations

import re

from tilefleet.ids import ALPHABET

OPEN = "open"
OPERATIONS = "operations"
DEAD = "dead"
LEADER = "leader"
CONTROL = "control"
OWNERS = "tilefleet/owner"
FLEET = "fleet/fleet.json"
FLEET_TURNS = "fleet/turns"
NODES = "fleet/nodes"
_TILE_OF_RESULT = re.compile(rf"/matrices/([{ALPHABET}]{{12}})/c/\d+/\d+\Z")
_NUMBER = re.compile(r"[0-9]{1,18}\Z")


def operation(op: str) -> str:
    return f"{OPERATIONS}/{op}"


def record(op: str) -> str:
    return f"{OPERATIONS}/{op}/record.json"


def cancel(op: str) -> str:
    return f"{OPERATIONS}/{op}/cancel.json"


def plan(op: str, part: str) -> str:
    return f"{OPERATIONS}/{op}/plan/{part}.json"


def statuses(op: str) -> str:
    return f"{OPERATIONS}/{op}/status"


def status(op: str, epoch: int) -> str:
    return f"{OPERATIONS}/{op}/status/{epoch:06d}.json"


def facts(op: str, stage: str) -> str:
    return f"{OPERATIONS}/{op}/facts/{stage}"


def parts(op: str) -> str:
    return f"{OPERATIONS}/{op}/parts"


def partial(op: str) -> str:
    return f"{OPERATIONS}/{op}/partial"


def operand(op: str, name: str) -> str:
    return f"{OPERATIONS}/{op}/input/{name}"


def open_mark(op: str) -> str:
    return f"{OPEN}/{op}"


def result(op: str) -> str:
    return f"matrices/{op}"


def operation_of_tile(url: str) -> str | None:
    """The operation whose kept result a tile at this URL (or path) belongs to; None for a tile of something else."""
    match = _TILE_OF_RESULT.search(url)
    return match[1] if match else None


def staging(op: str) -> str:
    return f"staging/{op}"


def dead(name: str) -> str:
    return f"{DEAD}/{name}.json"


def leader(epoch: int) -> str:
    return f"{LEADER}/{epoch:06d}"


def control(epoch: int) -> str:
    return f"{CONTROL}/{epoch:06d}.json"


def owner(number: int) -> str:
    return f"{OWNERS}/{number:06d}"


def indexed(prefix: str, index: int) -> str:
    """Key of the index-th small object under a prefix of facts or parts; sorts as the numbers do."""
    return f"{prefix}/{index:08d}"


def index_of_key(key: str) -> int | None:
    """Inverse of ``indexed``; None for a key of another kind."""
    name = key.rsplit("/", 1)[-1]
    return int(name) if _NUMBER.match(name) else None


def epoch_of_key(key: str) -> int | None:
    """Epoch of a leader, control or status key, number of an owner; None for a key of another kind."""
    name = key.rsplit("/", 1)[-1].removesuffix(".json")
    return int(name) if _NUMBER.match(name) else None


def turn(number: int) -> str:
    return f"{FLEET_TURNS}/{number:08d}"


def node(name: str) -> str:
    return f"{NODES}/{name}.json"


def host_keys(machine: str) -> str:
    return f"fleet/hostkeys/{machine}"


def artefact(digest: str, file: str) -> str:
    return f"fleet/artefacts/{digest}/{file}"


_OWN = re.compile(
    rf"({OPERATIONS}|matrices|staging)/[{ALPHABET}]{{12}}/.|{OPEN}/[{ALPHABET}]{{12}}\Z|{DEAD}/[^/]+\.json\Z"
    rf"|{LEADER}/[0-9]+\Z|{CONTROL}/[0-9]+\.json\Z|fleet/.|probe-[{ALPHABET}]{{8}}\Z"
)


def is_own(key: str) -> bool:
    """Whether a key is one of those above. Only what is may go with a fleet: people keep files beside."""
    return _OWN.match(key) is not None
