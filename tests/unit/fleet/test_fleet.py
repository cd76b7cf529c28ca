"""A fleet that a command opens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from coordinator.fleet.fleet import opened
from tilefleet.config import Config, FleetSection, StoreSection
from tilefleet.fleet_config import HostsSection, NodesSection
from tilefleet.store import file_url


@pytest.fixture
def unconfigured() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("unconfigured")
async def test_what_is_logged_in_a_command_is_not_among_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "state"))
    config = Config(
        fleet=FleetSection(name="demo", kind="remote"), store=StoreSection(url=file_url(tmp_path)),
        nodes=NodesSection(provider="hosts"), hosts=HostsSection(addresses=("ada@192.0.2.1",)),
    )  # fmt: skip
    log = structlog.get_logger()
    log.info("before")
    assert "before" in capsys.readouterr().out
    async with opened(config):
        log.warning("within")
    assert capsys.readouterr() == ("", "")
