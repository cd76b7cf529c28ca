"""The commands about tilefleet itself: config check, config show, init, version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.door import command, family
from coordinator.cli.session import Session
from tilefleet.errors import AlreadyExists, BadConfig, NotAllowed

if TYPE_CHECKING:
    from tilefleet.config import Config, Mistake

FAMILY = "Set-up"

group = family("config", "Look at configuration files.", under=FAMILY)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A TOML file.")]
Local = Annotated[bool, typer.Option("--local", help="For the embedded deployment on this machine.")]
Aws = Annotated[bool, typer.Option("--aws", help="For instances that are made in your AWS account.")]
LearnerLab = Annotated[bool, typer.Option("--learner-lab", help="For an AWS Academy Learner Lab.")]
Hosts = Annotated[
    bool, typer.Option("--hosts", help="For machines that exist already, with any S3 and SQS (or compatible ones).")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take the proposed answers.")]
OutFile = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")]


@command("check", of=group, examples=(("tilefleet config check tilefleet.toml", "all mistakes at once, with line and key"),))
def check(session: Session, file: File) -> None:
    """Say everything that is wrong with a configuration file: line, key, and what is allowed. Exit code 10 when there is."""
    from tilefleet.config import parse

    _, mistakes = parse(_read(file))
    document = {
        "file": str(file),
        "is_valid": not mistakes,
        "mistakes": [{"line": one.line or None, "key": one.key, "problem": one.problem} for one in mistakes],
    }
    session.show(mistakes_text(file, mistakes) if mistakes else f"{file}: no mistakes", document)
    if mistakes:
        raise typer.Exit(BadConfig.exit_code)


@command("show", of=group, examples=(("tilefleet config show", "every setting in force, defaults included"),))
def show(session: Session) -> None:
    """The configuration in force, every default included, and where it comes from. Starts nothing."""
    source = session.config_source()
    config = session.config()
    session.show(f"# from {source}\n{full_toml(config)}", {"source": source, "config": _document(config)})


@command(
    "init",
    under=FAMILY,
    examples=(
        ("tilefleet init", "asks a few questions and writes ./tilefleet.toml"),
        ("tilefleet init --local --yes", "the embedded deployment, as it is without a file, to be changed"),
        ("tilefleet init --aws -o fleet.toml", "a fleet in your AWS account; tilefleet fleet up makes it"),
        ("tilefleet init --learner-lab -o lab.toml", "for an AWS Academy Learner Lab"),
    ),
)
def init(
    session: Session,
    local: Local = False,
    aws: Aws = False,
    learner_lab: LearnerLab = False,
    hosts: Hosts = False,
    yes: Yes = False,
    out: OutFile = Path("tilefleet.toml"),
    overwrite: Overwrite = False,
) -> None:
    """Write a first configuration, annotated, by asking a few questions."""
    from coordinator.cli import first_config

    kinds = {"local": local, "aws": aws, "learner-lab": learner_lab, "hosts": hosts}
    chosen = [name for name, is_chosen in kinds.items() if is_chosen]
    if len(chosen) > 1:
        raise typer.BadParameter(f"--{chosen[0]} and --{chosen[1]} exclude each other")
    if out.exists() and not overwrite:
        raise AlreadyExists(f"{out} exists already; choose another name with -o, or replace it with --overwrite")
    kind = chosen[0] if chosen else first_config.ask_kind(is_asking=not yes)
    text = first_config.annotated(kind, first_config.ask(kind, is_asking=not yes))
    _write(out, text)
    then = f"tilefleet config check {out}" if kind == "local" else f"tilefleet --config {out} doctor"
    session.show(f"wrote {out}; check it with: {then}", {"file": str(out), "kind": kind})


@command("version", under=FAMILY, examples=(("tilefleet version", "of tilefleet, Python and NumPy"),))
def version(session: Session) -> None:
    """Which versions these are."""
    import platform
    from importlib.metadata import version as installed

    from tilefleet.version import __version__

    found = {
        "tilefleet": __version__,
        "python": platform.python_version(),
        "numpy": installed("numpy"),
        "zarr": installed("zarr"),
    }
    session.show("\n".join(f"{name} {number}" for name, number in found.items()), found)


def full_toml(config: Config) -> str:
    """Every setting, whether it differs from its default or not, as TOML."""
    import json

    sections = []
    for name, section in _document(config).items():
        keys = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in section.items()]
        sections.append("\n".join([f"[{name}]", *keys]))
    return "\n\n".join(sections)


def mistakes_text(file: Path, mistakes: list[Mistake]) -> str:
    """``file:line: key: problem``, as editors understand it, and how many there are."""
    lines = [f"{file}:{one.line or 1}: {one.key + ': ' if one.key else ''}{one.problem}" for one in mistakes]
    return "\n".join([*lines, f"{len(lines)} mistake{'s' if len(lines) != 1 else ''}"])


def _document(config: Config) -> dict[str, dict[str, Any]]:
    import msgspec

    return {name: msgspec.structs.asdict(section) for name, section in msgspec.structs.asdict(config).items()}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadConfig(f"there is no config file {file}; write one with 'tilefleet init'") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"the config file {file} cannot be read: {error}") from error


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NotAllowed(f"{file} cannot be written: {error.strerror or error}; choose another place with -o") from error
