from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.cli import first_config
from coordinator.cli.main import run
from tilefleet.config import load, parse
from tilefleet.errors import BadInput

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

    answers = "hosts\nlab-7\ns3://b/p\neu-west-1\nhttp://10.0.0.1:8333\n\n"
    result = CliRunner().invoke(app, ["init"], input=answers)
    assert result.exit_code == 0, result.output
    config = load(tmp_path / "tilefleet.toml")
    assert (config.fleet.name, config.store.url, config.queues.region) == ("lab-7", "s3://b/p", "eu-west-1")
    assert config.store.endpoint_url == "http://10.0.0.1:8333"
    assert config.queues.endpoint_url == ""


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
