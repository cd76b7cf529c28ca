"""tilefleet doctor: what an AWS account's answers mean, what IAM is asked, and what is said of instances before they exist."""

from __future__ import annotations

import re
import stat
from typing import Any

import msgspec
import pytest

from coordinator.fleet.doctor import simulation
from coordinator.fleet.doctor.findings import Finding, ok
from coordinator.fleet.doctor.judgements import account, hosts, instances, machine, services
from coordinator.fleet.doctor.judgements.instances import Kind
from coordinator.fleet.policies import PolicyFacts, policy
from tests.unit.fleet.doctored import GIB, HOST, LAPTOP, fleet, states
from tilefleet.config import Config

ROLE = "arn:aws:sts::123456789012:assumed-role/dev/me"
LAB = "arn:aws:sts::123456789012:assumed-role/voclabs/user1=me"


# ---- the account


@pytest.mark.parametrize(
    ("expires_in_s", "state"), [(None, "ok"), (7200, "ok"), (600, "warning"), (0, "failure"), (-60, "failure")]
)
def test_credentials(expires_in_s: float | None, state: str) -> None:
    found = account.credentials(ROLE, is_temporary=True, expires_in_s=expires_in_s, renewal="log in again")
    assert found.state == state


def test_the_root_user_is_warned_of() -> None:
    found = account.credentials("arn:aws:iam::123456789012:root", is_temporary=False, expires_in_s=None, renewal="")
    assert (found.state, "client.json" in found.mend) == ("warning", True)


def test_a_learner_lab_without_its_terms_is_a_failure() -> None:
    found = account.learner_lab(LAB, fleet('market = "spot"'))
    assert found is not None
    assert found.state == "failure"
    for word in ("max_instances", "market", "instance_profile"):
        assert word in found.sentence
    assert account.learner_lab(ROLE, fleet('market = "spot"')) is None
    terms = fleet('max_instances = 8\ninstance_profile = "LabInstanceProfile"')
    assert account.learner_lab(LAB, terms) == ok("AWS account", "Learner Lab", "this is one; at most 8 instances, on demand")
    over = account.learner_lab(LAB, fleet('max_instances = 9\ninstance_profile = "LabInstanceProfile"'))
    assert over is not None
    assert over.state == "failure"


def test_region() -> None:
    known = {"us-east-1": "opt-in-not-required", "ap-east-1": "not-opted-in", "eu-south-1": "opted-in"}
    assert account.region("us-east-1", known).state == "ok"
    assert account.region("eu-south-1", known).state == "ok"
    assert "enable-region" in account.region("ap-east-1", known).mend
    assert "there is no region mars-1" in account.region("mars-1", known).sentence


def test_permissions() -> None:
    assert account.permission("MakeRoles", {"iam:CreateRole": "allowed"}).state == "ok"
    found = account.permission(
        "MakeRoles", {"iam:CreateRole": "implicitDeny", "iam:TagRole": "explicitDeny", "iam:GetRole": "allowed"}
    )
    assert found.check == "may make roles"
    assert found.sentence == "not allowed: iam:CreateRole, iam:TagRole, iam:TagRole by a policy that says no"
    assert "MakeRoles of config/iam/client.json" in found.mend


@pytest.mark.parametrize(
    ("code", "state"),
    [("DryRunOperation", "ok"), ("UnauthorizedOperation", "failure"), ("VcpuLimitExceeded", "failure"), ("Other", "warning")],
)
def test_dry_runs(code: str, state: str) -> None:
    assert account.dry_run("RunInstances", code, "what it says").state == state


@pytest.mark.parametrize(
    ("kind", "market", "code"),
    [
        ("c7i.xlarge", "on-demand", "L-1216C47A"), ("t3.large", "spot", "L-34B43A08"), ("m7i-flex.large", "spot", "L-34B43A08"),
        ("g5.xlarge", "on-demand", None), ("p4d.24xlarge", "spot", None), ("inf2.xlarge", "on-demand", None),
        ("r8gd.metal-24xl", "on-demand", "L-1216C47A"), ("u-6tb1.metal", "on-demand", None), ("x2gd.large", "on-demand", None),
    ],
)  # fmt: skip
def test_which_quota_counts(kind: str, market: str, code: str | None) -> None:
    assert account.quota_code(kind, market) == code


def test_quota() -> None:
    assert account.quota(32, 16, 16, "on-demand").state == "ok"
    over = account.quota(32, 20, 16, "on-demand")
    assert (over.state, over.sentence) == ("failure", "quota 32, 20 in use, 16 wanted: only 12 more fit")
    assert "--quota-code L-1216C47A --desired-value 36" in over.mend
    assert account.quota(None, 0, 1, "spot").state == "skipped"


def test_the_cap_counts_what_is_there_and_what_is_wanted() -> None:
    assert account.instance_cap(8, 4, 4).state == "ok"
    assert account.instance_cap(8, 5, 4).state == "failure"
    assert account.instance_cap(0, 500, 4).state == "ok"


# ---- what IAM is asked

FACTS = PolicyFacts("lab", "123456789012", "eu-west-3", "tiles", "work/")


@pytest.mark.parametrize(
    ("arn", "principal"),
    [
        (ROLE, "arn:aws:iam::123456789012:role/dev"),
        ("arn:aws:iam::123456789012:user/ops/me", "arn:aws:iam::123456789012:user/ops/me"),
        ("arn:aws:iam::123456789012:root", None),
        ("arn:aws:sts::123456789012:federated-user/me", None),
    ],
)
def test_whose_permissions_are_simulated(arn: str, principal: str | None) -> None:
    assert simulation.principal(arn) == principal


def test_each_statement_is_a_question_in_which_it_would_hold() -> None:
    questions = {one.sid: one.parameters for one in simulation.questions(policy("client", FACTS), "arn", makes_roles=True)}
    ending = questions["EndStopAndStartNodes"]
    assert ending["ContextEntries"] == [
        {"ContextKeyName": "aws:ResourceTag/tilefleet:fleet", "ContextKeyValues": ["lab"], "ContextKeyType": "string"}
    ]
    assert ending["ResourceArns"] == ["arn:aws:ec2:eu-west-3:*:instance/*".replace("*", simulation.EXAMPLE)]
    assert questions["UseListOfStore"]["ContextEntries"][0]["ContextKeyValues"] == ["work/tilefleet-doctor"]
    assert "MakeRoles" in questions
    assert not [sid for sid, one in questions.items() if "ec2:RunInstances" in one["ActionNames"]]


def test_with_a_profile_that_is_given_nobody_asks_about_roles() -> None:
    sids = {one.sid for one in simulation.questions(policy("client", FACTS), "arn", makes_roles=False)}
    assert "MakeRoles" not in sids
    assert "UseStore" in sids


def test_the_worst_decision_over_all_resources_counts() -> None:
    results: list[dict[str, Any]] = [
        {"EvalActionName": "a:A", "EvalDecision": "allowed"},
        {
            "EvalActionName": "a:B",
            "EvalDecision": "allowed",
            "ResourceSpecificResults": [{"EvalResourceDecision": "implicitDeny"}],
        },
        {"EvalActionName": "a:C", "EvalDecision": "explicitDeny"},
    ]
    assert simulation.decisions(results) == {"a:A": "allowed", "a:B": "implicitDeny", "a:C": "explicitDeny"}


# ---- instances

C7I = Kind("c7i.xlarge", 4, 8 * GIB, ("x86_64",))
C7G = Kind("c7g.xlarge", 4, 8 * GIB, ("arm64",))
OLD = Kind("t2.nano", 1, GIB // 2, ("i386", "x86_64"))


def test_types_exist_and_boot_one_image() -> None:
    config = fleet('instance_types = ["c7i.xlarge", "c7g.xlarge"]')
    assert instances.types(config, {"c7i.xlarge": C7I, "c7g.xlarge": C7G}).state == "failure"
    assert instances.types(config, {}).sentence == "the region has none of c7i.xlarge, c7g.xlarge"
    assert instances.types(config, {"c7i.xlarge": C7I}).sentence == "the region has no c7g.xlarge"
    both = fleet('instance_types = ["c7i.xlarge", "t2.nano"]')
    assert instances.types(both, {"c7i.xlarge": C7I, "t2.nano": OLD}).state == "ok"


def test_memory_of_the_smallest_type() -> None:
    assert instances.memory(fleet(), [C7I]).state == "ok"
    assert instances.memory(fleet(), [C7I, OLD]).state == "failure"
    assert instances.memory(fleet('[worker]\nmemory = "8 GiB"'), [C7I]).state == "failure"
    assert instances.memory(fleet('[worker]\nmemory = "6 GiB"'), [C7I]).state == "ok"


def test_volume() -> None:
    assert instances.volume(fleet()).state == "ok"
    assert instances.volume(fleet('volume = "2 GiB"')).state == "failure"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["ok", "ok"]),
        ('dead_man = "0 s"', ["warning", "ok"]),
        ('lifetime = "0 s"', ["ok", "warning"]),
        ('lifetime = "30 d"', ["ok", "warning"]),
    ],
)
def test_what_ends_the_costs_by_itself(text: str, expected: list[str]) -> None:
    assert states(instances.switches(fleet(text))) == expected


def test_where_the_coordinator_runs() -> None:
    here = instances.coordinator(fleet())
    assert (here.state, "30 m" in here.sentence) == ("warning", True)
    there = fleet('[nodes]\nprovider = "ec2"\ncoordinator = "node"')
    assert instances.coordinator(there).state == "ok"


def test_price_says_where_it_is_from() -> None:
    found = instances.price(0.17, "bundled table of 2026-11-01", 4, "c5.xlarge", "on-demand")
    assert found.sentence == "c5.xlarge on-demand: $0.17 an hour each, $0.68 for 4 (bundled table of 2026-11-01)"
    assert instances.price(None, "", 4, "z9.huge", "on-demand").state == "warning"


@pytest.mark.parametrize(
    ("mode", "state"),
    [(None, "failure"), (stat.S_IFREG | 0o600, "ok"), (stat.S_IFREG | 0o400, "ok"), (stat.S_IFREG | 0o644, "failure"),
     (stat.S_IFDIR | 0o700, "failure")],
)  # fmt: skip
def test_key_file(mode: int | None, state: str) -> None:
    found = instances.key_file("~/.ssh/labsuser.pem", mode)
    assert found.state == state
    if mode == stat.S_IFREG | 0o644:
        assert found.mend == "chmod 600 ~/.ssh/labsuser.pem"


def test_key_pair() -> None:
    assert instances.key_pair(fleet(), None).state == "ok"
    named = fleet('key_name = "vockey"\n[ssh]\nkey_file = "~/.ssh/labsuser.pem"')
    assert [instances.key_pair(named, is_there).state for is_there in (True, False, None)] == ["ok", "failure", "skipped"]
    assert instances.key_pair(fleet('key_name = "vockey"'), True).state == "failure"


def test_budget() -> None:
    limited = fleet('[nodes]\nprovider = "ec2"\nmax_cost_usd = 20\nmax_hours = 2.5')
    assert instances.budget(limited).sentence == "the fleet ends after $20 or 2 h 30 m"
    assert instances.budget(fleet()).state == "ok"


# ---- all of them


def test_whatever_is_not_well_says_what_to_do_and_no_sentence_ends_like_one() -> None:
    bad: list[Finding] = [
        machine.python((3, 9, 0)), machine.disk(LAPTOP._replace(free_disk_bytes=0)), machine.blas(()), machine.open_files(9),
        services.clock(9999), services.service("S3", "x", (), None), services.service("S3", "x", ("a",), None),
        services.leader("9", "1", 0, 2), services.nodes(["9"], "1"), account.region("x", {}), account.quota(1, 1, 1, "spot"),
        account.instance_cap(1, 1, 1), account.permission("MakeRoles", {"a:A": "implicitDeny"}),
        account.dry_run("RunInstances", "UnauthorizedOperation", ""), instances.types(fleet(), {}),
        instances.memory(fleet(), [OLD]), instances.price(None, "", 1, "x", "spot"), instances.key_file("k", None),
        instances.key_pair(fleet('key_name = "k"'), True),
        *hosts.judge("h", HOST._replace(has_systemd=False, memory_bytes=0, free_disk_bytes=0, offset_s=1e6), Config()),
    ]  # fmt: skip
    assert {finding.state for finding in bad} == {"failure", "warning"}
    for finding in bad:
        assert finding.mend, finding
        assert not re.search(r"[.!]$", finding.sentence), finding
        assert msgspec.json.decode(msgspec.json.encode(finding), type=Finding) == finding
