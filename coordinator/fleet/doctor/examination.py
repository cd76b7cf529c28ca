"""All checks that concern a configuration, at once, each with a deadline of its own.

The rule: a check that breaks is a finding, and holds up no other. What can only be asked with credentials is not asked without.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from coordinator.fleet.doctor import account as account_checks
from coordinator.fleet.doctor import hosts, instances, machine, services
from coordinator.fleet.doctor.findings import Finding, failure, of_error, skipped
from coordinator.fleet.doctor.judgements.account import AREA as ACCOUNT
from coordinator.fleet.doctor.judgements.instances import coordinator as judge_coordinator
from coordinator.fleet.ec2.account import Account
from tilefleet import aws
from tilefleet.account import Identity, identity, resolved
from tilefleet.config import Config
from tilefleet.errors import TilefleetError

DEADLINE_S = 45.0
AREAS = ("this machine", "network", "AWS account", "instances", "hosts", "store", "queues", "fleet")

Checks = list[Finding]


async def examine(config: Config) -> Checks:
    """Every finding, in the order of ``AREAS``."""
    if config.fleet.kind == "local":
        return await _within("this machine", "this machine", asyncio.to_thread(machine.examine, config))
    groups = [
        _within("this machine", "this machine", asyncio.to_thread(machine.examine, config)),
        _within("network", "services", services.network(config)),
        _within(ACCOUNT, "account", _of_account(config)),
    ]
    if config.nodes.provider == "hosts":
        groups.append(_within("hosts", "hosts", hosts.examine(config)))
    found = [finding for group in await asyncio.gather(*groups) for finding in group]
    return sorted(found, key=lambda finding: AREAS.index(finding.area))


async def _of_account(config: Config) -> Checks:
    """What needs credentials."""
    if _is_without_aws(config):
        who, findings = None, [skipped(ACCOUNT, "credentials", "store and queues are not AWS's; only they know these keys")]
    else:
        try:
            who = await identity(aws.region_of(config.ec2.region, config.store.region), config.ec2.endpoint_url)
        except TilefleetError as error:
            return [of_error(ACCOUNT, "credentials", error), skipped("store", "bucket", "not asked without credentials")]
        findings = [account_checks.credentials(who, time.time()), *account_checks.learner_lab(who, config)]
    try:
        config = await asyncio.to_thread(resolved, config)
    except TilefleetError as error:
        return [*findings, of_error("store", "url", error)]
    groups = [
        _within("store", "bucket", services.store(config)),
        _within("queues", "queues", services.queues(config)),
        _within("fleet", "fleet", services.fleet(config)),
    ]
    if config.nodes.provider == "ec2" and who is not None:
        groups.append(_of_ec2(config, who))
    elif config.nodes.provider == "hosts":
        findings.append(judge_coordinator(config))
    return [*findings, *(finding for group in await asyncio.gather(*groups) for finding in group)]


async def _of_ec2(config: Config, who: Identity) -> Checks:
    async with _account(config) as account:
        findings = [*await _within(ACCOUNT, "region", account_checks.region(account)), *instances.settings(config)]
        if any(finding.state == "failure" for finding in findings if finding.check == "region"):
            return findings
        try:
            kinds = await instances.kinds(account, config)
            of_kinds = instances.of_kinds(config, kinds)
        except TilefleetError as error:
            kinds, of_kinds = {}, [of_error("instances", "types", error)]
        of_image, image = await instances.of_image(account, config) if kinds else ([], None)
        groups = [
            _within(ACCOUNT, "permissions", account_checks.permissions(account, config, who)),
            _within(ACCOUNT, "quotas", account_checks.capacity(account, config, kinds)),
            _within("instances", "keys", instances.keys(account, config)),
            _within("instances", "instance profile", instances.profiles(account, config)),
            _within("instances", "price", instances.price(account, config)),
        ]
        if image is not None:
            groups.append(_within(ACCOUNT, "calls", account_checks.dry_runs(account, config, image.id)))
        asked = [finding for group in await asyncio.gather(*groups) for finding in group]
        return [*findings, *of_kinds, *of_image, *asked]


@asynccontextmanager
async def _account(config: Config) -> AsyncIterator[Account]:
    account = Account(config)
    try:
        yield account
    finally:
        await account.close()


async def _within(area: str, check: str, asking: Awaitable[Checks], deadline_s: float = DEADLINE_S) -> Checks:
    try:
        async with asyncio.timeout(deadline_s):
            return await asking
    except TilefleetError as error:
        return [of_error(area, check, error)]
    except TimeoutError:
        return [failure(area, check, f"no answer within {deadline_s:.0f} s", "check the network, and try again")]


def _is_without_aws(config: Config) -> bool:
    """Whether nothing of this configuration is AWS's own: machines of yours, a store and queues of your own."""
    has_own_store = bool(config.store.endpoint_url) or config.store.url.startswith("file:")
    return config.nodes.provider != "ec2" and has_own_store and bool(config.queues.endpoint_url)
