"""The policies of config/iam grant what the code calls, to who calls it, on one fleet's things, and nothing else.

docs/api-calls.toml is the table between: the calls in it are those of the source, and its actions are those of the policies.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from coordinator.fleet import policies
from coordinator.fleet.policies import PolicyFacts, facts_of, policy, use_only
from coordinator.fleet.setup.release import pack
from tests.unit.fleet.calls import ROOT, made, operations
from tilefleet.config import parse
from tilefleet.errors import BadConfig

NO_CALLS = {"purge_queue": "only tests empty a queue"}
TABLE: dict[str, dict[str, dict[str, Any]]] = tomllib.loads((ROOT / "docs/api-calls.toml").read_text(encoding="utf-8"))
AWS_SERVICES = set(TABLE) - {"objects", "agent"}  # obstore's calls and those of an agent of AWS's are not in our source
OBSTORE = {  # methods of obstore → operations in the table
    "get_async": "GetObject", "get_range_async": "GetObject", "get_ranges_async": "GetObject", "head_async": "HeadObject",
    "put_async": "PutObject", "open_writer_async": "MultipartUpload", "list": "ListObjectsV2",
    "list_with_delimiter_async": "ListObjectsV2", "delete_async": "DeleteObjects",
}  # fmt: skip
FACTS = PolicyFacts("lab", "123456789012", "eu-west-3", "tiles", "work/", is_ssm=True)
LONGEST = PolicyFacts("f" * 40, "123456789012", "ap-southeast-1", "b" * 63, "tilefleet/")


def in_table(*who: str) -> set[str]:
    """The IAM actions of everybody among ``who``."""
    calls = (call for service in TABLE.values() for call in service.values())
    return {action for call in calls if set(who) & call.keys() for action in call["actions"]}


def facts_at(url: str, region: str = "eu-west-3") -> PolicyFacts:
    """Facts of a configuration with that store."""
    text = f'[fleet]\nname = "lab"\nkind = "remote"\n[store]\nurl = "{url}"\nregion = "{region}"\n[queues]\nregion = "{region}"\n'
    config, mistakes = parse(text)
    assert mistakes == []
    return facts_of(config, "123456789012")


def statements(name: policies.PolicyName, facts: PolicyFacts = FACTS) -> list[dict[str, Any]]:
    return list(policy(name, facts)["Statement"])


def actions(found: list[dict[str, Any]]) -> set[str]:
    return {action for one in found for action in listed(one["Action"])}


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def size(document: dict[str, Any]) -> int:
    return len(json.dumps(document, separators=(",", ":")))


# ---- the code and the table


def test_every_call_in_the_code_is_in_the_table_and_the_other_way_round() -> None:
    of_service = operations()
    called = {(service, name) for name in made().keys() - NO_CALLS.keys() for service in of_service[name]}
    named = {(service, name) for service in AWS_SERVICES for name in TABLE[service]}
    assert sorted(called - named) == [], "calls that nobody documented"
    assert sorted(named - called) == [], "documented calls that nobody makes"


def test_a_call_that_is_new_is_seen() -> None:
    source = 'from tilefleet import aws\nasync def f(a): await a.call("ec2", "reboot_instances"); await a.x.delete_vpc()\n'
    from tests.unit.fleet.calls import is_adapter, named_in

    assert is_adapter(source)
    assert {"reboot_instances", "delete_vpc"} <= set(named_in(source)) & operations().keys()


def test_obstores_methods_are_known() -> None:
    used = set()
    for module in ("store", "reading", "writing"):
        tree = ast.parse((ROOT / "tilefleet" / f"{module}.py").read_text(encoding="utf-8"))
        used |= {
            node.func.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "obstore"
        }
    assert used - OBSTORE.keys() == set()
    assert {OBSTORE[name] for name in used} <= TABLE["objects"].keys()


def test_workers_call_no_more_than_the_store_and_the_queues() -> None:
    modules = {module for where in made().values() for module in where}
    assert not {module for module in modules if module.startswith("workerd.")}


# ---- the table and the policies


def test_a_node_is_granted_what_it_calls_and_nothing_else() -> None:
    assert actions(statements("node")) == in_table("node")


def test_a_coordinator_is_granted_what_it_calls_and_nothing_else() -> None:
    assert actions(statements("coordinator")) == in_table("coordinator")


def test_a_client_is_granted_what_it_calls_and_nothing_else() -> None:
    assert actions(statements("client")) == in_table("use", "fleet", "coordinator")


def test_who_only_uses_a_fleet_needs_the_statements_that_say_so() -> None:
    use, fleet = use_only(policy("client", FACTS), is_use=True), use_only(policy("client", FACTS), is_use=False)
    assert actions(use["Statement"]) == in_table("use")
    assert len(use["Statement"]) + len(fleet["Statement"]) == len(statements("client"))


def test_systems_manager_is_granted_only_where_it_is_used() -> None:
    for name in policies.NAMES:
        ssh_only = policy(name, FACTS._replace(is_ssm=False))["Statement"]
        about = {action for action in actions(ssh_only) if action.startswith(("ssm", "ec2messages"))}
        assert about <= {"ssm:GetParameter"}


# ---- whose things


@pytest.mark.parametrize("name", policies.NAMES)
def test_no_placeholder_is_left_and_every_statement_has_a_name_of_its_own(name: policies.PolicyName) -> None:
    found = statements(name)
    assert "${" not in json.dumps(found)
    assert len({one["Sid"] for one in found}) == len(found)
    assert all(re.fullmatch(r"[A-Za-z0-9]+", one["Sid"]) for one in found)
    assert {one["Effect"] for one in found} == {"Allow"}


@pytest.mark.parametrize("name", policies.NAMES)
def test_what_changes_an_instance_or_anything_else_of_ec2_must_meet_the_fleets_tag(name: policies.PolicyName) -> None:
    free = {"LaunchNodesFromWhatIsThere", "MakeInVpc"}  # images, subnets, VPCs: what nobody of ours has made
    for one in statements(name):
        changing = [each for each in listed(one["Action"]) if each.startswith("ec2:") and not each.startswith("ec2:Describe")]
        if changing and one["Sid"] not in free:
            tagged = {key: value for keys in one["Condition"].values() for key, value in keys.items() if "tilefleet:fleet" in key}
            assert list(tagged.values()) == ["lab"], one["Sid"]
    loose = [one for one in statements(name) if one["Sid"] in free]
    resources = {resource for one in loose for resource in listed(one["Resource"])}
    assert not [resource for resource in resources if resource.endswith((":instance/*", ":volume/*", ":*"))]


@pytest.mark.parametrize("name", policies.NAMES)
def test_roles_are_passed_by_name_and_to_ec2_alone(name: policies.PolicyName) -> None:
    for one in statements(name):
        if "iam:PassRole" in listed(one["Action"]):
            assert one["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
            assert set(listed(one["Resource"])) <= {
                f"arn:aws:iam::123456789012:role/{policies.role_name('lab', role)}" for role in ("node", "coordinator")
            }


def test_a_coordinator_changes_no_permissions() -> None:
    changing = [
        action for action in actions(statements("coordinator")) if re.match(r"iam:(Put|Attach|Create|Delete|Update)", action)
    ]
    assert changing == ["iam:CreateServiceLinkedRole"]


@pytest.mark.parametrize("name", policies.NAMES)
def test_actions_on_everything_are_those_that_look_or_cannot_be_narrowed(name: policies.PolicyName) -> None:
    looks = r"ec2:Describe\w+|pricing:\w+|servicequotas:Get\w+|iam:List\w+|iam:Simulate\w+|s3:ListAllMyBuckets|sqs:ListQueues"
    for one in statements(name):
        if one["Resource"] == "*" and not one["Sid"].endswith("OfSystemsManager"):
            assert [action for action in listed(one["Action"]) if not re.fullmatch(looks, action)] == [], one["Sid"]


def test_queues_and_objects_are_the_fleets() -> None:
    for name in policies.NAMES:
        for one in statements(name):
            for resource in listed(one["Resource"]):
                if resource.startswith("arn:aws:sqs:"):
                    assert resource.startswith("arn:aws:sqs:eu-west-3:123456789012:lab-")
                if resource.startswith("arn:aws:s3:::"):
                    assert resource in {"arn:aws:s3:::tiles", "arn:aws:s3:::tiles/work/*"}


def test_queues_may_be_in_another_region() -> None:
    text = json.dumps(policy("node", FACTS._replace(queues_region="eu-north-1")))
    assert "arn:aws:sqs:eu-north-1:" in text
    assert "arn:aws:sqs:eu-west-3:" not in text


def test_a_store_that_is_a_whole_bucket_may_be_listed_whole() -> None:
    facts = facts_at("s3://tiles")
    (listing,) = [one for one in policy("node", facts)["Statement"] if one["Action"] == "s3:ListBucket"]
    assert "Condition" not in listing
    (listing,) = [one for one in statements("node") if one["Action"] == "s3:ListBucket"]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": "work/*"}}


# ---- what IAM takes


@pytest.mark.parametrize("name", policies.NAMES)
def test_actions_are_written_as_aws_has_them(name: policies.PolicyName) -> None:
    session = botocore.session.Session()
    prefixes = {"servicequotas": "service-quotas", "sqs": "sqs", "ec2": "ec2", "iam": "iam", "pricing": "pricing", "ssm": "ssm"}
    own = {"iam:PassRole", "ssm:UpdateInstanceInformation"}  # a permission without a call, a call of the agent's
    for action in actions(statements(name)) - own:
        prefix, _, operation = action.partition(":")
        if prefix in prefixes:
            assert operation in session.get_service_model(prefixes[prefix]).operation_names, action


@pytest.mark.parametrize("facts", [FACTS, LONGEST])
def test_a_policy_is_not_longer_than_iam_takes(facts: PolicyFacts) -> None:
    managed, of_role = 6144, 10_240  # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    client = policy("client", facts)
    assert max(size(use_only(client, is_use=True)), size(use_only(client, is_use=False))) <= managed
    assert max(size(policy("node", facts)), size(policy("coordinator", facts))) <= of_role


@pytest.mark.parametrize(
    ("region", "partition"), [("eu-west-3", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_partitions(region: str, partition: str) -> None:
    facts = facts_at("s3://tiles/work", region)
    resources = [resource for one in policy("client", facts)["Statement"] for resource in listed(one["Resource"])]
    assert {resource.split(":")[1] for resource in resources if resource != "*"} == {partition}


def test_a_store_outside_s3_has_no_policy() -> None:
    with pytest.raises(BadConfig, match=r"store\.url: permissions are about a bucket in S3; 'file:///data' is none"):
        facts_at("file:///data")


def test_names_of_roles_are_not_longer_than_iam_takes() -> None:
    assert max(len(policies.role_name("f" * 40, role)) for role in ("node", "coordinator")) <= 64


def test_a_release_carries_the_policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path))
    with zipfile.ZipFile(pack().wheel) as wheel:
        packed = {name: wheel.read(f"coordinator/fleet/iam/{name}.json").decode() for name in policies.NAMES}
    assert packed == {name: policies.template(name) for name in policies.NAMES}
