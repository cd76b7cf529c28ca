"""The stand-in for AWS at an address of the nodes' network: ``python -m tests.nodes.cloud ADDRESS [--ready-file FILE]``.

The rule: it is the embedded deployment's own program (SQS, S3, EC2, … for one access key) at another address than loopback;
nobody outside this machine reaches that address.
"""

from __future__ import annotations

import sys

from coordinator.runtime import standin


def main() -> None:
    standin.HOST = sys.argv.pop(1)
    standin.main()


if __name__ == "__main__":
    main()
