from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.cli import first_config
from coordinator.cli.main import run
from coordinator.fleet.doctor.judgements.account import learner_lab
from tilefleet.config import load, parse
from tilefleet.errors import BadInput

ROOT = Path(__file__).resolve().parents[3]
BAD = """\
[fleet]
name = "Not A Name"
colour = "red"

[local]
workers = 0
memory = "lots"

[ghosts]
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TILEFLEET_CONFIG", raising=False)


def test_config_check_reports_every_mistake_with_line_and_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(BAD)
    assert run(["config", "check", str(file)]) == 10
    lines = capsys.readouterr().out.splitlines()
    found = [line.removeprefix(f"{file}:").split(": ")[0:2] for line in lines[:-1]]
    assert found == [["2", "fleet.name"], ["3", "fleet.colour"], ["6", "local.workers"], ["7", "local.memory"], ["9", "ghosts"]]
    assert "allowed are name, kind" in lines[1]
    assert lines[-1] == "5 mistakes"


def test_config_check_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(BAD)
    assert run(["config", "check", str(file), "--json"]) == 10
    document = json.loads(capsys.readouterr().out)
    assert document["is_valid"] is False
    assert [mistake["line"] for mistake in document["mistakes"]] == [2, 3, 6, 7, 9]


def test_config_check_of_what_is_no_toml_or_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("[fleet\nname = 1\n")
    assert run(["config", "check", str(file)]) == 10
    assert "not TOML" in capsys.readouterr().out
    assert run(["config", "check", "absent.toml"]) == 10
    assert capsys.readouterr().err == "tilefleet: there is no config file absent.toml; write one with 'tilefleet init'\n"


@pytest.mark.parametrize("kind", first_config.KINDS)
def test_init_writes_what_config_check_accepts(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", f"--{kind}", "--yes", "-o", "my.toml"]) == 0
    assert run(["config", "check", "my.toml"]) == 0
    config = load(tmp_path / "my.toml")
    assert config.fleet.kind == ("local" if kind == "local" else "remote")
    assert "#" in (tmp_path / "my.toml").read_text()
    assert "wrote my.toml" in capsys.readouterr().out


def test_init_refuses_to_replace_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tilefleet.toml").write_text("precious")
    assert run(["init", "--yes"]) == 11
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "tilefleet.toml").read_text() == "precious"
    assert run(["init", "--yes", "--overwrite"]) == 0


def test_init_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from coordinator.cli.door import app

    answers = "hosts\nlab-7\n10.0.0.1, ubuntu@10.0.0.2:2222\ns3://b/p\neu-west-1\nhttp://10.0.0.1:8333\n\n"
    result = CliRunner().invoke(app, ["init"], input=answers)
    assert result.exit_code == 0, result.output
    config = load(tmp_path / "tilefleet.toml")
    assert (config.fleet.name, config.store.url, config.queues.region) == ("lab-7", "s3://b/p", "eu-west-1")
    assert config.store.endpoint_url == "http://10.0.0.1:8333"
    assert config.queues.endpoint_url == ""
    assert (config.nodes.provider, config.hosts.addresses) == ("hosts", ("10.0.0.1", "ubuntu@10.0.0.2:2222"))


def test_init_of_a_fleet_in_ones_own_account_makes_and_ends_instances(tmp_path: Path) -> None:
    answers = {
        "fleet": "mine", "region": "eu-west-3", "store": "s3://b-{account}/x", "nodes": "5", "types": "c7g.large, c6g.large",
        "market": "spot-or-on-demand", "budget": "12.5",
    }  # fmt: skip
    config, mistakes = parse(first_config.annotated("aws", answers))
    assert mistakes == []
    assert (config.nodes.provider, config.nodes.count, config.nodes.max_cost_usd) == ("ec2", 5, 12.5)
    assert (config.ec2.instance_types, config.ec2.market) == (("c7g.large", "c6g.large"), "spot-or-on-demand")
    assert config.ec2.dead_man.s > 0
    assert config.ec2.lifetime.s > 0


def test_hosts_without_addresses_are_daemons_by_hand() -> None:
    config, mistakes = parse(first_config.annotated("hosts", first_config.ask("hosts", is_asking=False)))
    assert (mistakes, config.nodes.provider) == ([], "none")


def test_the_learner_labs_file_is_what_init_writes() -> None:
    text = (ROOT / "config" / "learner-lab.toml").read_text(encoding="utf-8")
    assert text == first_config.annotated("learner-lab", first_config.ask("learner-lab", is_asking=False))


def test_the_learner_labs_file_keeps_to_its_terms() -> None:
    config = load(ROOT / "config" / "learner-lab.toml")
    finding = learner_lab("arn:aws:sts::123456789012:assumed-role/voclabs/user1=me", config)
    assert finding is not None
    assert finding.state == "ok", finding
    sizes = {kind.partition(".")[2] for kind in config.ec2.instance_types}
    assert sizes <= {"nano", "micro", "small", "medium", "large"}
    assert config.nodes.count + (config.nodes.coordinator == "node") < config.ec2.max_instances
    assert (config.ec2.key_name, config.ec2.instance_profile) == ("vockey", "LabInstanceProfile")
    assert resolved_by_hand(config.store.url) == "s3://tilefleet-123456789012-us-east-1/lab"


def resolved_by_hand(url: str) -> str:
    return url.format(account="123456789012", region="us-east-1")


@pytest.mark.parametrize(
    "answers",
    [
        {"workers": "many", "memory": "0"},
        {"workers": "0", "memory": "0"},
        {"workers": "2", "memory": 'x"\nkind = "remote'},
        {"workers": "2", "memory": "1 parsec"},
    ],
)
def test_init_refuses_answers_that_make_no_configuration(answers: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        first_config.annotated("local", answers)


def test_config_show_prints_a_whole_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tilefleet.toml").write_text("[local]\nworkers = 5\n")
    assert run(["config", "show"]) == 0
    text = capsys.readouterr().out
    config, mistakes = parse(text)
    assert not mistakes
    assert config.local.workers == 5
    assert 'keep_results = "7 d"' in text
    assert text.startswith("# from ./tilefleet.toml\n")
    assert run(["config", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["local"]["workers"] == 5


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from tilefleet.version import __version__

    assert run(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tilefleet"] == __version__
