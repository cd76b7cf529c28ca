"""The stand-in for AWS at an address of the nodes' network: ``python -m tests.nodes.cloud ADDRESS [--ready-file FILE]``.

The rule: it is the embedded deployment's own program (SQS, S3, EC2, … for one access key) at another address than loopback;
nobody outside this machine reaches that address. The public addresses that its instances get are of the same network, and so
a node of ours can be booted at each.
"""

from __future__ import annotations

import itertools
import sys
from ipaddress import ip_address

from coordinator.runtime import standin

FIRST, LAST = 101, 250  # nodes without an instance have those below


def main() -> None:
    standin.HOST = sys.argv.pop(1)
    _give_addresses_of(standin.HOST)
    standin.main()


def _give_addresses_of(host: str) -> None:
    from moto.ec2.models import elastic_network_interfaces

    network = int(ip_address(host)) & ~0xFF
    addresses = itertools.cycle(str(ip_address(network + number)) for number in range(FIRST, LAST + 1))
    vars(elastic_network_interfaces)["random_public_ip"] = lambda: next(addresses)


if __name__ == "__main__":
    main()
