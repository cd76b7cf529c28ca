"""Configuration: every mistake at once with its line, and examples that are true."""

from __future__ import annotations

import importlib.util
import tomllib
import typing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefleet.config import Config, Mistake, load, parse
from tilefleet.errors import BadConfig

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ("local", "coordinator", "workerd", "fleet", "hosts")


def _all_keys() -> dict[str, object]:
    sections = msgspec.structs.asdict(Config())
    return {
        f"{name}.{key}": list(value) if isinstance(value, tuple) else value
        for name, section in sections.items()
        for key, value in msgspec.structs.asdict(section).items()
    }


def _keys_in(text: str) -> dict[str, object]:
    return {f"{section}.{key}": value for section, keys in tomllib.loads(text).items() for key, value in keys.items()}


def test_an_empty_file_is_the_default() -> None:
    assert parse("") == (Config(), [])


def test_values_have_their_units() -> None:
    config, mistakes = parse('[worker]\nmemory = "600 MiB"\nheartbeat = "1.5 s"\n')
    assert mistakes == []
    assert (config.worker.memory.bytes, config.worker.heartbeat.s) == (629145600, 1.5)


def test_all_mistakes_are_told_at_once_with_line_key_and_what_is_allowed() -> None:
    text = """\
[fleet]
name = "Not A Name"
colour = "red"

[worker]
memory = "much"
"cores" = -1
heartbeat = 5
drain = "5 parsecs"

[cluster]
size = 3

[queues]
max_receives = 1000
lease = "30 s"
"""
    config, mistakes = parse(text)
    assert config == Config()
    assert [(mistake.line, mistake.key) for mistake in mistakes] == [
        (2, "fleet.name"), (3, "fleet.colour"), (6, "worker.memory"), (7, "worker.cores"), (8, "worker.heartbeat"),
        (9, "worker.drain"), (11, "cluster"), (15, "queues.max_receives"),
    ]  # fmt: skip
    problems = {mistake.key: mistake.problem for mistake in mistakes}
    assert "allowed are name, kind, keep_results" in problems["fleet.colour"]
    assert "'much' is not a size" in problems["worker.memory"]
    assert problems["worker.cores"] == "must be a whole number, 0 to 1024; got -1"
    assert "allowed are fleet, store, queues" in problems["cluster"]
    assert "write a number and a unit" in problems["worker.heartbeat"]
    assert "a–z, 0–9 and -" in problems["fleet.name"]


EC2 = '[fleet]\nkind = "remote"\n[nodes]\nprovider = "ec2"\n'


@pytest.mark.parametrize("url", ["s3://b-{account}-{region}/Team é_1/x.y+z=a:b@c", "s3://b"])
def test_a_store_whose_url_may_be_a_tag_will_do_for_ec2(url: str) -> None:
    assert parse(f'[store]\nurl = "{url}"\n{EC2}')[1] == []


def test_elsewhere_than_on_ec2_the_store_is_no_tag() -> None:
    assert parse('[store]\nurl = "s3://b/it\'s(mine)"\n')[1] == []


@pytest.mark.parametrize(
    ("text", "line", "key", "problem"),
    [
        ('[fleet]\nkind = "remote"\n', 2, "store.url", "is required when fleet.kind"),
        ('[store]\nurl = "ftp://x/y"\n', 2, "store.url", "must begin with s3:// or file:///"),
        (f'[store]\nurl = "s3://b/it\'s*(mine)!"\n{EC2}', 2, "store.url", "AWS takes no ' * ( ) ! there"),
        ('[queues]\nendpoint_url = "localhost:5000"\n', 2, "queues.endpoint_url", "must begin with http"),
        ('[queues]\nlease = "1 h"\n', 2, "queues.lease", "must be between 10 s and 120 s"),
        ('[worker]\nheartbeat = "10 s"\n', 2, "coordinator.worker_silence", "at least twice worker.heartbeat"),
        ('[coordinator]\nworker_silence = "5 s"\n', 2, "coordinator.worker_silence", "at least twice worker.heartbeat"),
        ('[worker]\nheartbeat = "0 s"\n', 2, "worker.heartbeat", "must be longer than 0"),
        ('[coordinator]\nbeacon = "0 ms"\n', 2, "coordinator.beacon", "must be longer than 0"),
        ('[store]\ntimeout = "0 s"\n', 2, "store.timeout", "must be longer than 0"),
    ],
)
def test_impossible_values_are_told_where_they_stand(text: str, line: int, key: str, problem: str) -> None:
    _, mistakes = parse(text)
    assert [(mistake.line, mistake.key) for mistake in mistakes] == [(line, key)]
    assert problem in mistakes[0].problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '[worker]\nname = "two words"\n',
            "must be text of at most 255 letters, digits and signs, without blanks; got 'two words'",
        ),
        ("[worker]\ncores = 1.5\n", "must be a whole number, 0 to 1024; got 1.5"),
        ("[store]\nurl = 7\n", "must be text in quotes; got 7"),
        ('[store]\nallow_local_files = "yes"\n', "must be true or false; got 'yes'"),
        ('[fleet]\nkind = "near"\n', 'must be "local" or "remote"; got \'near\''),
        ('[fleet]\nname = "a\\n"\n', "must be 1–40 of a–z, 0–9 and -, the first not a -; got 'a\\n'"),
    ],
)
def test_what_a_key_takes_is_said_in_plain_words(text: str, problem: str) -> None:
    _, [mistake] = parse(text)
    assert (mistake.line, mistake.problem) == (2, problem)


def test_contradictions_are_told_together_with_other_mistakes() -> None:
    _, mistakes = parse('[fleet]\nkind = "remote"\n[worker]\ncores = -1\n')
    assert [mistake.key for mistake in mistakes] == ["store.url", "worker.cores"]


@pytest.mark.parametrize(
    ("more", "mistaken"),
    [("", ["ec2.ssh_from"]), ('ssh_from = "10.0.0.0/16"\n', []), ('security_group = "sg-1"\n', [])],
)
def test_who_comes_to_private_addresses_is_said(more: str, mistaken: list[str]) -> None:
    text = '[fleet]\nkind = "remote"\n[store]\nurl = "s3://b/p"\n[nodes]\nprovider = "ec2"\n[ec2]\naddress = "private"\n'
    _, mistakes = parse(text + more)
    assert [mistake.key for mistake in mistakes] == mistaken


def test_what_is_not_toml_says_where() -> None:
    _, mistakes = parse("[fleet]\nname = \n")
    assert [(mistake.line, mistake.key) for mistake in mistakes] == [(2, "")]
    assert "not TOML" in mistakes[0].problem


@pytest.mark.parametrize("text", ["fleet = 3\n", "[[fleet]]\nname = 'x'\n"])
def test_a_section_that_is_none(text: str) -> None:
    assert parse(text)[1] == [Mistake(1, "fleet", "must be a section: write [fleet]")]


@pytest.mark.parametrize(
    "text",
    [
        'fleet.name = "X Y"\n',
        'fleet = {name = "X Y"}\n',
        '[fleet]\n name="X Y"',
        '[ "fleet" ]\n"name" = "X Y"',
        "[fleet] # c\nname='X Y'",
    ],
)
def test_lines_are_found_however_the_key_is_written(text: str) -> None:
    (mistake,) = parse(text)[1]
    assert (mistake.line, mistake.key) == (len(text.splitlines()), "fleet.name")


def test_a_file_is_loaded_or_refused_with_path_and_line(tmp_path: Path) -> None:
    path = tmp_path / "tilefleet.toml"
    with pytest.raises(BadConfig, match=r"there is no config file .*tilefleet init"):
        load(path)
    with pytest.raises(BadConfig, match="cannot be read"):
        load(tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadConfig, match="cannot be read"):
        load(path)
    path.write_text("[fleet]\nname = 'a b'\n[log]\nlevel = 'loud'\n")
    with pytest.raises(BadConfig) as caught:
        load(path)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{path}:2: fleet.name: ")
    assert second.startswith(f"{path}:4: log.level: ")
    path.write_text("[fleet]\nname = 'ab'\n")
    assert load(path).fleet.name == "ab"


@given(st.text())
def test_no_text_crashes_the_parser(text: str) -> None:
    config, mistakes = parse(text)
    assert isinstance(config, Config)
    assert not mistakes or config == Config()


@given(
    st.sampled_from(sorted(_all_keys())),
    st.sampled_from(["-1", "0", "''", "'x'", "[1]", "{a=1}", "1.5", "true", "1979-05-27", "nan", "'9 s'"]),
)
def test_any_value_under_any_key_loads_or_is_refused(key: str, value: str) -> None:
    section, name = key.split(".")
    config, mistakes = parse(f"[{section}]\n{name} = {value}\n")
    assert all(mistake.line == 2 for mistake in mistakes)
    assert mistakes or isinstance(config, Config)


# ---- examples and reference -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_loads_and_shows_the_defaults_where_it_says_so(name: str) -> None:
    path = ROOT / "config" / f"{name}.toml"
    load(path)
    text = path.read_text(encoding="utf-8")
    own = {line.split(" = ")[0] for line in text.splitlines() if line.endswith("# (yours)")}
    shown = _keys_in(text)
    changed = {key for key, value in shown.items() if value != _all_keys()[key]}
    assert {key.split(".")[1] for key in changed} <= own
    assert (name == "local") == (not own)


def test_the_examples_show_every_key() -> None:
    texts = [(ROOT / "config" / f"{name}.toml").read_text(encoding="utf-8") for name in EXAMPLES]
    assert {key for text in texts for key in _keys_in(text)} == set(_all_keys())


def test_generated_files_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate: typing.Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for path, text in generate.generated().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path} is out of date: run make docs"


def test_every_key_says_what_it_means() -> None:
    reference = (ROOT / "docs" / "reference" / "config.md").read_text(encoding="utf-8")
    rows = [row.strip("| ").split(" | ") for row in reference.splitlines() if row.startswith("| `")]
    assert len(rows) == len(_all_keys())
    assert all(len(row) == 4 and len(row[3]) > 20 for row in rows)
