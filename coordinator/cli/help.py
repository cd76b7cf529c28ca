"""Help, as data and as text: one description of a command serves ``--help`` and docs/reference/cli.md.

Laid out by ourselves, so that it reads the same on a terminal and on a pipe, whatever the version of typer.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

EVERYWHERE = {
    "--config": "Configuration; else $TILEFLEET_CONFIG, ./tilefleet.toml, the embedded default.",
    "--json": "Print one JSON document instead of text (JSON lines where a command keeps printing).",
    "--debug": "Show the traceback of an error.",
}
WIDTH = 100
FAMILIES = ("Compute", "Matrices", "Operations", "Fleet", "Deployment", "Set-up")

EXIT_CODES = (
    (0, "done"),
    (1, "a bug in tilefleet: please report it with the traceback of --debug"),
    (2, "the command line is wrong"),
    (3, "bad input: shapes, element types, malformed files"),
    (4, "not found: a file, bucket, queue or operation"),
    (5, "not allowed: credentials absent, expired, or lacking a permission"),
    (6, "does not fit: memory or storage too small"),
    (7, "unreachable: a service did not answer; the same command may succeed later"),
    (8, "the operation was accepted and failed"),
    (9, "wrong result: a check against the operands failed"),
    (10, "bad configuration"),
    (11, "the output exists already"),
    (12, "the operation was cancelled, or a question was answered with no"),
    (13, "some nodes of the fleet are not up; the same command goes on with them"),
    (14, "tilefleet doctor: something has to be mended first"),
    (130, "interrupted with Ctrl-C"),
)


@dataclass(frozen=True)
class Entry:
    """A row of a help section."""

    name: str
    text: str


@dataclass(frozen=True)
class CommandHelp:
    """All there is to say about a command."""

    path: str
    usage: str
    text: str
    arguments: tuple[Entry, ...]
    options: tuple[Entry, ...]
    commands: tuple[tuple[str, tuple[Entry, ...]], ...]
    """(family, its commands), for groups."""
    examples: tuple[Entry, ...]

    @property
    def is_front_door(self) -> bool:
        return " " not in self.path


def describe(command: Any, path: str) -> CommandHelp:
    """The help of a typer command, from the attributes that all versions of typer and click share."""
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    arguments = [parameter for parameter in shown if parameter.param_type_name == "argument"]
    options = [parameter for parameter in shown if parameter.param_type_name == "option"]
    is_group = hasattr(command, "commands")
    words = [*(_metavar(argument) for argument in arguments), "[OPTIONS]"]
    if not command.context_settings.get("allow_interspersed_args", True):
        words = ["[OPTIONS]", *words[:-1]]  # what follows is verbatim, options included
    words = [path, *words, *(["COMMAND"] if is_group else [])]
    return CommandHelp(
        path=path,
        usage=" ".join(words),
        text=inspect.cleandoc(command.help or ""),
        arguments=tuple(Entry(_metavar(argument), argument.help or "") for argument in arguments),
        options=tuple(_option(option) for option in sorted(options, key=_is_common)),
        commands=tuple(_families(command)) if is_group else (),
        examples=tuple(Entry(*line.split("\t", 1)) for line in (command.epilog or "").splitlines()),
    )


def as_text(found: CommandHelp) -> str:
    """``--help``."""
    parts = [f"Usage: {found.usage}", textwrap.indent(_filled(found.text), "  ")]
    for title, entries in [("Arguments", found.arguments), *found.commands, ("Options", found.options)]:
        if entries:
            parts.append(f"{title}:\n" + "\n".join(_rows(entries)))
    if found.examples:
        parts.append("Examples:\n" + "\n".join(f"  {entry.name}\n      {entry.text}" for entry in found.examples))
    if found.is_front_door:
        parts.append("Exit codes:\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES))
    return "\n\n".join(parts) + "\n"


def as_markdown(found: CommandHelp) -> str:
    """One section of docs/reference/cli.md."""
    parts = [f"## {found.path}", f"```\n{found.usage}\n```", found.text]
    for title, entries in [("Argument", found.arguments), *found.commands, ("Option", found.options)]:
        if entries:
            rows = [f"| `{_cell(entry.name)}` | {_cell(entry.text)} |" for entry in entries]
            parts.append("\n".join([f"| {title} | |", "|---|---|", *rows]))
    if found.examples:
        parts.append("\n".join(["```sh", *(f"{entry.name}   # {entry.text}" for entry in found.examples), "```"]))
    return "\n\n".join(parts) + "\n"


def _option(option: Any) -> Entry:
    name = ", ".join(sorted([*option.opts, *option.secondary_opts], key=lambda name: name.startswith("--")))
    if not option.is_flag:
        name += f" {option.metavar or 'TEXT'}"
    default = getattr(option.default, "value", option.default)
    has_default = default not in (None, False, "", ()) and not callable(default) and not option.is_flag
    return Entry(name, (option.help or "") + (f" [default: {default}]" if has_default else ""))


def _metavar(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _is_common(option: Any) -> bool:
    return bool(set(option.opts) & {*EVERYWHERE, "--help", "--version", "--install-completion", "--show-completion"})


def ordered(group: Any) -> list[tuple[str, Any]]:
    """The commands of a group by name: family by family, and as they were declared within one."""
    first = {name: number for number, name in enumerate(getattr(group, "order", ()))}

    def place(item: tuple[str, Any]) -> tuple[int, int]:
        return FAMILIES.index(_family(item[1])) if _family(item[1]) else 0, first.get(item[0], len(first))

    return sorted(group.commands.items(), key=place)


def _family(command: Any) -> str:
    panel = getattr(command, "rich_help_panel", None)
    return panel if isinstance(panel, str) else ""


def _families(group: Any) -> Iterator[tuple[str, tuple[Entry, ...]]]:
    listed: dict[str, list[Entry]] = {}
    for name, command in ordered(group):
        if not command.hidden:
            summary = re.split(r"(?<=[a-zA-Z))])\.\s", inspect.cleandoc(command.help or "") + "\n")[0].replace("\n", " ")
            listed.setdefault(_family(command) or "Commands", []).append(Entry(name, summary))
    return ((title, tuple(entries)) for title, entries in listed.items())


def _rows(entries: Iterable[Entry]) -> Iterator[str]:
    entries = list(entries)
    column = min(30, max(len(entry.name) for entry in entries) + 4)
    for entry in entries:
        lines = textwrap.wrap(entry.text, WIDTH - column) or [""]
        head = f"  {entry.name}"
        if len(head) > column - 2:
            yield head
            head = ""
        yield f"{head:<{column}}{lines[0]}".rstrip()
        yield from (" " * column + line for line in lines[1:])


def _filled(text: str) -> str:
    return "\n\n".join(textwrap.fill(paragraph, WIDTH - 2) for paragraph in text.split("\n\n"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
