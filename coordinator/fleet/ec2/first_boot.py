"""The user data of a fleet's instances, from its configuration and from files that come with tilefleet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coordinator.fleet import policies
from coordinator.fleet.ec2 import publish_host_keys, user_data
from coordinator.fleet.ec2.bucket import place
from coordinator.fleet.setup.release import bundled
from tilefleet import aws, layout
from tilefleet.config import Config

_DEAD_MAN = "tilefleet-deadman"


def script(config: Config, region: str, user: str, authorized: Sequence[str]) -> str:
    """What ``user_data.render`` makes of it."""
    where = place(config.store.url)
    url = f"{_s3(config)}/{where.bucket}/{where.prefix}{layout.host_keys('')}".rstrip("/")
    program = Path(publish_host_keys.__file__).read_text(encoding="utf-8")
    host_keys = user_data.HostKeys(url, aws.region_of(config.store.region, region), program)
    files, units = _dead_man(config)
    return user_data.render(user, authorized, files, units, host_keys)


def _s3(config: Config) -> str:
    """Where S3 is. Path style: it also serves buckets with dots in their names, and stand-ins."""
    if config.store.endpoint_url:
        return config.store.endpoint_url.rstrip("/")
    region = aws.region_of(config.store.region)
    china = ".cn" if policies.partition_of(region) == "aws-cn" else ""
    return f"https://s3.{region}.amazonaws.com{china}"


def _dead_man(config: Config) -> tuple[list[user_data.File], list[str]]:
    """The switch: its program, its units and its times."""
    if not (config.ec2.dead_man.s or config.ec2.lifetime.s):
        return [], []
    source = bundled("systemd")
    times = f"DEAD_MAN_S={config.ec2.dead_man.s:.0f}\nLIFETIME_S={config.ec2.lifetime.s:.0f}\n"
    texts = {suffix: (source / f"{_DEAD_MAN}{suffix}").read_text(encoding="utf-8") for suffix in (".sh", ".service", ".timer")}
    files = [
        user_data.File("/etc/tilefleet/deadman.env", "644", times),
        user_data.File(f"/usr/local/sbin/{_DEAD_MAN}", "755", texts[".sh"]),
        user_data.File(f"/etc/systemd/system/{_DEAD_MAN}.service", "644", texts[".service"]),
        user_data.File(f"/etc/systemd/system/{_DEAD_MAN}.timer", "644", texts[".timer"]),
    ]
    return files, [f"{_DEAD_MAN}.timer"]
