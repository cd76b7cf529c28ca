"""Every AWS call that the code makes, found in its source: names of operations of the services, as attributes or texts.

The rule: better one name too many than one too few; what is no call is left out by hand, in ``NOT_CALLS``, with its reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import botocore.session
from botocore import xform_name

ROOT = Path(__file__).resolve().parents[3]
SERVICES = ("ec2", "iam", "pricing", "s3", "service-quotas", "sqs", "ssm", "sts")
PACKAGES = ("tilefleet", "coordinator", "workerd")


def operations() -> dict[str, set[str]]:
    """Services by the name of an operation: ``describe_instances`` → {"ec2"}."""
    found: dict[str, set[str]] = {}
    session = botocore.session.Session()
    for service in SERVICES:
        for name in session.get_service_model(service).operation_names:
            found.setdefault(xform_name(name), set()).add(service)
    return found


def named_in(source: str) -> Iterator[str]:
    """Every attribute and every text of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def is_adapter(source: str) -> bool:
    """Whether a module speaks to AWS: through tilefleet.aws, or through the account of coordinator.fleet.ec2."""
    words = ("tilefleet.aws", "tilefleet import aws", "ec2.account import", "_sqs.")
    return any(word in source for word in words)


def made() -> dict[str, set[str]]:
    """Modules by the calls they make."""
    known = operations()
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if is_adapter(source):
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                for name in set(named_in(source)) & known.keys():
                    found.setdefault(name, set()).add(module)
    return found
