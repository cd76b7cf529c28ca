"""Removing what a fleet made: exactly what is asked for, in its order, and waited for.

The rule: each thing must still carry the tag at the moment when it is removed; what does not is left alone, and said. So is
a gateway endpoint by which instances of others reach S3: that it goes would cut them off, or make them pay for a NAT.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from coordinator.fleet.ec2 import bucket as buckets
from coordinator.fleet.ec2 import identity, instances, network, tags
from coordinator.fleet.ec2.account import Account, until
from coordinator.fleet.ec2.belongings import ORDER, in_order
from coordinator.fleet.ports import Tell
from coordinator.fleet.records import Belonging
from tilefleet.aws import code_of
from tilefleet.backoff import persist
from tilefleet.bounded import for_each
from tilefleet.errors import NotFound

IN_USE_FOR_S = 300.0  # network interfaces of ended instances hold their security group for some minutes at most
GONE_WITHIN_S = 180.0
AT_ONCE = 6
_IN_USE = {"DependencyViolation", "DeleteConflict", "VolumeInUse", "InvalidGroup.InUse"}


class Remover:
    """Removes belongings of any fleet."""

    def __init__(self, account: Account, tell: Tell) -> None:
        self._account = account
        self._tell = tell
        self._removers: dict[str, Callable[[Belonging], Awaitable[None]]] = {
            "volume": self._volume,
            "launch template": self._template,
            "security group": self._group,
            "VPC endpoint": self._endpoint,
            "instance profile": self._profile,
            "role": self._role,
            "queue": self._queue,
            "data": self._data,
        }

    async def remove(self, belongings: Sequence[Belonging]) -> None:
        """All of these, users before what they use."""
        ordered = in_order(list(belongings))
        await self._instances([one for one in ordered if one.kind == "instance"])
        with_data = {buckets.place(one.id).bucket for one in ordered if one.kind == "data"}
        for kind in ORDER[1:-1]:  # queues take up to a minute each to go: those of a kind go at the same time
            some = [one for one in ordered if one.kind == kind]
            await for_each(some, self._one, concurrency=AT_ONCE, name=f"remove-{kind}")
        for one in ordered:
            if one.kind == "bucket":
                await self._bucket(one, is_data_too=one.id in with_data)

    async def _instances(self, ordered: Sequence[Belonging]) -> None:
        fleets = sorted({one.fleet for one in ordered})
        for fleet in fleets:
            ids = [one.id for one in ordered if one.fleet == fleet]
            self._tell(f"ending {len(ids)} instance{'s' if len(ids) > 1 else ''}: {', '.join(ids)}")
            await instances.terminate(self._account, fleet, ids, wholly=True)
        for one in ordered:
            self._tell(f"ended the instance {one.id}{f' ({one.detail})' if one.detail else ''}")

    async def _one(self, one: Belonging) -> None:
        try:
            if one.kind != "data" and not await self._is_still(one):
                self._tell(f"left the {one.kind} {one.id}: it is gone, or no longer carries {tags.FLEET}={one.fleet}")
                return
            if one.kind == "VPC endpoint" and (why := await network.used_by_others(self._account, one.id, one.fleet)):
                self._tell(f"left the VPC endpoint {one.id}: instances use it, {why}; 'fleet gc' removes it once they are gone")
                return
            await persist(
                lambda: self._removers[one.kind](one),
                for_s=IN_USE_FOR_S,
                is_worth_it=lambda error: error.is_retryable or code_of(error) in _IN_USE,
            )
        except NotFound:
            pass
        self._tell(f"removed the {one.kind} {one.id}{f' ({one.detail})' if one.detail else ''}")

    async def _is_still(self, one: Belonging) -> bool:
        """Whether it carries the tag of its fleet now."""
        if one.kind in ("role", "instance profile"):
            its = await identity.tags_of(self._account, one.kind, one.id)
        elif one.kind == "queue":
            url = await self._queue_url(one.id)
            its = (await self._account.call("sqs", "list_queue_tags", QueueUrl=url)).get("Tags", {})
        elif one.kind == "bucket":
            its = await buckets.tags_of(self._account, one.id)
        else:
            filters = tags.wanted(("resource-id", [one.id]), ("key", [tags.FLEET]))
            its = tags.read(await self._account.list("ec2", "describe_tags", "Tags", Filters=filters))
        return its.get(tags.FLEET) == one.fleet

    async def _volume(self, one: Belonging) -> None:
        await self._account.call("ec2", "delete_volume", VolumeId=one.id)

    async def _template(self, one: Belonging) -> None:
        await self._account.call("ec2", "delete_launch_template", LaunchTemplateId=one.id)

    async def _group(self, one: Belonging) -> None:
        await self._account.call("ec2", "delete_security_group", GroupId=one.id)

    async def _endpoint(self, one: Belonging) -> None:
        await self._account.call("ec2", "delete_vpc_endpoints", VpcEndpointIds=[one.id])

        async def is_gone() -> bool:
            filters = tags.wanted(("vpc-endpoint-id", [one.id]))
            found = await self._account.list("ec2", "describe_vpc_endpoints", "VpcEndpoints", Filters=filters)
            return all(endpoint["State"].lower() == "deleted" for endpoint in found)

        sentence = f"the VPC endpoint {one.id} is still being removed after {GONE_WITHIN_S:.0f} s; try again"
        await until(is_gone, for_s=GONE_WITHIN_S, sentence=sentence)

    async def _profile(self, one: Belonging) -> None:
        await identity.remove_profile(self._account, one.id)

    async def _role(self, one: Belonging) -> None:
        await identity.remove_role(self._account, one.id)

    async def _queue(self, one: Belonging) -> None:
        await self._account.call("sqs", "delete_queue", QueueUrl=await self._queue_url(one.id))

        async def is_gone() -> bool:
            try:
                await self._queue_url(one.id)
            except NotFound:
                return True
            return False

        sentence = f"the queue {one.id} is still there {GONE_WITHIN_S:.0f} s after it was removed; try again"
        await until(is_gone, for_s=GONE_WITHIN_S, sentence=sentence)

    async def _queue_url(self, name: str) -> str:
        answer = await self._account.call("sqs", "get_queue_url", QueueName=name)
        return str(answer["QueueUrl"])

    async def _data(self, one: Belonging) -> None:
        await buckets.empty(self._account, buckets.place(one.id))

    async def _bucket(self, one: Belonging, *, is_data_too: bool) -> None:
        """Only an empty bucket goes; what is the store's own goes with it where data are to go."""
        its = await buckets.tags_of(self._account, one.id)
        if its.get(tags.FLEET) != one.fleet:
            self._tell(f"left the bucket {one.id}: it is gone, or no longer carries {tags.FLEET}={one.fleet}")
            return
        where = buckets.place(its.get(tags.STORE) or f"s3://{one.id}")
        there = await buckets.contents(self._account, where, is_whole=True)
        if there.others or (there.ours and not is_data_too):
            what = f"{there.others:,} objects that are not the fleet's, such as {there.example}" if there.others else "the data"
            self._tell(f"left the bucket {one.id}, as it holds {what}")
            return
        await persist(
            lambda: self._delete_bucket(where), for_s=30.0, is_worth_it=lambda error: code_of(error) == "BucketNotEmpty"
        )
        self._tell(f"removed the bucket {one.id}")

    async def _delete_bucket(self, where: buckets.Place) -> None:
        try:
            await buckets.empty(self._account, where)  # a coordinator may have written meanwhile
            await self._account.call("s3", "delete_bucket", Bucket=where.bucket)
        except NotFound:
            return
