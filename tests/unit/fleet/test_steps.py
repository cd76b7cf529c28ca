"""Steps: valid POSIX shell whatever the values are, no secret on a command line, nothing sent twice."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from coordinator.fleet.setup import steps
from coordinator.fleet.setup.inspection import Facts
from coordinator.fleet.setup.materials import Interpreter, Release, Wheelhouse
from coordinator.fleet.setup.scripts import admit, public_key, undo
from coordinator.fleet.setup.steps import SetUp, Step, Upload

HOSTILE = 'x\'; touch /tmp/owned; echo "$(id)" `id` \\'
SECRET = "AWS_SECRET_ACCESS_KEY=wJalr"  # noqa: S105
FACTS = Facts(architecture="x86_64", python="3.11", python_path="/usr/bin/python3.11", systemd=254, memory_bytes=8 * 2**30)
PLAN = SetUp("n1", f'[worker]\nname = "n1"\n# {HOSTILE}\n', environment=f"{SECRET}\n")
RELEASE = Release("0.1.0+3f9c2e71", Path("/here/tilefleet-0.1.0+3f9c2e71-py3-none-any.whl"), "c0ffee" * 10)
ARCHIVE = Path("/here/wheelhouse-0f0d0c561ce4aec3.tar")
WHEELHOUSE = Wheelhouse(
    "0f0d0c561ce4aec3" * 4, "numpy==2.4.6 --hash=sha256:00\n", ARCHIVE, "pip-26.3-py3-none-any.whl", (ARCHIVE,)
)
PIP = Path("/here/pip-26.3-py3-none-any.whl")
INDEXED = WHEELHOUSE._replace(archive=None, uploads=(PIP,))
OTHER = RELEASE._replace(version=HOSTILE, wheel=Path(f"/here/{HOSTILE}.whl"))


def all_steps(plan: SetUp, release: Release, facts: Facts = FACTS) -> list[Step]:
    interpreter = Interpreter("3.12.15", Path(f"/here/{HOSTILE}.tar.gz"), "00")
    return [
        *steps.first_steps(plan),
        steps.bring_python(plan, interpreter),
        steps.install_python(plan),
        steps.dead_man(plan, (b"script", b"service", b"timer")),
        *steps.prepare(facts, plan, release, WHEELHOUSE),
        *steps.prepare(facts._replace(python_path=HOSTILE), plan, release, INDEXED),
        steps.stop(plan, facts, release.version),
        *steps.install(facts, plan, release.version),
        *steps.roll_back(facts, plan, release.version),
        Step("undo", undo(plan.role), 1.0),
        Step("key", public_key(HOSTILE), 1.0),
        Step("admit", admit(HOSTILE), 1.0),
    ]


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
@pytest.mark.parametrize("release", [RELEASE, OTHER], ids=["usual", "hostile"])
def test_scripts_are_shell(shell: str, release: Release) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not on this machine")
    command = [shell, "sh", "-n"] if shell == "busybox" else [shell, "-n"]
    for role in ("worker", "coordinator"):
        for step in all_steps(PLAN._replace(role=role), release):
            done = subprocess.run(command, input=step.script, capture_output=True, text=True, check=False, timeout=20)
            assert (done.returncode, done.stderr) == (0, ""), step.name


def test_what_is_secret_comes_on_standard_input() -> None:
    found = {step.name for step in all_steps(PLAN, RELEASE) if SECRET.encode() in step.stdin}
    assert found == {"settings"}
    assert not [step.name for step in all_steps(PLAN, RELEASE) if SECRET in step.script]


def test_every_step_has_a_deadline_and_fits_a_command_line() -> None:
    for step in all_steps(PLAN, RELEASE):
        assert step.deadline_s > 0
        assert len(step.script.encode()) < 128 * 1024, step.name  # MAX_ARG_STRLEN: the transport passes it to sh -c


def test_a_bare_node_gets_wheels_and_release() -> None:
    packages, _ = steps.prepare(FACTS, PLAN, RELEASE, WHEELHOUSE)
    assert packages.uploads == (
        Upload(ARCHIVE, f"/var/cache/tilefleet/{ARCHIVE.name}"),
        Upload(RELEASE.wheel, f"/var/cache/tilefleet/{RELEASE.wheel.name}"),
    )


@pytest.mark.parametrize(
    ("facts", "sent"),
    [
        (FACTS._replace(releases=(RELEASE.version,)), []),
        (FACTS._replace(releases=("0.1.0+older",), wheelhouses=(WHEELHOUSE.digest,)), [RELEASE.wheel]),
        (FACTS._replace(uploads=("wheels-0f0d0c561ce4aec3",)), [RELEASE.wheel]),
        (FACTS._replace(releases=("0.1.0+older",), wheelhouses=("00",)), [ARCHIVE, RELEASE.wheel]),
    ],
    ids=["installed", "same dependencies", "unpacked before", "other dependencies"],
)
def test_only_what_is_missing_is_sent(facts: Facts, sent: list[Path]) -> None:
    packages, _ = steps.prepare(facts, PLAN, RELEASE, WHEELHOUSE)
    assert [upload.local for upload in packages.uploads] == sent


def test_nodes_with_an_index_get_pip_and_the_release() -> None:
    packages, _ = steps.prepare(FACTS, PLAN, RELEASE, INDEXED)
    assert [upload.local for upload in packages.uploads] == [PIP, RELEASE.wheel]
    assert "--require-hashes" in packages.script
    assert "--no-index" not in packages.script


def test_what_changes_a_daemon_changes_its_stamp() -> None:
    def script(plan: SetUp, facts: Facts = FACTS, release: str = RELEASE.version) -> str:
        return steps.install(facts, plan, release)[-1].script

    now = script(PLAN)
    changed = [
        script(PLAN._replace(settings="")),
        script(PLAN._replace(environment="")),
        script(PLAN._replace(memory_bytes=2**30)),
        script(PLAN._replace(drain_s=61)),
        script(PLAN, release="0.1.0+00000000"),
    ]
    assert script(PLAN) == now
    assert now not in changed


def test_limits_of_the_unit_follow_the_config() -> None:
    gib = 2**30
    assert steps.for_this_node(PLAN, FACTS) == {"TimeoutStopSec": "90", "MemoryMax": str(4 * gib + gib // 2 + gib // 4)}
    assert steps.for_this_node(PLAN._replace(memory_bytes=gib, drain_s=300), FACTS) == {
        "TimeoutStopSec": "330",
        "MemoryMax": str(gib + gib // 8 + gib // 4),
    }
    assert steps.for_this_node(PLAN._replace(role="coordinator"), FACTS) == {"TimeoutStopSec": "90"}


def test_back_off_only_where_systemd_knows_it() -> None:
    def units(systemd: int) -> str:
        return next(step.script for step in steps.install(FACTS._replace(systemd=systemd), PLAN, "r") if step.name == "units")

    assert "backoff.conf" in units(254)
    assert "backoff.conf" not in units(252)


def test_digests_of_settings_are_about_settings() -> None:
    digest = steps.settings_digest(PLAN)
    assert steps.settings_digest(PLAN._replace(step_s=1, boot_s=1)) == digest
    assert steps.settings_digest(PLAN._replace(dead_man_s=60)) != digest
    assert steps.settings_digest(PLAN._replace(role="coordinator")) != digest
