"""tilefleet doctor against the stand-in over the wire: it finds what is wrong, launches nothing and leaves nothing behind."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest

from coordinator.cli.main import run
from coordinator.fleet.doctor import account as account_checks
from coordinator.fleet.doctor.examination import examine
from coordinator.fleet.doctor.findings import Finding
from coordinator.fleet.ec2.account import Account
from tests.conftest import Server
from tilefleet.account import Identity
from tilefleet.config import Config, parse

ME = Identity("123456789012", "arn:aws:sts::123456789012:assumed-role/dev/me")


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))


def text_of(endpoint_url: str, name: str, *, store: str = "s3://tiles-{account}/lab", ec2: str = "", nodes: str = "") -> str:
    return (
        f'[fleet]\nname = "{name}"\nkind = "remote"\n'
        f'[nodes]\nprovider = "ec2"\n{nodes}\n'
        f'[store]\nurl = "{store}"\nendpoint_url = "{endpoint_url}"\n[queues]\nendpoint_url = "{endpoint_url}"\n'
        f'[ec2]\nendpoint_url = "{endpoint_url}"\n{ec2}\n'
        + ("" if "instance_types" in ec2 else 'instance_types = ["c5.xlarge", "m5.xlarge"]\n')
    )


def config_of(text: str) -> Config:
    config, mistakes = parse(text)
    assert mistakes == []
    return config


def found(findings: list[Finding], check: str) -> Finding:
    (one,) = [finding for finding in findings if finding.check == check]
    return one


def failures(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: f"{finding.sentence} → {finding.mend}" for finding in findings if finding.state == "failure"}


@contextmanager
def client(server: Server, service: str) -> Iterator[Any]:
    opened = boto3.client(service, endpoint_url=server.endpoint_url, region_name="us-east-1")
    try:
        yield opened
    finally:
        opened.close()


def instances_of(server: Server) -> int:
    with client(server, "ec2") as ec2:
        return sum(len(one["Instances"]) for one in ec2.describe_instances()["Reservations"])


# ---- all is well


async def test_a_fleet_that_can_be_made_has_no_failures_and_nothing_is_made(moto_server: Server, fleet: str) -> None:
    before = instances_of(moto_server)
    findings = await examine(config_of(text_of(moto_server.endpoint_url, fleet)))
    assert failures(findings) == {}
    assert found(findings, "may RunInstances").state == "ok"
    assert found(findings, "may CreateSecurityGroup").state == "ok"
    assert found(findings, "bucket").sentence == "s3://tiles-123456789012/lab: none yet; fleet up makes it"
    assert found(findings, "queues").sentence == "none yet; fleet up makes them"
    assert found(findings, "price").sentence.startswith("c5.xlarge on-demand: $")
    assert found(findings, "clock").state == "ok"
    assert found(findings, "SQS").state == "ok"
    assert instances_of(moto_server) == before
    with client(moto_server, "sqs") as sqs:
        assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix=fleet)


@pytest.mark.thorough
async def test_a_store_is_tried_and_left_as_it_was(moto_server: Server, fleet: str) -> None:
    bucket = moto_server.new_bucket()
    with client(moto_server, "s3") as s3:
        s3.put_object(Bucket=bucket, Key="lab/mine", Body=b"precious")
        findings = await examine(config_of(text_of(moto_server.endpoint_url, fleet, store=f"s3://{bucket}/lab")))
        assert found(findings, "bucket").sentence.startswith(f"s3://{bucket}/lab: may be listed, written, read and cleaned")
        assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["lab/mine"]


@pytest.mark.thorough
async def test_where_the_fleet_has_made_its_queues_they_are_found(moto_server: Server, fleet: str) -> None:
    with client(moto_server, "sqs") as sqs:
        for which in ("operations", "jobs", "completions"):
            sqs.create_queue(QueueName=f"{fleet}-{which}")
    findings = await examine(config_of(text_of(moto_server.endpoint_url, fleet)))
    assert found(findings, "queues").sentence == f"{fleet}-operations, -jobs, -completions are there"


def test_the_command(
    moto_server: Server, fleet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(text_of(moto_server.endpoint_url, fleet))
    assert run(["--config", str(file), "doctor"]) == 0
    assert "✓ may RunInstances" in capsys.readouterr().out
    file.write_text(text_of(moto_server.endpoint_url, fleet, ec2='instance_types = ["z9.huge"]'))
    assert run(["--config", str(file), "doctor", "--json"]) == 14
    document = json.loads(capsys.readouterr().out)
    assert document["is_healthy"] is False
    assert [one["check"] for one in document["findings"] if one["state"] == "failure"] == ["types"]


def test_the_command_without_a_configuration(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert run(["doctor", "--json"]) == 0
    areas = {one["area"] for one in json.loads(capsys.readouterr().out)["findings"]}
    assert areas == {"this machine"}


@pytest.mark.parametrize(("who", "sid"), [("use", "UseStore"), ("fleet", "MakeRoles"), ("node", "TakeJobs")])
def test_the_policies_of_a_configuration(
    who: str, sid: str, moto_server: Server, fleet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(text_of(moto_server.endpoint_url, fleet))
    assert run(["--config", str(file), "doctor", "--policy", who]) == 0
    policy = json.loads(capsys.readouterr().out)
    assert sid in [one["Sid"] for one in policy["Statement"]]
    assert "tiles-123456789012" in json.dumps(policy) or who == "fleet"


# ---- what is wrong is found


@pytest.mark.parametrize(
    ("ec2", "check", "says"),
    [
        ('instance_types = ["z9.huge"]', "types", "the region has none of z9.huge"),
        ('instance_types = ["c5.xlarge", "c6g.xlarge"]', "types", "c6g.xlarge is arm64"),
        (
            'instance_profile = "Absent"',
            "instance profile",
            "profile Absent does not exist → mend ec2.instance_profile",
        ),
        ('key_name = "absent"', "key pair", "EC2 has no key pair absent in this region"),
        ('image = "ami-00000000000000000"', "image", "the image ami-00000000000000000 does not exist"),
        ('region = "mars-north-1"', "region", "there is no region mars-north-1"),
        ('volume = "2 GiB"', "volume", "system and tilefleet take 4 GiB"),
    ],
)
@pytest.mark.thorough
async def test_what_would_not_launch(ec2: str, check: str, says: str, moto_server: Server, fleet: str) -> None:
    findings = await examine(config_of(text_of(moto_server.endpoint_url, fleet, ec2=ec2)))
    assert says in failures(findings)[check]


@pytest.mark.thorough
async def test_the_cap_counts_instances_of_others(moto_server: Server, fleet: str) -> None:
    with client(moto_server, "ec2") as ec2:
        image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        made = ec2.run_instances(ImageId=image, InstanceType="t2.nano", MinCount=3, MaxCount=3)["Instances"]
        try:
            config = config_of(text_of(moto_server.endpoint_url, fleet, ec2="max_instances = 3", nodes="count = 1"))
            assert "over ec2.max_instances = 3" in failures(await examine(config))["instances"]
        finally:
            ec2.terminate_instances(InstanceIds=[one["InstanceId"] for one in made])


async def test_a_key_file_that_others_can_read(moto_server: Server, fleet: str, tmp_path: Path) -> None:
    (tmp_path / "labsuser.pem").write_text("secret")
    (tmp_path / "labsuser.pem").chmod(0o644)
    text = text_of(moto_server.endpoint_url, fleet) + '[ssh]\nkey_file = "~/labsuser.pem"\n'
    findings = await examine(config_of(text))
    assert "chmod 600 ~/labsuser.pem" in failures(findings)["key file"]
    (tmp_path / "labsuser.pem").chmod(0o600)
    assert "key file" not in failures(await examine(config_of(text)))


async def test_credentials_that_are_refused_stop_the_questions_that_need_them(
    moto_server: Server, fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SOMEBODYELSE")
    findings = await examine(config_of(text_of(moto_server.endpoint_url, fleet)))
    assert list(failures(findings)) == ["credentials"]
    assert {finding.check for finding in findings if finding.area == "AWS account"} == {"credentials"}
    assert found(findings, "clock").state == "ok"


async def test_a_bucket_that_must_be_there(moto_server: Server, fleet: str) -> None:
    text = text_of(moto_server.endpoint_url, fleet, store="s3://no-such-bucket-here/x").replace('provider = "ec2"', "")
    assert "does not exist" in failures(await examine(config_of(text)))["bucket"]


async def test_a_service_at_an_address_where_nobody_is(fleet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        findings = await examine(config_of(text_of(f"http://127.0.0.1:{taken.getsockname()[1]}", fleet)))
    assert "takes no connection" in failures(findings)["SQS"]
    assert "credentials" in failures(findings)
    assert found(findings, "clock").state == "skipped"


async def test_a_name_that_does_not_resolve(fleet: str) -> None:
    findings = await examine(config_of(text_of("http://nowhere.invalid:80", fleet)))
    assert "the name nowhere.invalid does not resolve" in failures(findings)["SQS"]


# ---- machines of one's own


def hosts_of(server: Server, name: str, bucket: str, address: str) -> Config:
    return config_of(
        text_of(server.endpoint_url, name, store=f"s3://{bucket}/lab").replace('"ec2"', '"hosts"')
        + f'[hosts]\naddresses = ["{address}"]\n[ssh]\nconnect = "1 s"\n'
    )


async def test_a_machine_whose_host_key_is_not_known(moto_server: Server, fleet: str, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text("")
    findings = await examine(hosts_of(moto_server, fleet, moto_server.new_bucket(), "127.0.0.1"))
    assert "no unknown one is ever accepted" in failures(findings)["127.0.0.1"]


async def test_without_known_hosts_it_says_how_to_make_it(moto_server: Server, fleet: str) -> None:
    findings = await examine(hosts_of(moto_server, fleet, moto_server.new_bucket(), "127.0.0.1"))
    assert "connect to each once by hand with ssh" in failures(findings)["127.0.0.1"]


async def test_an_address_that_is_none(moto_server: Server, fleet: str) -> None:
    findings = await examine(hosts_of(moto_server, fleet, moto_server.new_bucket(), "-oProxyCommand=x"))
    assert "is no address" in failures(findings)["addresses"]


# ---- what the stand-in cannot answer: recorded, in AWS's documented shape

SIMULATED = """<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">
<SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>{}</EvaluationResults>
</SimulatePrincipalPolicyResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></SimulatePrincipalPolicyResponse>"""
RESULT = """<member><EvalActionName>{}</EvalActionName><EvalResourceName>*</EvalResourceName><EvalDecision>{}</EvalDecision>
<MatchedStatements/><MissingContextValues/></member>"""
QUOTA = {
    "Quota": {
        "ServiceCode": "ec2", "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)", "QuotaCode": "L-1216C47A",
        "QuotaName": "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", "Value": 32.0, "Unit": "None",
        "Adjustable": True, "GlobalQuota": False,
    }
}  # fmt: skip


@contextmanager
def recorded(*denied: str) -> Iterator[str]:
    """Answers SimulatePrincipalPolicy and GetServiceQuota.

    https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
    https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/API_GetServiceQuota.html
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if "X-Amz-Target" in self.headers:
                assert json.loads(text) == {"ServiceCode": "ec2", "QuotaCode": "L-1216C47A"}
                self._answer(json.dumps(QUOTA), "application/x-amz-json-1.1")
                return
            asked = parse_qs(text)
            assert asked["PolicySourceArn"] == ["arn:aws:iam::123456789012:role/dev"]
            actions = [values[0] for key, values in asked.items() if key.startswith("ActionNames.member.")]
            results = [RESULT.format(action, "implicitDeny" if action in denied else "allowed") for action in actions]
            self._answer(SIMULATED.format("".join(results)), "text/xml")

        def _answer(self, text: str, kind: str) -> None:
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def permissions(url: str) -> list[Finding]:
    config = config_of(text_of(url, "lab", store="s3://tiles/lab"))
    account = Account(config)
    try:
        return await account_checks.permissions(account, config, ME)
    finally:
        await account.close()


async def test_permissions_that_iam_says_are_there() -> None:
    with recorded() as url:
        findings = await permissions(url)
    assert len(findings) > 10
    assert {finding.state for finding in findings} == {"ok"}


async def test_a_permission_that_is_missing_is_named_with_its_statement() -> None:
    with recorded("iam:PutRolePolicy", "sqs:CreateQueue") as url:
        findings = await permissions(url)
    assert failures(findings) == {
        "may make queues": "not allowed: sqs:CreateQueue → let an administrator attach the statement MakeQueues of "
        "config/iam/client.json (docs/reference/iam.md)",
        "may make roles": "not allowed: iam:PutRolePolicy → let an administrator attach the statement MakeRoles of "
        "config/iam/client.json (docs/reference/iam.md)",
    }


async def test_a_quota_is_read() -> None:
    with recorded() as url:
        config = config_of(text_of(url, "lab", store="s3://tiles/lab"))
        assert await account_checks.quota(Account(config), config, "L-1216C47A") == 32.0
