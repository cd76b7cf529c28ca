"""tilefleet doctor: how findings are shown, and the judgements of this machine, the network and machines of one's own."""

from __future__ import annotations

import pytest

from coordinator.cli.doctor import as_text, document, summary
from coordinator.fleet.doctor.findings import failure, is_healthy, of_error, ok, skipped, warning
from coordinator.fleet.doctor.judgements import hosts, machine, services
from coordinator.fleet.doctor.judgements.hosts import Host
from tests.unit.fleet.doctored import GIB, HOST, LAPTOP, fleet, states
from tilefleet.config import Config
from tilefleet.errors import NotAllowed

# ---- findings


def test_only_failures_are_unhealthy() -> None:
    fine = [ok("a", "b", "c"), warning("a", "b", "c", "d"), skipped("a", "b", "c")]
    assert is_healthy(fine)
    assert not is_healthy([*fine, failure("a", "b", "c", "d")])


def test_an_error_of_ours_is_parted_into_what_and_what_to_do() -> None:
    found = of_error("store", "bucket", NotAllowed("no permission for s3://b; check the IAM policy"))
    assert (found.state, found.sentence, found.mend) == ("failure", "no permission for s3://b", "check the IAM policy")
    assert of_error("a", "b", NotAllowed("no way out of this one")).mend


def test_the_list_is_aligned_and_says_what_to_do_below() -> None:
    text = as_text(
        [ok("network", "S3", "near"), failure("network", "clock", "an hour off", "set it"), ok("store", "bucket", "there")]
    )
    assert text.splitlines() == [
        "network",
        "  ✓ S3      near",
        "  ✗ clock   an hour off",
        "            → set it",
        "",
        "store",
        "  ✓ bucket  there",
        "",
        "1 failure, 3 checks in all",
    ]
    assert summary([ok("a", "b", "c")]) == "1 check, all well"


def test_the_document_has_every_finding() -> None:
    found = document("fleet.toml", [warning("a", "b", "c", "d")])
    assert found == {
        "config": "fleet.toml",
        "is_healthy": True,
        "findings": [{"area": "a", "check": "b", "state": "warning", "sentence": "c", "mend": "d"}],
    }


# ---- this machine


@pytest.mark.parametrize(
    ("changes", "config", "state"),
    [
        ({}, Config(), "ok"),
        ({"worker_bytes": 7 * GIB, "free_memory_bytes": 15 * GIB}, Config(), "ok"),
        ({"worker_bytes": 5 * GIB}, Config(), "warning"),
        ({"worker_bytes": 8 * GIB}, Config(), "failure"),
        ({"worker_bytes": GIB // 4}, Config(), "failure"),
        ({"worker_bytes": 8 * GIB}, fleet(), "ok"),  # they are not here
        ({"free_memory_bytes": GIB // 8}, fleet(), "warning"),
    ],
)
def test_memory(changes: dict[str, int], config: Config, state: str) -> None:
    assert machine.memory(config, LAPTOP._replace(**changes)).state == state  # type: ignore[arg-type]


@pytest.mark.parametrize(("free_gib", "state"), [(50, "ok"), (1, "warning"), (0.1, "failure")])
def test_disk(free_gib: float, state: str) -> None:
    assert machine.disk(LAPTOP._replace(free_disk_bytes=int(free_gib * GIB))).state == state


def test_python_and_open_files_and_blas() -> None:
    assert machine.python((3, 11, 0)).state == "ok"
    assert machine.python((3, 10, 9)).state == "failure"
    assert machine.open_files(0).state == "ok"
    assert machine.open_files(64).mend == "say: ulimit -n 1024"
    assert machine.blas(("openblas 0.3",)).sentence == "openblas 0.3"
    assert machine.blas(()).state == "warning"


def test_packages_are_there_and_new_enough() -> None:
    wanted = machine.requirements(["numpy>=2.1", 'moto[server]>=5.1; extra == "local"', "zarr>=3.0.8", "rich"])
    assert wanted == {"numpy": "2.1", "zarr": "3.0.8", "rich": "0"}
    assert machine.packages(wanted, {"numpy": "2.10.0", "zarr": "3.1.0rc1", "rich": "13.0"}).state == "ok"
    found = machine.packages(wanted, {"numpy": "2.0.9", "zarr": None, "rich": "1"})
    assert (found.state, found.sentence) == ("failure", "zarr is missing; numpy 2.0.9 is older than 2.1")


# ---- network


@pytest.mark.parametrize(
    ("offset_s", "state"),
    [
        (0, "ok"),
        (-1.4, "ok"),
        (30, "ok"),
        (61, "warning"),
        (-299, "warning"),
        (300, "failure"),
        (-4000, "failure"),
        (None, "skipped"),
    ],
)
def test_clock(offset_s: float | None, state: str) -> None:
    assert services.clock(offset_s).state == state


def test_the_clock_says_in_which_direction() -> None:
    assert "ahead of AWS's" in services.clock(400).sentence
    assert "behind AWS's" in services.clock(-400).sentence


def test_a_service_that_cannot_be_reached_says_where_it_broke() -> None:
    assert "does not resolve" in services.service("S3", "s3.nowhere", (), None).sentence
    refused = services.service("S3", "s3.x", ("192.0.2.1",), None, "connection refused")
    assert refused.sentence == "s3.x (192.0.2.1) takes no connection: connection refused"
    assert services.service("S3", "s3.x", ("192.0.2.1",), 0.04).state == "ok"
    assert services.service("S3", "s3.x", ("192.0.2.1",), 0.7).state == "warning"


def test_queues_that_are_missing_are_made() -> None:
    assert services.queues("lab", [], makes_them="fleet up").state == "ok"
    assert services.queues("lab", ["a", "b", "c"], makes_them="fleet up").sentence == "none yet; fleet up makes them"
    assert services.queues("lab", ["lab-jobs"], makes_them="the coordinator").state == "warning"


def test_versions_of_a_fleet() -> None:
    assert services.leader("0.1.0", "0.1.0+3f9c2e71", 3, 2).state == "ok"
    assert services.leader("0.2.0", "0.1.0", 3, 2).state == "warning"
    assert services.leader("0.2.0", "0.1.0", 3000, 2).state == "skipped"
    assert services.nodes(["0.1.0+a", "0.1.0+a"], "0.1.0+a").state == "ok"
    mixed = services.nodes(["0.1.0+a", "0.1.0+b"], "0.1.0+a")
    assert (mixed.state, "fleet sync" in mixed.mend, "0.1.0+b" in mixed.sentence) == ("warning", True, True)


# ---- hosts


def test_what_a_host_says_is_read() -> None:
    expected = Host("Debian GNU/Linux 12 (bookworm)", "x86_64", 8_192_000_000, 4, 20_480_000_000, "3.11.2", True, 0.75)
    assert expected == HOST


def test_a_host_that_says_nothing_is_no_crash() -> None:
    found = hosts.parse("", asked_at=0, answered_at=0)
    assert found.offset_s == 0
    assert "failure" in states(hosts.judge("10.0.0.1", found, Config()))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["ok"]),
        ({"python": ""}, ["ok"]),  # one is brought
        ({"free_disk_bytes": GIB}, ["failure"]),
        ({"free_disk_bytes": 2 * GIB}, ["warning"]),
        ({"memory_bytes": GIB // 2}, ["failure"]),
        ({"offset_s": -400.0}, ["failure"]),
        ({"has_systemd": False}, ["failure"]),
        ({"architecture": "armv7l"}, ["failure"]),
        ({"has_systemd": False, "free_disk_bytes": 0}, ["failure", "failure"]),
    ],
)
def test_a_host_is_judged(changes: dict[str, object], expected: list[str]) -> None:
    found = hosts.judge("10.0.0.1", HOST._replace(**changes), Config())  # type: ignore[arg-type]
    assert states(found) == expected
    assert {finding.check for finding in found} == {"10.0.0.1"}


def test_worker_memory_must_fit_a_host() -> None:
    config = fleet('[worker]\nmemory = "9 GiB"')
    assert states(hosts.judge("10.0.0.1", HOST, config)) == ["failure"]
