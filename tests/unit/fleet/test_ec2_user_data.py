"""What an instance does at its first boot: a script that a shell accepts, that fits, and that says nothing secret."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from coordinator.fleet.ec2 import first_boot, publish_host_keys, template, user_data
from coordinator.fleet.ec2.images import Image
from tilefleet.config import Config, FleetSection, StoreSection
from tilefleet.fleet_config import Ec2Section, NodesSection

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8xQ3m5l0b0m2cZ1 tilefleet demo"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKeepersKeyOnANode99 tilefleet demo"
PUBLISH = Path(publish_host_keys.__file__)
CONFIG = Config(
    fleet=FleetSection(name="demo", kind="remote"),
    store=StoreSection(url="s3://a.bucket/some/where", region="eu-central-1"),
    nodes=NodesSection(provider="ec2"),
)


def _script() -> str:
    return first_boot.script(CONFIG, "eu-central-1", "ec2-user", [KEY, OTHER])


def test_it_fits_with_room_to_spare() -> None:
    assert len(_script().encode()) < template.MAX_USER_DATA_BYTES * 0.8


@pytest.mark.parametrize("shell", ["sh", "bash", "dash"])
def test_shells_can_read_it(shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} here")
    done = subprocess.run([program, "-n"], input=_script(), text=True, capture_output=True, check=False, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")


def test_shellcheck_finds_nothing() -> None:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("there is no shellcheck here: apt-get install shellcheck")
    done = subprocess.run([program, "-s", "sh", "-"], input=_script(), text=True, capture_output=True, check=False, timeout=20)
    assert done.stdout == ""


def test_the_dead_man_switch_comes_before_everything_that_may_fail() -> None:
    script = _script()
    switch = script.index("systemctl enable --now tilefleet-deadman.timer")
    assert switch < script.index("authorize '") < script.index("python3 - ")
    assert "DEAD_MAN_S=1800\nLIFETIME_S=86400\n" in script


def test_no_switch_where_both_times_are_never() -> None:
    ec2 = Ec2Section(dead_man=type(CONFIG.ec2.dead_man)("0 s"), lifetime=type(CONFIG.ec2.lifetime)("0 s"))
    config = Config(fleet=CONFIG.fleet, store=CONFIG.store, nodes=CONFIG.nodes, ec2=ec2)
    assert "deadman" not in first_boot.script(config, "eu-central-1", "admin", [KEY])


def test_host_keys_go_where_the_coordinator_looks_for_them() -> None:
    assert "https://s3.eu-central-1.amazonaws.com/a.bucket/some/where/fleet/hostkeys eu-central-1 " in _script()


def test_a_boot_that_cannot_publish_them_is_no_failed_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_data, "PUBLISH_FOR_S", 0)
    host_keys = user_data.HostKeys("http://127.0.0.1:9/bucket", "us-east-1", PUBLISH.read_text(encoding="utf-8"))
    script = user_data.render("root", [], [], [], host_keys, metadata_url="http://127.0.0.1:9")
    part = script[script.index("python3 - ") :]
    done = subprocess.run(["sh"], input=part, text=True, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, "cloud-init would report an error, and the keys on the console would be of no use"
    assert "the host keys are not published yet" in done.stderr


def test_keys_of_other_machines_are_carried_on() -> None:
    assert user_data.authorized_in(_script()) == [KEY, OTHER]
    again = user_data.merged([KEY], user_data.authorized_in(_script()))
    assert first_boot.script(CONFIG, "eu-central-1", "ec2-user", again) == first_boot.script(
        CONFIG, "eu-central-1", "ec2-user", user_data.merged([OTHER], [KEY])
    )


@pytest.mark.parametrize("key", ["", "ssh-ed25519", "ssh-ed25519 AAAA'; reboot; '", f"{KEY}\nreboot", "command=x ssh-rsa AAAA"])
def test_what_is_no_public_key_does_not_get_into_a_shell(key: str) -> None:
    with pytest.raises(ValueError, match="is not a public key"):
        first_boot.script(CONFIG, "eu-central-1", "ec2-user", [key])


def test_a_file_cannot_end_early() -> None:
    program = user_data.HostKeys("https://x/y", "us-east-1", "pass\n")
    bad = user_data.File("/etc/x", "644", "one\nEND_OF_TILEFLEET_FILE\nreboot\n")
    with pytest.raises(ValueError, match="END_OF_TILEFLEET_FILE"):
        user_data.render("root", [], [bad], [], program)


def test_the_authorizing_part_does_it_once_for_the_user(tmp_path: Path) -> None:
    lines = first_boot.script(CONFIG, "eu-central-1", "somebody", [KEY, OTHER]).splitlines()
    part = "\n".join(
        lines[lines.index("user=somebody") : [n for n, line in enumerate(lines) if line.startswith("authorize '")][-1] + 1]
    )
    home = tmp_path / "home"
    home.mkdir()
    fakes = f'getent() {{ echo "somebody:x:1000:1000::{home}:/bin/sh"; }}\nchown() {{ :; }}\n'
    for _ in range(2):
        done = subprocess.run(["sh", "-eu"], input=fakes + part, text=True, capture_output=True, check=False, timeout=20)
        assert (done.returncode, done.stderr) == (0, "")
    keys = home / ".ssh" / "authorized_keys"
    assert keys.read_text(encoding="ascii").splitlines() == [KEY, OTHER]
    assert (keys.stat().st_mode & 0o777, keys.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_the_template_asks_for_what_security_wants() -> None:
    image = Image("ami-1", "ec2-user", "x86_64", "/dev/xvda", 16)
    data = template.data(CONFIG, image, "sg-1", _script())
    assert data["MetadataOptions"] == {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert data["BlockDeviceMappings"][0]["Ebs"] == {
        "VolumeSize": 16, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True,
    }  # fmt: skip
    assert "KeyName" not in data
    assert template.digest(data) == template.digest(dict(reversed(data.items()))) != template.digest({**data, "ImageId": "ami-2"})
