"""Keys for the queues alone: those of an embedded deployment, whose ``AWS_*`` variables are the user's own, for S3.

The rule: they are said in the environment, never in a file or on a command line. Where they are not set, as on a fleet,
the queues are used with the AWS credentials of the environment, like everything else.
"""

from __future__ import annotations

import os

ACCESS_KEY_VARIABLE = "TILEFLEET_QUEUES_ACCESS_KEY"
SECRET_KEY_VARIABLE = "TILEFLEET_QUEUES_SECRET_KEY"  # noqa: S105 - the name of a variable


def queue_keys() -> tuple[str, str] | None:
    """Access key and secret key of the queues; None where the AWS environment has them."""
    access_key, secret_key = os.environ.get(ACCESS_KEY_VARIABLE), os.environ.get(SECRET_KEY_VARIABLE)
    return (access_key, secret_key) if access_key and secret_key else None
