"""What is there of one fleet, or of all, by the tag: the list that ``fleet down`` and ``fleet gc`` show and remove.

The rule: a thing is in the list when AWS says that it carries the tag; names only say where to look. (The data of a store in a
bucket that was given is the exception: it is known by its keys.)
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from coordinator.fleet import policies
from coordinator.fleet.ec2 import bucket as buckets
from coordinator.fleet.ec2 import identity, instances, tags
from coordinator.fleet.ec2.account import Account
from coordinator.fleet.records import Belonging
from tilefleet.bounded import for_each
from tilefleet.errors import NotAllowed, NotFound, TilefleetError
from tilefleet.quantities import format_bytes, format_seconds
from tilefleet.sqs import DEAD_SUFFIX

ORDER = (
    "instance", "volume", "launch template", "security group", "VPC endpoint", "instance profile", "role", "queue", "data",
    "bucket",
)  # fmt: skip
LOOKS_AT_ONCE = 8
_QUEUES = ("-operations", "-jobs", "-completions")
_ROLES = "tilefleet-"  # how the names of all our roles begin


def in_order(found: list[Belonging]) -> list[Belonging]:
    """As they must be removed: users before what they use; a queue before its dead letters."""
    return sorted(found, key=lambda one: (ORDER.index(one.kind), one.fleet, one.id))


class Finder:
    """Looks for the belongings of one fleet; of all fleets where none is named."""

    def __init__(self, account: Account, fleet: str = "", *, has_iam: bool = True) -> None:
        self._account = account
        self._fleet = fleet
        self._has_iam = has_iam
        self.stores: dict[str, str] = {}
        """Where fleets' records lie, by the tags that were seen on the way."""
        self._filters = tags.wanted((f"tag:{tags.FLEET}", [fleet]) if fleet else ("tag-key", [tags.FLEET]))

    async def everything(self) -> list[Belonging]:
        """All but data and buckets, in order."""
        looks = [self._instances, self._volumes, self._templates, self._groups, self._endpoints, self.queues]
        looks += [self._identities] if self._has_iam else []
        found: list[Belonging] = []

        async def see(look: Callable[[], Awaitable[list[Belonging]]]) -> None:
            found.extend(await look())

        await for_each(looks, see, concurrency=LOOKS_AT_ONCE, name="belongings")
        return in_order(found)

    async def _listed(self, operation: str, key: str, **parameters: Any) -> list[Any]:
        return await self._account.list("ec2", operation, key, Filters=self._filters, **parameters)

    async def _instances(self) -> list[Belonging]:
        now = time.time()
        reservations = await self._listed("describe_instances", "Reservations")
        found = []
        for one in (instance for reservation in reservations for instance in reservation["Instances"]):
            machine = instances.machine(one, "")
            if machine.state != "gone":
                age = format_seconds(max(0.0, now - machine.launched_at))
                detail = f"{machine.node}, {machine.kind} {machine.market}, {machine.state}, launched {age} ago"
                found.append(self._of("instance", machine.id, one["Tags"], detail, machine.launched_at))
        return found

    async def _volumes(self) -> list[Belonging]:
        """Those that no instance takes along with it."""
        volumes = [one for one in await self._listed("describe_volumes", "Volumes") if one["State"] == "available"]
        return [
            self._of("volume", one["VolumeId"], one["Tags"], f"{one['Size']} GiB, of no instance", one["CreateTime"].timestamp())
            for one in volumes
        ]

    async def _templates(self) -> list[Belonging]:
        return [
            self._of(
                "launch template", one["LaunchTemplateId"], one["Tags"], one["LaunchTemplateName"], _at(one.get("CreateTime"))
            )
            for one in await self._listed("describe_launch_templates", "LaunchTemplates")
        ]

    async def _groups(self) -> list[Belonging]:
        return [
            self._of("security group", one["GroupId"], one["Tags"], f"{one['GroupName']} in {one['VpcId']}")
            for one in await self._listed("describe_security_groups", "SecurityGroups")
        ]

    async def _endpoints(self) -> list[Belonging]:
        found = await self._listed("describe_vpc_endpoints", "VpcEndpoints")
        return [
            self._of(
                "VPC endpoint", one["VpcEndpointId"], one["Tags"], f"{one['ServiceName']} in {one['VpcId']}",
                _at(one.get("CreationTimestamp")),
            )
            for one in found if one["State"].lower() not in {"deleted", "deleting"}
        ]  # fmt: skip

    async def queues(self) -> list[Belonging]:
        """The queues, of which SQS itself says whose they are."""
        prefix: dict[str, Any] = {"QueueNamePrefix": f"{self._fleet}-"} if self._fleet else {}
        pages: dict[str, Any] = {
            "PaginationConfig": {"PageSize": 1000}
        }  # SQS ends at a thousand, without a word, where no size is asked for
        urls = [
            url
            for url in await self._account.list("sqs", "list_queues", "QueueUrls", **prefix, **pages)
            if _is_named_as_ours(url)
        ]
        found: list[Belonging] = []

        async def look(url: str) -> None:
            try:
                its = (await self._account.call("sqs", "list_queue_tags", QueueUrl=url)).get("Tags", {})
            except NotFound:  # gone meanwhile
                return
            except NotAllowed:
                if self._fleet and _name_of(url).removesuffix(DEAD_SUFFIX) in {f"{self._fleet}{which}" for which in _QUEUES}:
                    raise  # it would be left behind, and nobody would say so
                return  # somebody else's
            if self._is_wanted(its):
                self._note_store(its)
                found.append(Belonging("queue", _name_of(url), its[tags.FLEET], await self._messages(url)))

        await for_each(urls, look, concurrency=LOOKS_AT_ONCE, name="queues")
        return found

    async def _messages(self, url: str) -> str:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        try:
            answer = await self._account.call("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=names)
        except NotFound:
            return ""
        count = sum(int(value) for value in answer.get("Attributes", {}).values())
        return f"{count:,} messages" if count != 1 else "1 message"

    async def _identities(self) -> list[Belonging]:
        try:
            profiles = await self._roles("instance profile", "list_instance_profiles", "InstanceProfile")
            return profiles + await self._roles("role", "list_roles", "Role")
        except NotAllowed:
            if self._fleet:
                raise
            return []  # IAM is closed to these credentials, so they made nothing there

    async def _roles(self, kind: Literal["role", "instance profile"], operation: str, noun: str) -> list[Belonging]:
        """Roles or profiles. Those of one fleet are asked for by name: listing the account's takes a permission of its own."""
        if self._fleet:
            names = [policies.role_name(self._fleet, "node"), policies.role_name(self._fleet, "coordinator")]
        else:
            listed = await self._account.list("iam", operation, f"{noun}s")
            names = [one[f"{noun}Name"] for one in listed if one[f"{noun}Name"].startswith(_ROLES)]
        found: list[Belonging] = []
        for name in names:
            try:
                its = await identity.tags_of(self._account, kind, name)
            except NotAllowed:
                if self._fleet:
                    raise
                continue  # of a fleet that these credentials have nothing to do with
            if self._is_wanted(its) and its.get(tags.REGION) == self._account.region:
                self._note_store(its)
                found.append(Belonging(kind, name, its[tags.FLEET]))
        return found

    def _is_wanted(self, its: tags.Tags) -> bool:
        return tags.FLEET in its and self._fleet in {"", its[tags.FLEET]}

    def _of(self, kind: Any, id_: str, its: Any, detail: str, at: float = 0.0) -> Belonging:
        read = tags.read(its)
        self._note_store(read)
        return Belonging(kind, id_, read[tags.FLEET], detail, created_at=at)

    def _note_store(self, its: tags.Tags) -> None:
        if tags.STORE in its:
            self.stores[its[tags.FLEET]] = its[tags.STORE]

    async def own_buckets(self) -> list[tuple[str, tags.Tags]]:
        """Buckets that a fleet made, with their tags. Those that may not be looked at are somebody else's."""
        names = [one["Name"] for one in (await self._account.call("s3", "list_buckets"))["Buckets"]]
        found: list[tuple[str, tags.Tags]] = []

        async def look(name: str) -> None:
            try:
                its = await buckets.tags_of(self._account, name)
            except TilefleetError:  # no permission, or in another region
                return
            if self._is_wanted(its):
                found.append((name, its))

        await for_each(names, look, concurrency=LOOKS_AT_ONCE, name="buckets")
        return sorted(found)

    async def data(self, fleet: str, store_url: str, *, is_own_bucket: bool) -> list[Belonging]:
        """What the store holds, and the bucket itself where the fleet made it."""
        where = buckets.place(store_url)
        there = await buckets.contents(self._account, where, is_whole=is_own_bucket)
        found: list[Belonging] = []
        if there.ours:
            detail = f"{there.ours:,} objects, {format_bytes(there.ours_bytes)}: operations, their results and records"
            found.append(Belonging("data", store_url, fleet, detail, there.ours_bytes))
        if is_own_bucket:
            detail = "made by the fleet"
            if there.others:
                detail = f"stays: it holds {there.others:,} objects that are not the fleet's, such as {there.example}"
            found.append(Belonging("bucket", where.bucket, fleet, detail, there.others_bytes))
        return found


def _name_of(url: str) -> str:
    return url.rsplit("/", 1)[-1]


def _is_named_as_ours(url: str) -> bool:
    return _name_of(url).removesuffix(DEAD_SUFFIX).endswith(_QUEUES)


def _at(when: Any) -> float:
    return float(when.timestamp()) if when is not None else 0.0
