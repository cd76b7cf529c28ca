"""The questions that a policy poses to IAM's simulation: is each of its statements granted to us? Pure.

RunInstances touches seven kinds of things at once, which simulation needs all named; EC2's own dry run is asked about it instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

NOT_SIMULATED = {"ec2:RunInstances"}
EXAMPLE = "tilefleet-doctor"
_ROLES = ("iam:",)
_OF_SESSION = re.compile(r"arn:([^:]+):sts::(\d{12}):assumed-role/([^/]+)/")


class Question(NamedTuple):
    """One call of SimulatePrincipalPolicy."""

    sid: str
    parameters: dict[str, Any]


def principal(arn: str) -> str | None:
    """Whose policies are simulated, from what GetCallerIdentity says; None for the root user and federated ones."""
    if session := _OF_SESSION.match(arn):
        return f"arn:{session[1]}:iam::{session[2]}:role/{session[3]}"
    return arn if ":user/" in arn and ":iam::" in arn else None


def questions(policy: Mapping[str, Any], source_arn: str, *, makes_roles: bool) -> list[Question]:
    """One for each statement. ``makes_roles``: whether statements about IAM alone matter here."""
    found = []
    for statement in policy["Statement"]:
        actions = [action for action in _list(statement["Action"]) if action not in NOT_SIMULATED]
        is_about_roles = all(action.startswith(_ROLES) for action in actions)
        if actions and (makes_roles or not is_about_roles):
            parameters = {
                "PolicySourceArn": source_arn,
                "ActionNames": actions,
                "ResourceArns": [_example(resource) for resource in _list(statement["Resource"])],
                "ContextEntries": _context(statement.get("Condition", {})),
            }
            found.append(Question(statement["Sid"], parameters))
    return found


def decisions(results: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The decision for each action; over several resources, the worst."""
    found = {}
    for result in results:
        each = [result["EvalDecision"], *(one["EvalResourceDecision"] for one in result.get("ResourceSpecificResults", ()))]
        found[result["EvalActionName"]] = next((one for one in ("explicitDeny", "implicitDeny") if one in each), "allowed")
    return found


def _context(conditions: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The context in which the statement would hold."""
    return [
        {"ContextKeyName": key, "ContextKeyValues": [_example(value) for value in _list(values)][:1], "ContextKeyType": "string"}
        for of_key in conditions.values()
        for key, values in of_key.items()
    ]


def _example(pattern: str) -> str:
    return pattern if pattern == "*" else pattern.replace("*", EXAMPLE)


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
