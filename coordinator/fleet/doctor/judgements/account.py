"""What an AWS account says: who we are, the region, permissions, quotas, how many instances it has."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.fleet.doctor.findings import Finding, failure, ok, skipped, warning
from tilefleet.config import Config
from tilefleet.quantities import format_seconds

AREA = "AWS account"
LAB_CAP = 8  # a Learner Lab is deactivated at 20 instances and allows 9 at a time
SOON_S = 30 * 60.0
_QUOTAS = {"on-demand": "L-1216C47A", "spot": "L-34B43A08"}  # vCPUs of standard families, by market
_STANDARD_FAMILIES = {"a", "c", "d", "h", "i", "m", "r", "t", "z", "im", "is"}  # as the quota's name lists them


def credentials(arn: str, *, is_temporary: bool, expires_in_s: float | None, renewal: str) -> Finding:
    """``renewal``: how these credentials are renewed. ``expires_in_s``: None where they do not say."""
    who = f"{arn}{', for a limited time' if is_temporary and expires_in_s is None else ''}"
    if expires_in_s is not None and expires_in_s <= 0:
        return failure(AREA, "credentials", f"{who}: expired {format_seconds(-expires_in_s)} ago", renewal)
    if expires_in_s is not None and expires_in_s < SOON_S:
        return warning(AREA, "credentials", f"{who}: they expire in {format_seconds(expires_in_s)}", f"then {renewal}")
    if arn.endswith(":root"):
        mend = "make an IAM user or role with config/iam/client.json and use its keys; delete the root user's"
        return warning(AREA, "credentials", f"{who}: the root user, who may do everything", mend)
    return ok(AREA, "credentials", who)


def is_learner_lab(arn: str) -> bool:
    """Whether credentials are those that an AWS Academy Learner Lab hands out."""
    return ":assumed-role/voclabs/" in arn


def learner_lab(arn: str, config: Config) -> Finding | None:
    """Whether the configuration keeps to a Learner Lab's terms; None elsewhere."""
    if not is_learner_lab(arn):
        return None
    ec2, wrong = config.ec2, []
    if not 0 < ec2.max_instances <= LAB_CAP:
        wrong.append(f"ec2.max_instances is {ec2.max_instances or 'not set'}: {LAB_CAP} at most")
    if ec2.market != "on-demand":
        wrong.append(f'ec2.market is "{ec2.market}": "on-demand" only')
    if not ec2.instance_profile:
        wrong.append('ec2.instance_profile is empty, and no role can be made: "LabInstanceProfile"')
    if wrong:
        return failure(
            AREA, "Learner Lab", "; ".join(wrong), "begin with config/learner-lab.toml; 20 instances at once end the account"
        )
    return ok(AREA, "Learner Lab", f"this is one; at most {ec2.max_instances} instances, on demand")


def region(name: str, status_by_name: Mapping[str, str]) -> Finding:
    """``status_by_name``: ``opt-in-not-required``, ``opted-in`` or ``not-opted-in``."""
    status = status_by_name.get(name)
    if status is None:
        return failure(
            AREA, "region", f"there is no region {name}", f"set ec2.region to one of {', '.join(sorted(status_by_name))}"
        )
    if status == "not-opted-in":
        mend = f"enable it in the console (Account, AWS Regions), or: aws account enable-region --region-name {name}"
        return failure(AREA, "region", f"{name} is not enabled in this account", mend)
    return ok(AREA, "region", name)


def permission(sid: str, decisions: Mapping[str, str]) -> Finding:
    """One statement of the client's policy, as IAM's simulation decides its actions: allowed, implicitDeny, explicitDeny."""
    check = f"may {_in_words(sid)}"
    denied = sorted(action for action, decision in decisions.items() if decision != "allowed")
    if not denied:
        return ok(AREA, check, f"{len(decisions)} action{'s' if len(decisions) != 1 else ''} allowed")
    explicit = [action for action in denied if decisions[action] == "explicitDeny"]
    why = f", {', '.join(explicit)} by a policy that says no" if explicit else ""
    mend = f"let an administrator attach the statement {sid} of config/iam/client.json (docs/reference/iam.md)"
    return failure(AREA, check, f"not allowed: {', '.join(denied)}{why}", mend)


def dry_run(action: str, code: str, said: str) -> Finding:
    """What EC2 answers to a call that it is told not to carry out."""
    check = f"may {action}"
    if code == "DryRunOperation":
        return ok(AREA, check, "EC2 would do it")
    if code == "UnauthorizedOperation":
        mend = f"let an administrator allow ec2:{action} (config/iam/client.json)"
        return failure(AREA, check, "EC2 would refuse it: not allowed", mend)
    if code == "VcpuLimitExceeded":
        return failure(AREA, check, "EC2 would refuse it: the vCPU quota is used up", "end instances, or ask for a higher quota")
    return warning(AREA, check, f"EC2 does not say: {said}", "mend what it names; fleet up would meet it too")


def quota_code(kind: str, market: str) -> str | None:
    """Which service quota an instance type counts against; None for families that have one of their own."""
    family = kind[: next((i for i, sign in enumerate(kind) if not sign.isalpha()), len(kind))]
    return _QUOTAS["spot" if market == "spot" else "on-demand"] if family in _STANDARD_FAMILIES else None


def quota(limit: float | None, used: int, wanted: int, market: str) -> Finding:
    """vCPUs of an account in a region: of its quota (None: not known), in use now, and still to be launched."""
    check = f"{market} vCPUs"
    if limit is None:
        return skipped(AREA, check, "the quota could not be asked for (servicequotas:GetServiceQuota)")
    has = f"quota {limit:.0f}, {used} in use, {wanted} wanted"
    if used + wanted <= limit:
        return ok(AREA, check, has)
    free = max(0, int(limit) - used)
    code = _QUOTAS["spot" if market == "spot" else "on-demand"]
    mend = (
        f"want fewer nodes or smaller types, or ask for more (free, takes hours): aws service-quotas "
        f"request-service-quota-increase --service-code ec2 --quota-code {code} --desired-value {used + wanted}"
    )
    return failure(AREA, check, f"{has}: only {free} more fit", mend)


def instance_cap(cap: int, present: int, wanted: int) -> Finding:
    """``present``: instances of the account in the region that are not gone, ours or not; ``wanted``: still to be launched."""
    has = f"{present} in the region, {wanted} more wanted"
    if not cap:
        return ok(AREA, "instances", f"{has}, no cap set")
    if present + wanted > cap:
        mend = "want fewer nodes, or end what is not needed (tilefleet fleet gc finds what fleets left behind)"
        return failure(AREA, "instances", f"{has}: over ec2.max_instances = {cap}", mend)
    return ok(AREA, "instances", f"{has}, at most {cap} (ec2.max_instances)")


def _in_words(sid: str) -> str:
    """``MakeSecurityGroup`` → ``make security group``."""
    return "".join(f" {sign.lower()}" if sign.isupper() else sign for sign in sid).strip()
