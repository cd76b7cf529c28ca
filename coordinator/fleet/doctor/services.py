"""Network, clock, store and queues, asked over the wire; and the fleet that may be running already."""

from __future__ import annotations

import asyncio
import os
import time
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from coordinator.fleet.doctor.findings import Finding, failure, of_error, ok, warning
from coordinator.fleet.doctor.judgements import services as judge
from coordinator.fleet.setup.release import pack
from coordinator.runtime.leadership import last_beacon
from tilefleet import aws
from tilefleet.config import Config
from tilefleet.errors import NotAllowed, NotFound, TilefleetError
from tilefleet.ids import encode
from tilefleet.quantities import format_seconds
from tilefleet.sqs import SqsQueues
from tilefleet.store import Stores
from tilefleet.version import __version__

CONNECT_S = 5.0
SHOWN = {"s3": "S3", "sqs": "SQS", "sts": "STS", "ec2": "EC2", "ssm": "Systems Manager", "iam": "IAM"}


class Endpoint(NamedTuple):
    """Where a service is spoken to."""

    name: str
    url: str


async def endpoints(config: Config) -> list[Endpoint]:
    """Those that this configuration needs, each address once."""
    region, own = aws.region_of(config.ec2.region, config.store.region), config.ec2.endpoint_url
    wanted = {"sqs": (aws.region_of(config.queues.region), config.queues.endpoint_url)}
    if config.store.url.startswith("s3://"):
        wanted["s3"] = (aws.region_of(config.store.region), config.store.endpoint_url)
    if config.nodes.provider == "ec2":
        wanted |= dict.fromkeys(("sts", "ec2", "ssm"), (region, own))
        if not config.ec2.instance_profile:
            wanted["iam"] = (region, own)
    found: dict[str, str] = {}
    for service, (where, url) in wanted.items():
        async with aws.client(service, region=where, endpoint_url=url) as client:
            found.setdefault(client.meta.endpoint_url, service)
    return [Endpoint(SHOWN[service], url) for url, service in found.items()]


async def network(config: Config) -> list[Finding]:
    """Whether each service can be reached, and whether our clocks agree."""
    places = await endpoints(config)
    findings = await asyncio.gather(*(_reached(place) for place in places))
    offsets = await asyncio.gather(*(_clock_offset(place.url) for place in places))
    known = [offset for offset in offsets if offset is not None]
    return [*findings, judge.clock(min(known, key=abs) if known else None)]


async def _reached(place: Endpoint) -> Finding:
    parts = urlsplit(place.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return ok(judge.AREA, place.name, f"{host} by way of a proxy")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_S):
            found = await loop.getaddrinfo(host, port, type=1)  # SOCK_STREAM
    except (OSError, TimeoutError):
        return judge.service(place.name, host, (), None)
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    began = time.monotonic()
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return judge.service(place.name, host, addresses, None, f"no answer within {CONNECT_S:.0f} s")
    except OSError as error:
        return judge.service(place.name, host, addresses, None, (error.strerror or str(error)).lower())
    connect_s = time.monotonic() - began
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    return judge.service(place.name, host, addresses, connect_s)


async def _clock_offset(url: str) -> float | None:
    """How far our clock is ahead of that server's, by the date in its answer to anything; to the second."""

    def ask() -> float | None:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - https or http of the configuration
        began = time.time()
        try:
            with urllib.request.urlopen(request, timeout=CONNECT_S) as answer:  # noqa: S310 - as above
                headers = answer.headers
        except urllib.error.HTTPError as error:
            headers = error.headers
            error.close()
        except (OSError, ValueError):
            return None
        return _offset(headers.get("Date"), began, time.time())

    return await asyncio.to_thread(ask)


def _offset(date: str | None, began: float, ended: float) -> float | None:
    """The header is cut to whole seconds: what fits between them counts as none."""
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return None
    return began - theirs - 1 if began > theirs + 1 else min(0.0, ended - theirs)


async def store(config: Config) -> list[Finding]:
    """List, create, read, refuse to create again, and remove one small object."""
    area, here = "store", config.store.url
    place = Stores(config.store).open(here)
    key = f"probe-{encode(os.urandom(8), 8)}"
    began = time.monotonic()
    try:
        await place.folders("")
        listed_s = time.monotonic() - began
        began = time.monotonic()
        await place.put_new(key, b"tilefleet doctor")
        put_s = time.monotonic() - began
        try:
            is_new = await place.put_new(key, b"again")
            text = bytes(await place.get(key))
        finally:
            await place.delete([key])
    except NotFound as error:
        if "bucket" in str(error) and config.nodes.provider == "ec2":
            return [ok(area, "bucket", f"{here}: none yet; fleet up makes it")]
        return [of_error(area, "bucket", error)]
    except TilefleetError as error:
        return [of_error(area, "bucket", error)]
    if is_new or text != b"tilefleet doctor":
        mend = "use AWS, or a store that knows If-None-Match (SeaweedFS, MinIO, moto)"
        return [failure(area, "bucket", f"{here} lets an object be created twice: results could be mixed", mend)]
    took = f"listing {format_seconds(listed_s)}, writing {format_seconds(put_s)}"
    return [ok(area, "bucket", f"{here}: may be listed, written, read and cleaned; {took}")]


async def queues(config: Config) -> list[Finding]:
    """Whether the three queues are there."""
    missing = []
    makes_them = "fleet up" if config.nodes.provider != "none" else "the coordinator"
    async with SqsQueues(config.queues, config.fleet.name) as found:
        for queue in (found.operations, found.jobs, found.completions):
            try:
                await queue.url()
            except NotFound:
                missing.append(queue.name)
            except NotAllowed as error:
                return [of_error("queues", queue.name, error)]
    return [judge.queues(config.fleet.name, missing, makes_them=makes_them)]


async def fleet(config: Config) -> list[Finding]:
    """Versions of a fleet that is up, by its leader's beacon."""
    place = Stores(config.store).open(config.store.url)
    try:
        control = await last_beacon(place)
    except NotFound:
        control = None
    except TilefleetError as error:
        return [warning("fleet", "coordinator", f"its beacon cannot be read: {error}", "mend the store first")]
    if control is None or not control.leader:
        return [ok("fleet", "coordinator", "none has led yet")]
    silent_s = time.time() - control.at
    led = judge.leader(control.version, __version__, silent_s, config.coordinator.beacon.s)
    if led.state == "skipped":
        return [led]
    wanted = (await asyncio.to_thread(pack)).version
    return [led, judge.nodes([worker.version for worker in control.workers], wanted)]
