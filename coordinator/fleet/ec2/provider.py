"""The provider of EC2 instances: one face over the modules of this package, which each look after one kind of thing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from coordinator.fleet.connections import keys
from coordinator.fleet.ec2 import bucket as buckets
from coordinator.fleet.ec2 import console, first_boot, identity, images, instances, network, queues, template, user_data
from coordinator.fleet.ec2.account import Account
from coordinator.fleet.ec2.belongings import Finder
from coordinator.fleet.ec2.launching import Launcher, Recipe
from coordinator.fleet.ec2.pools import markets
from coordinator.fleet.ec2.quotes import Quotes
from coordinator.fleet.ec2.removal import Remover
from coordinator.fleet.files import FleetFiles
from coordinator.fleet.node_store import NodeStore
from coordinator.fleet.ports import Refused, Tell, Wanted
from coordinator.fleet.records import Belonging, Machine, Price
from tilefleet import layout
from tilefleet.config import Config
from tilefleet.errors import NotFound, TilefleetError
from tilefleet.store import Store

CONSOLE_AFTER_S = 90.0  # by then a node that can has written its keys to the store; EC2's console lags behind anyway


class Ec2Provider:
    """Keeps the contract of ``coordinator.fleet.ports.Provider``. ``config.store.url`` must be resolved."""

    can_launch = True

    def __init__(self, config: Config, files: FleetFiles, store: Store, account: Account | None = None) -> None:
        self._config = config
        self._fleet = config.fleet.name
        self._files = files
        self._store = store
        self._account = account or Account(config)
        self._quotes = Quotes(self._account)
        self._own_id = instances.own_id()
        self._user = config.ssh.user
        self._recipe: Recipe | None = None
        self._launcher: Launcher | None = None
        buckets.place(config.store.url)  # says at once when the store is no place for instances

    async def prepare(self, tell: Tell) -> None:
        """Make what instances need beside themselves, where it is missing."""
        self._recipe = await self._prepared(tell)

    async def _prepared(self, tell: Tell) -> Recipe:
        config, account = self._config, self._account
        image = await images.image(account, config)  # first what may be wrong with the configuration, and makes nothing
        vpc = await network.vpc(account, config)
        subnets = await network.subnets(account, config, vpc)
        await buckets.ensure(account, config, self._files, tell)
        await queues.ensure(account, config, tell)
        is_inside = await self._is_inside()
        group = await network.security_group(account, config, vpc, tell, is_inside=is_inside)
        if config.ec2.s3_endpoint:
            await network.s3_endpoint(account, config, vpc, tuple(subnet.id for subnet in subnets), tell)
        if not is_inside:  # a coordinator on a node uses the roles as they are: it must not be able to widen its own
            await identity.ensure(account, config, tell)
        found = await template.newest(account, self._fleet)
        known = user_data.authorized_in(found.user_data) if found else []
        authorized = user_data.merged([keys.make_pair(self._files, self._fleet)], known)
        contents = template.data(config, image, group, first_boot.script(config, account.region, image.user, authorized))
        made = await template.ensure(account, config, contents, found, tell)
        self._user = image.user
        return Recipe(
            fleet=self._fleet,
            uid="",
            store_url=config.store.url,
            template=made,
            profiles={role: identity.name(config, role) for role in ("worker", "coordinator")},
            market=config.ec2.market,
            kinds=config.ec2.instance_types,
            subnets=subnets,
            max_instances=config.ec2.max_instances,
        )

    async def _is_inside(self) -> bool:
        """Whether this is one of the fleet's own instances."""
        return bool(self._own_id) and self._own_id in [
            one["InstanceId"] for one in await instances.of_fleet(self._account, self._fleet)
        ]

    async def machines(self) -> list[Machine]:
        """Every instance of this fleet."""
        found = await instances.of_fleet(self._account, self._fleet)
        is_inside = self._own_id in [one["InstanceId"] for one in found]
        user = await self._log_in_user() if found else ""
        return [self._machine(one, user, is_inside=is_inside) for one in found]

    def _machine(self, instance: Any, user: str, *, is_inside: bool = False) -> Machine:
        return instances.machine(instance, user, is_inside=is_inside or self._config.ec2.address == "private")

    async def _log_in_user(self) -> str:
        if not self._user:
            self._user = await images.user(self._account, self._config)
        return self._user

    async def launch(self, wanted: Sequence[Wanted]) -> tuple[list[Machine], list[Refused]]:
        """Launch instances; idempotent by node name. Raises the first refusal when nothing could be launched."""
        if not wanted:
            return [], []
        recipe = self._recipe or await self._prepared(lambda _: None)
        if not recipe.uid:
            record = await NodeStore(self._store).fleet()
            recipe = recipe._replace(uid=record.uid if record else "")
        self._recipe = recipe
        self._launcher = self._launcher or Launcher(self._account, recipe)
        self._launcher.use(recipe)
        try:
            found, refused = await self._launcher.launch(wanted)
        except NotFound:
            self._recipe = None  # an image, a group or a template is gone: the next try looks again and makes what is missing
            raise
        return [self._machine(one, self._user) for one in found], refused

    async def terminate(self, machines: Sequence[Machine]) -> None:
        """End instances for good."""
        await instances.terminate(self._account, self._fleet, [machine.id for machine in machines])

    async def stop(self, machines: Sequence[Machine]) -> None:
        """Stop instances; they keep their disks. Raises BadInput for spot ones."""
        await instances.stop(self._account, self._fleet, [machine.id for machine in machines])

    async def start(self, machines: Sequence[Machine]) -> None:
        """Start them again; their addresses change. Raises DoesNotFit when that is over ec2.max_instances."""
        ids = [machine.id for machine in machines]
        await instances.start(self._account, self._fleet, ids, cap=self._config.ec2.max_instances)

    async def host_keys(self, machine: Machine) -> tuple[str, ...]:
        """Public host keys that the instance published itself, in the store or on its console; () as long as it did not."""
        try:
            text = bytes(await self._store.get(layout.host_keys(machine.id))).decode("utf-8", "replace")
            if found := console.keys_in_object(text):
                return found
        except NotFound:
            pass
        if machine.state != "running" or time.time() - machine.launched_at < CONSOLE_AFTER_S:
            return ()
        return console.keys_on_console(await self._console(machine.id))

    async def _console(self, id_: str) -> str:
        each: tuple[dict[str, Any], ...] = ({"Latest": True}, {})
        for options in each:  # instances that are not of the Nitro kind have no latest output
            try:
                answer = await self._account.call("ec2", "get_console_output", InstanceId=id_, **options)
            except TilefleetError:
                continue
            return str(answer.get("Output", ""))
        return ""

    async def price(self, machine_kind: str = "", market: str = "") -> Price | None:
        """What one more instance costs an hour: of the type and market that is tried first, unless said otherwise."""
        kinds = (machine_kind,) if machine_kind else self._config.ec2.instance_types
        if (market or markets(self._config.ec2.market)[0]) == "spot":
            return await self._quotes.spot(kinds)
        return await self._quotes.on_demand(kinds[0])

    async def belongings(self) -> list[Belonging]:
        """All that carries this fleet's tag, in the order in which it must be removed."""
        has_iam = not all(identity.given(self._config, role) for role in ("worker", "coordinator"))
        finder = Finder(self._account, self._fleet, has_iam=has_iam)
        found = await finder.everything()
        url = self._config.store.url
        owner = await buckets.belongs_to(self._account, buckets.place(url).bucket)
        return found + await finder.data(self._fleet, url, is_own_bucket=owner == self._fleet)

    async def remove(self, belongings: Sequence[Belonging], tell: Tell) -> None:
        """Remove exactly these, and wait until they are gone."""
        await Remover(self._account, tell).remove(belongings)
        self._recipe = self._launcher = None

    async def close(self) -> None:
        """Let go of connections."""
        await self._account.close()
